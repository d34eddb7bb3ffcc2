package core_test

import (
	"context"
	"fmt"
	"log"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/testkit"
)

// Relations become columns of the record: a relation to one row is a struct, a
// relation to many rows is a list of structs.
func ExampleOpen_relations() {
	ctx := context.Background()
	source, err := testkit.Shop{Seed: 1, Orders: 10}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	q := core.Query{Table: "orders", Columns: []string{"id"}, Limit: 2}
	q.Load.Required = []query.Branch{
		{Name: "customer", Columns: []string{"name"}},
		{Name: "order_lines", Columns: []string{"line", "quantity"}, Limit: 2},
	}
	stream, err := core.Open(ctx, source, q, core.Options{}, core.Resources{})
	if err != nil {
		log.Fatal(err)
	}
	for chunk, err := range stream.Chunks() {
		if err != nil {
			log.Fatal(err)
		}
		customers, lines := chunk.Record.Column(1), chunk.Record.Column(2)
		for row := range int(chunk.Record.NumRows()) {
			fmt.Println(customers.ValueStr(row), lines.ValueStr(row))
		}
	}
	// Output:
	// {"name":"Óscar O'Brien"} [{"line":1,"quantity":1},{"line":2,"quantity":4}]
	// {"name":"Fatima Strauß-Köhler"} [{"line":1,"quantity":5}]
}

// An optional relation is not part of the record. The consumer asks for it where it
// needs it, and gets it for all rows of the chunk at once.
func ExampleChunk_Related() {
	ctx := context.Background()
	source, err := testkit.Shop{Seed: 1, Orders: 10}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	q := core.Query{Table: "orders", Columns: []string{"id"}, Limit: 3}
	q.Load.Optional = []query.Branch{{Name: "customer", Columns: []string{"name"}}}
	stream, err := core.Open(ctx, source, q, core.Options{}, core.Resources{})
	if err != nil {
		log.Fatal(err)
	}
	for chunk, err := range stream.Chunks() {
		if err != nil {
			log.Fatal(err)
		}
		customers, err := chunk.Related(ctx, "customer")
		if err != nil {
			log.Fatal(err)
		}
		for row := range customers.Len() {
			fmt.Println(chunk.Record.Column(0).ValueStr(row), customers.ValueStr(row))
		}
	}
	// Output:
	// 1 {"name":"Óscar O'Brien"}
	// 2 {"name":"Fatima Strauß-Köhler"}
	// 3 {"name":"Yusuf Smith"}
}
