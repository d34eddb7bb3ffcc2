package core_test

import (
	"context"
	"fmt"
	"log"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/testkit"
)

// A stream that runs short of memory changes its level and makes its chunks smaller.
// Here the consumer is the cause: it retains records, and releases them only when the
// level has changed.
func ExampleObserver() {
	source, err := testkit.Shop{Seed: 1, Orders: 20_000}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	observer := core.Observer{
		Level: func(e budget.Event) { fmt.Println(e.From, "->", e.To) },
		End:   func(r core.Receipt) { fmt.Println(r.Rows, "rows, within the limit:", r.PeakBytes <= r.LimitBytes) },
	}
	q, options := core.Query{Table: "orders"}, core.Options{Memory: 1 << 20}
	stream, err := core.Open(context.Background(), source, q, options, core.Resources{Observer: observer})
	if err != nil {
		log.Fatal(err)
	}
	var kept []arrow.RecordBatch
	for chunk, err := range stream.Chunks() {
		if err != nil {
			log.Fatal(err)
		}
		chunk.Record.Retain()
		kept = append(kept, chunk.Record)
		if stream.Level() != budget.Normal {
			for _, record := range kept {
				record.Release()
			}
			kept = nil
		}
	}
	// Output:
	// normal -> degraded
	// degraded -> normal
	// 20000 rows, within the limit: true
}
