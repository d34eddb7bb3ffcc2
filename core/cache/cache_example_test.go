package cache_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// Streams share a cache through their Resources. The second stream of the same query
// reads nothing from the source.
func ExampleCache() {
	ctx := context.Background()
	source, err := testkit.Shop{Seed: 1, Orders: 10}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	shared, err := cache.New(cache.Options{MaxBytes: 16 << 20, TTL: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	defer shared.Close()
	resources := core.Resources{Cache: shared, SourceID: query.Identify("shop", "seed 1")}

	for range 2 {
		stream, err := core.Open(ctx, source, core.Query{Table: "orders"}, core.Options{}, resources)
		if err != nil {
			log.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				log.Fatal(err)
			}
		}
		fmt.Println(stream.Receipt().Rows, "rows,", stream.Receipt().Cache)
	}
	// Output:
	// 10 rows, miss
	// 10 rows, hit
}

// An application can also cache rows of its own. Put copies them, and Get returns
// an entry that its caller releases.
func ExampleCache_Put() {
	shared, err := cache.New(cache.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer shared.Close()
	schema := arrow.NewSchema([]arrow.Field{{Name: "rate", Type: arrow.PrimitiveTypes.Float64}}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	builder.Field(0).(*array.Float64Builder).Append(1.25)
	record := builder.NewRecordBatch()
	defer record.Release()

	key := query.Key{Digest: query.Identify("rates", "2026-02-01"), Table: "rates"}
	now := time.Now()
	stored := shared.Put(&cache.Entry{
		Key: key, At: now, Expires: now.Add(time.Hour),
		Schema: schema, Pages: []sources.Batch{{Record: record}},
	})
	fmt.Println("stored:", stored)

	if entry := shared.Get(key, schema); entry != nil {
		defer entry.Release()
		fmt.Println("found:", entry.Pages[0].Record.Column(0))
	}
	// Output:
	// stored: true
	// found: [1.25]
}
