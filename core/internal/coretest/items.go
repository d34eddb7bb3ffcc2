package coretest

import (
	"context"
	"iter"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// ItemSchema is the schema of table "items" in [Items], [Numbered] and
// [NumberedFrom].
var ItemSchema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// Items returns a source of one table, "items", of rows under [ItemSchema]. The
// table has no abilities.
func Items(rows iter.Seq2[sources.Row, error]) sources.Source {
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: ItemSchema, Rows: -1}}}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return sources.FromRows(env, ItemSchema, rows)
	})
}

// ItemRows yields n rows for [Items], with ids from 0 on, and then err if it is not
// nil. Every seventh text is NULL.
func ItemRows(n int, err error) iter.Seq2[sources.Row, error] {
	return func(yield func(sources.Row, error) bool) {
		for i := range n {
			row := sources.Row{Values: []any{i, strings.Repeat("x", i%50)}}
			if i%7 == 0 {
				row.Values[1] = nil
			}
			if !yield(row, nil) {
				return
			}
		}
		if err != nil {
			yield(sources.Row{}, err)
		}
	}
}

// Numbered returns a source in memory of one table, "items", that has every ability.
// Its n ids count from 0.
func Numbered(t testing.TB, n int) sources.Source { return NumberedFrom(t, n, 0) }

// NumberedFrom is [Numbered] with ids that count from another number.
func NumberedFrom(t testing.TB, n, from int) sources.Source {
	t.Helper()
	source, err := testkit.NewMemory([]testkit.MemoryTable{{Name: "items", Schema: ItemSchema, Key: []string{"id"}, Rows: func(yield func([]any) bool) {
		for i := range n {
			if !yield([]any{int64(i + from), strings.Repeat("x", i%50)}) {
				return
			}
		}
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return source
}
