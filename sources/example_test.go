package sources_test

import (
	"context"
	"fmt"
	"log"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// A source with one table, which declares no capabilities: the engine filters,
// sorts and limits its rows.
func ExampleSimple() {
	planets := sources.Table{
		Name: "planets",
		Schema: arrow.NewSchema([]arrow.Field{
			{Name: "name", Type: arrow.BinaryTypes.String},
			{Name: "moons", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		}, nil),
		Key:  []string{"name"},
		Rows: -1,
	}
	scan := func(ctx context.Context, env sources.Env, q *sources.Query) sources.Batches {
		return sources.FromRows(env, planets.Schema, func(yield func(sources.Row, error) bool) {
			for _, row := range [][]any{{"Earth", 1}, {"Mars", 2}, {"Planet Nine", nil}} {
				if !yield(sources.Row{Values: row}, nil) {
					return
				}
			}
		})
	}
	source := sources.Simple(&sources.Catalog{Tables: []sources.Table{planets}}, scan)
	defer source.Close()

	session, err := source.Begin(context.Background(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	for batch, err := range session.Scan(context.Background(), &sources.Query{Table: "planets"}) {
		if err != nil {
			log.Fatal(err)
		}
		for i := range int(batch.Record.NumRows()) {
			fmt.Println(sources.ValueAt(batch.Record.Column(0), i), sources.ValueAt(batch.Record.Column(1), i))
		}
	}
	// Output:
	// "Earth" 1
	// "Mars" 2
	// "Planet Nine" NULL
}

// FromRows divides rows into pages, here of at most two rows. The rows count up from
// 125 without end, but 128 does not fit an int8: that ends the scan with an error.
func ExampleFromRows() {
	env := sources.Env{Mem: memory.DefaultAllocator, Page: sources.Limits{Rows: 2}}
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int8}}, nil)
	rows := func(yield func(sources.Row, error) bool) {
		for n := 125; ; n++ {
			if !yield(sources.Row{Values: []any{n}}, nil) {
				return
			}
		}
	}
	for batch, err := range sources.FromRows(env, schema, rows) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(batch.Record.Column(0).(*array.Int8).Int8Values())
	}
	// Output:
	// [125 126]
	// [127]
	// invalid: row 4, column "n": 128 does not fit int8 exactly
}
