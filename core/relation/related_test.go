package relation_test

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// TestOptionalRelations tests that an optional relation has the same rows with every
// strategy, and takes no look-ups if it is not read.
func TestOptionalRelations(t *testing.T) {
	source := coretest.Library(t)
	truth := coretest.ReadTables(t, source)
	required, optional := coretest.ParseLoad(t, "author,pages"), coretest.ParseLoad(t, "editor.boss,pages.books,loans(limit: 2)")
	full := coretest.ParseLoad(t, "author,pages.books,editor.boss,loans(limit: 2),shelves")
	var want []coretest.Object
	for _, row := range truth.Rows["books"] {
		want = append(want, truth.Expected("books", row, []string{"price"}, full))
	}
	for _, strategy := range []query.Strategy{query.Selective, query.Lazy, query.Eager} {
		for _, chunk := range []int64{7, 1000} {
			q := core.Query{Table: "books", Columns: []string{"price"}, Load: query.Load{Required: required, Optional: append(optional, query.Branch{Name: "shelves"})}}
			if strategy == query.Eager {
				q.Load.Optional = optional // Eager loads shelves anyway
			}
			got, _ := coretest.ReadObjects(t, source, q, core.Options{ChunkRows: chunk, Strategy: strategy, MaxDepth: 2}, "editor", "pages", "loans", "shelves")
			if strategy == query.Eager { // Eager loads further relations
				for i, o := range got {
					got[i] = pruned(o, want[i])
				}
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("%s, chunks of %d (-want +got):\n%s", strategy, chunk, diff)
			}
		}
	}
	h := coretest.Restrict(t, source, func(*sources.Table) {})
	_, receipt := coretest.ReadObjects(t, h, core.Query{Table: "books", Load: query.Load{Required: required, Optional: optional}}, core.Options{ChunkRows: 7, Strategy: query.Lazy})
	for _, r := range receipt.Relations {
		if lookups := r.Lookups > 0; lookups != (r.Path == "author" || r.Path == "pages") {
			t.Errorf("lazy, %s: %d look-ups", r.Path, r.Lookups)
		}
	}
	_, receipt = coretest.ReadObjects(t, h, core.Query{Table: "books", Load: query.Load{Optional: coretest.ParseLoad(t, "editor,loans")}}, core.Options{ChunkRows: 7}, "loans")
	for _, r := range receipt.Relations {
		if r.Path == "editor" && (r.Lookups < 1 || r.Lookups > 2) || r.Path == "loans" && r.Lookups != receipt.Chunks {
			t.Errorf("selective, %s: %d look-ups in %d chunks", r.Path, r.Lookups, receipt.Chunks)
		}
	}
}

// pruned returns o without what like does not have.
func pruned(o, like coretest.Object) coretest.Object {
	out := coretest.Object{}
	for name, want := range like {
		switch want := want.(type) {
		case coretest.Object:
			inner, ok := o[name].(coretest.Object)
			if !ok {
				out[name] = o[name]
				continue
			}
			out[name] = pruned(inner, want)
		case []any:
			list := []any{}
			for i, v := range o[name].([]any) {
				if i < len(want) {
					list = append(list, pruned(v.(coretest.Object), want[i].(coretest.Object)))
				}
			}
			out[name] = list
		default:
			out[name] = o[name]
		}
	}
	return out
}

// TestRelationsNobodyNamed tests that any relation of the table can be read if its
// key is among the columns, also without a load.
func TestRelationsNobodyNamed(t *testing.T) {
	source := coretest.Library(t)
	truth := coretest.ReadTables(t, source)
	var want []coretest.Object
	for _, row := range truth.Rows["people"] {
		want = append(want, truth.Expected("people", row, nil, coretest.ParseLoad(t, "boss,people")))
	}
	for _, scans := range []int{0, 1} {
		h := coretest.Restrict(t, source, func(t *sources.Table) { t.MaxScans = scans })
		got, receipt := coretest.ReadObjects(t, h, core.Query{Table: "people"}, core.Options{ChunkRows: 5}, "boss", "people")
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(receipt.Relations) != 2 || receipt.Lookups == 0 || h.OpenSessions.Load() != 0 {
			t.Errorf("relations %+v, %d open sessions", receipt.Relations, h.OpenSessions.Load())
		}
	}
	stream := coretest.Open(t, source, core.Query{Table: "people", Columns: []string{"name"}}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	var last *core.Chunk
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		last = chunk
		if _, err := chunk.Related(t.Context(), "bos"); sources.KindOf(err) != sources.NotFound || !strings.Contains(err.Error(), `the nearest is "boss"`) {
			t.Errorf("a missing relation: %v", err)
		}
		if _, err := chunk.Related(t.Context(), "boss"); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "boss_id") {
			t.Errorf("a relation whose key is not among the columns: %v", err)
		}
	}
	if _, err := last.Related(t.Context(), "boss"); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "the chunk is no longer valid") {
		t.Errorf("after the iteration: %v", err)
	}
}
