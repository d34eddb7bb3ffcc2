// Command source is a source of numbers. Its URI can make it misbehave.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
)

func main() { serve.Serve(open) }

var hoard [][]byte

func open(_ context.Context, c sources.Config) (sources.Source, error) {
	fmt.Fprintln(os.Stderr, "opening", c.URI)
	mode := c.URI
	switch mode {
	case "exit":
		fmt.Fprintln(os.Stderr, "I would rather not")
		os.Exit(3)
	case "panic":
		panic("no source today")
	}
	rows := int64(1000)
	if n := c.Options["rows"]; n != "" {
		var err error
		if rows, err = strconv.ParseInt(n, 10, 64); err != nil {
			return nil, sources.NewError(sources.Invalid, "", "", err)
		}
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	folded := sources.Meaning{Equality: sources.BySource, Order: sources.BySource}
	catalog := &sources.Catalog{Tables: []sources.Table{{
		Name: "numbers", Schema: schema, Key: []string{"n"}, Rows: rows,
		Capabilities: sources.CapResume | sources.CapStable, Lookups: []sources.Lookup{{Columns: []string{"n"}}},
	}, {
		Name: "names", Rows: int64(len(names)), Lookups: []sources.Lookup{{Columns: []string{"name"}, Ordinals: true}},
		Schema: arrow.NewSchema([]arrow.Field{{Name: "name", Type: arrow.BinaryTypes.String, Metadata: arrow.MetadataFrom(folded.Metadata())}}, nil),
	}}}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, q *sources.Query) sources.Batches {
		if q.Table == "names" {
			return sources.FromRows(env, catalog.Table(q.Table).QuerySchema(q), named(q))
		}
		return sources.FromRows(env, schema, numbers(mode, rows, q))
	}), nil
}

// names are the rows of a table that compares them without regard to case.
var names = []string{"Mark", "MARK", "Anna"}

func named(q *sources.Query) iter.Seq2[sources.Row, error] {
	return func(yield func(sources.Row, error) bool) {
		if q.Keys == nil {
			for _, name := range names {
				if !yield(sources.Row{Values: []any{name}}, nil) {
					return
				}
			}
			return
		}
		for i := range int(q.Keys.Values.NumRows()) {
			key, _ := sources.ValueAt(q.Keys.Values.Column(0), i).V.(string)
			for _, name := range names {
				if strings.EqualFold(key, name) && !yield(sources.Row{Values: []any{name, int32(i)}}, nil) {
					return
				}
			}
		}
	}
}

func numbers(mode string, rows int64, q *sources.Query) iter.Seq2[sources.Row, error] {
	return func(yield func(sources.Row, error) bool) {
		first := int64(0)
		if q.After != nil {
			first = int64(binary.BigEndian.Uint64(q.After))
		}
		wanted := func(int64) bool { return true }
		if q.Keys != nil {
			keys := make(map[int64]bool)
			for i := range int(q.Keys.Values.NumRows()) {
				if v, ok := sources.ValueAt(q.Keys.Values.Column(0), i).V.(int64); ok {
					keys[v] = true
				}
			}
			wanted = func(n int64) bool { return keys[n] }
		}
		for n := first; n < rows; n++ {
			if n == rows/2 {
				misbehave(mode, n, yield)
			}
			if !wanted(n) {
				continue
			}
			var text any
			if n%7 != 0 {
				text = fmt.Sprint("number ", n)
			}
			if !yield(sources.Row{Values: []any{n, text}, Cursor: binary.BigEndian.AppendUint64(nil, uint64(n+1))}, nil) {
				return
			}
		}
	}
}

func misbehave(mode string, n int64, yield func(sources.Row, error) bool) {
	switch mode {
	case "crash":
		os.Exit(7)
	case "trap":
		var p *int
		*p = 1 // caught by the guard
	case "hog":
		for {
			b := make([]byte, 1<<20)
			b[n%(1<<20)] = 1
			hoard = append(hoard, b)
		}
	case "fail":
		yield(sources.Row{}, sources.Errorf(sources.NotFound, "", "", "row %d has gone", n))
	}
}
