package relation_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// TestLoadWithinMemory tests that a stream with any memory limit stays within it,
// and yields all rows or an error of kind Exhausted.
func TestLoadWithinMemory(t *testing.T) {
	source := shop(t, 600)
	load := query.Load{Required: coretest.ParseLoad(t, "orders.order_lines.product"), Optional: coretest.ParseLoad(t, "orders.customer")}
	var sum string
	var refused, complete int
	for _, memory := range []int64{32 << 20, 1 << 20, 700 << 10, 500 << 10, 350 << 10, 250 << 10, 180 << 10, 120 << 10, 60 << 10, 8 << 10} {
		for _, ahead := range []bool{false, true} {
			stream := coretest.Open(t, source, core.Query{Table: "customers", Load: load}, core.Options{Memory: memory, ReadAhead: ahead}, core.Resources{Budget: coretest.NewBudget(t)})
			rows, err := rowsOf(stream)
			receipt := stream.Receipt()
			switch {
			case err != nil && sources.KindOf(err) != sources.Exhausted:
				t.Fatalf("%s: %v", budget.FormatBytes(memory), err)
			case err != nil:
				refused++
			case rows != 65 || sum != "" && receipt.Digest.Ordered() != sum:
				t.Fatalf("%s: %d rows, sum %s", budget.FormatBytes(memory), rows, receipt.Digest.Ordered())
			default:
				complete++
				sum = receipt.Digest.Ordered()
			}
			if receipt.PeakBytes > memory {
				t.Errorf("held %d bytes, limit %d", receipt.PeakBytes, memory)
			}
		}
	}
	if refused < 2 || complete < 6 {
		t.Errorf("%d streams were refused, %d complete", refused, complete)
	}
}

// parents returns a source of five parents, one of which has almost all children.
func parents(t testing.TB, children int) sources.Source {
	t.Helper()
	id := arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64}
	schemas := []*arrow.Schema{
		arrow.NewSchema([]arrow.Field{id}, nil),
		arrow.NewSchema([]arrow.Field{id, {Name: "parent_id", Type: arrow.PrimitiveTypes.Int64}, {Name: "text", Type: arrow.BinaryTypes.String}}, nil),
	}
	catalog := &sources.Catalog{Tables: []sources.Table{
		{Name: "parents", Schema: schemas[0], Key: []string{"id"}, Rows: 5},
		{Name: "children", Schema: schemas[1], Key: []string{"id"}, Rows: int64(children), Capabilities: sources.CapProject, Lookups: []sources.Lookup{{Columns: []string{"parent_id"}}}},
	}}
	if err := sources.Relate(catalog, []sources.ForeignKey{{Table: "children", Columns: []string{"parent_id"}, TargetTable: "parents"}}); err != nil {
		t.Fatal(err)
	}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, q *sources.Query) sources.Batches {
		table := catalog.Table(q.Table)
		rows := func(yield func(sources.Row, error) bool) {
			if q.Keys == nil {
				for i := range int64(5) {
					if !yield(sources.Row{Values: []any{i}}, nil) {
						return
					}
				}
				return
			}
			asked := q.Keys.Values.Column(0).(*array.Int64).Int64Values()
			for i := range int64(children) {
				parent := int64(3)
				if i%1000 < 3 {
					parent = i % 1000
				}
				if !slices.Contains(asked, parent) {
					continue
				}
				values := []any{i, parent, "some text"}
				if q.Columns != nil {
					values = nil
					for _, c := range q.Columns {
						values = append(values, []any{i, parent, "some text"}[table.Column(c)])
					}
				}
				if !yield(sources.Row{Values: values}, nil) {
					return
				}
			}
		}
		return sources.FromRows(env, table.ScanSchema(q.Columns), rows)
	})
}

// TestOneParentOfManyChildren tests that a parent with a million children has all of
// them if they fit in memory. If not, the stream yields the parents before it and an
// error that names it.
func TestOneParentOfManyChildren(t *testing.T) {
	const children = 1_000_000
	source := parents(t, children)
	for _, test := range []struct {
		load string
		ok   bool
	}{{"children(columns: [id])", true}, {"children", false}} {
		stream := coretest.Open(t, source, core.Query{Table: "parents", Load: query.Load{Required: coretest.ParseLoad(t, test.load)}}, core.Options{Memory: 64 << 20}, core.Resources{Budget: coretest.NewBudget(t)})
		var counts []int64
		var fault error
		for chunk, err := range stream.Chunks() {
			if fault = err; err != nil {
				break
			}
			list := chunk.Record.Column(1).(*array.List)
			for i := range list.Len() {
				from, to := list.ValueOffsets(i)
				counts = append(counts, to-from)
			}
		}
		want := []int64{1000, 1000, 1000, children - 3000, 0}
		if !test.ok {
			want = want[:3]
			if sources.KindOf(fault) != sources.Exhausted || fault == nil || !strings.Contains(fault.Error(), "load parents: exhausted: the related rows of the row with id = 3 do not fit in memory: ") {
				t.Errorf("%s: %v", test.load, fault)
			}
		} else if fault != nil {
			t.Errorf("%s: %v", test.load, fault)
		}
		if diff := gocmp.Diff(want, counts); diff != "" {
			t.Errorf("%s: children (-want +got):\n%s", test.load, diff)
		}
		if peak := stream.Receipt().PeakBytes; peak > 64<<20 {
			t.Errorf("held %d bytes", peak)
		}
	}
}
