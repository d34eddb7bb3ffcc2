package core_test

import (
	"context"
	"fmt"
	"log"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// A stream yields the rows of a query in chunks. A chunk is valid until the loop asks
// for the next one, and the receipt has the stream's outcome.
func ExampleOpen() {
	ctx := context.Background()
	source, err := testkit.Shop{Seed: 1, Orders: 10}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	q := core.Query{
		Table:   "orders",
		Columns: []string{"id", "status", "freight"},
		Where:   sources.Comparison{Column: "freight", Op: sources.OpLt, Value: sources.Int(100)},
	}
	stream, err := core.Open(ctx, source, q, core.Options{Memory: 64 << 20, ChunkRows: 2}, core.Resources{})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(chunk.Record.Columns())
	}
	fmt.Println(stream.Receipt().Rows, "rows, complete:", stream.Receipt().Complete)
	// Output:
	// [[3 6] ["packed" "shipped"] [12.21 44.38]]
	// [[7] ["paid"] [59.11]]
	// 3 rows, complete: true
}

// A consumer that stops early, here after its first chunk, can continue later: the
// token of the last chunk that it has processed goes into Query.After.
func ExampleOpen_resume() {
	ctx := context.Background()
	source, err := testkit.Shop{Seed: 1, Orders: 7}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	q := core.Query{Table: "orders", Columns: []string{"id"}}
	options := core.Options{ChunkRows: 3, Tokens: true}

	for run := range 2 {
		stream, err := core.Open(ctx, source, q, options, core.Resources{})
		if err != nil {
			log.Fatal(err)
		}
		for chunk, err := range stream.Chunks() {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println("run", run, "reads", chunk.Record.Column(0))
			q.After = chunk.Token
			if run == 0 {
				break // which also closes the stream
			}
		}
	}
	// Output:
	// run 0 reads [1 2 3]
	// run 1 reads [4 5 6]
	// run 1 reads [7]
}
