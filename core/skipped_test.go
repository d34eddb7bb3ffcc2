package core_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/sources"
)

// TestSkipped tests that the receipt has the records that the source skipped, and
// that a negative count is an error.
func TestSkipped(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "t", Schema: schema, Rows: -1}}}
	for name, c := range map[string]struct {
		records int64
		want    int64
		kind    sources.Kind
	}{"counted": {records: 7, want: 21}, "nonsense": {records: -1, kind: sources.Invalid}} {
		t.Run(name, func(t *testing.T) {
			source := sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
				return func(yield func(sources.Batch, error) bool) {
					page := 0
					rows := func(yield func(sources.Row, error) bool) {
						for i := range 3 {
							if !yield(sources.Row{Values: []any{i}}, nil) {
								return
							}
						}
					}
					env.Page.Rows = 1
					for batch, err := range sources.FromRows(env, schema, rows) {
						batch.Skipped = sources.Skipped{Records: c.records}
						for i := range 7 {
							batch.Skipped.Locations = append(batch.Skipped.Locations, fmt.Sprintf("%d.%d", page, i))
						}
						page++
						if !yield(batch, err) {
							return
						}
					}
				}
			})
			s, err := core.Open(t.Context(), source, core.Query{Table: "t"}, core.Options{}, core.Resources{})
			if err != nil {
				t.Fatal(err)
			}
			var last error
			for _, err := range s.Chunks() {
				last = err
			}
			r := s.Receipt()
			if last != nil && sources.KindOf(last) != c.kind || (last == nil) != (c.kind == 0) || r.Skipped != c.want {
				t.Errorf("error: %v; skipped %d records, want %d", last, r.Skipped, c.want)
			}
			if want := []string{"0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "1.0", "1.1", "1.2"}; c.kind == 0 {
				if diff := cmp.Diff(want, r.SkippedFirst); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestEveryRecordSkipped tests that a stream without rows fails if its source skipped
// records, unless a condition may have left out the others.
func TestEveryRecordSkipped(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	table := sources.Table{Name: "t", Schema: schema, Rows: -1, Filters: map[string]sources.Ops{"n": sources.OpsOf(sources.OpIsNull)}}
	source := sources.Simple(&sources.Catalog{Tables: []sources.Table{table}}, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			for batch, err := range sources.FromRows(env, schema, func(func(sources.Row, error) bool) {}) {
				batch.Skipped = sources.Skipped{Records: 2, Locations: []string{"line 3: bad"}}
				if !yield(batch, err) {
					return
				}
			}
		}
	})
	for name, c := range map[string]struct {
		where sources.Predicate
		fault string
	}{
		"all rows":  {fault: "scan t: invalid: the source skipped all 2 records, the first: line 3: bad"},
		"some rows": {where: sources.IsNull{Column: "n"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := core.Open(t.Context(), source, core.Query{Table: "t", Where: c.where}, core.Options{}, core.Resources{})
			if err != nil {
				t.Fatal(err)
			}
			fault := ""
			for _, err := range s.Chunks() {
				if err != nil {
					fault = err.Error()
				}
			}
			if r := s.Receipt(); fault != c.fault || r.Complete != (c.fault == "") || r.Skipped != 2 {
				t.Errorf("error %q, want %q; %+v", fault, c.fault, r)
			}
		})
	}
}
