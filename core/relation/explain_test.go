package relation_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/sources"
)

// TestExplain tests that a stream makes the look-ups that its explanation predicts.
func TestExplain(t *testing.T) {
	source := coretest.Restrict(t, coretest.Library(t), func(t *sources.Table) {
		t.Lookups = slices.Clone(t.Lookups)
		for i := range t.Lookups {
			t.Lookups[i].MaxKeys = 20
		}
		if t.Name == "loans" {
			t.Lookups, t.Capabilities = nil, 0
		}
		if t.Name == "pages" {
			t.MaxScans = 1
		}
	})
	q := core.Query{Table: "books", Columns: []string{"price"}, Limit: 40, Load: query.Load{Required: coretest.ParseLoad(t, "pages(limit: 2, order: words:desc),loans,shelves,editor.boss")}}
	e, err := core.Explain(t.Context(), source, q, core.Options{ChunkRows: 50})
	if err != nil {
		t.Fatal(err)
	}
	if source.Scans.Load() != 0 || source.OpenSessions.Load() != 0 {
		t.Errorf("%d scans, %d open sessions", source.Scans.Load(), source.OpenSessions.Load())
	}
	_, receipt := coretest.ReadObjects(t, source, q, core.Options{ChunkRows: 50})
	plans := map[string]relation.Plan{}
	var walk func([]relation.Plan)
	walk = func(all []relation.Plan) {
		for _, p := range all {
			plans[p.Path] = p
			walk(p.Relations)
		}
	}
	walk(e.Relations)
	for _, r := range receipt.Relations {
		most := int64(0)
		for _, s := range plans[r.Path].Steps {
			most += *s.Lookups
		}
		if r.Lookups == 0 || r.Lookups > most {
			t.Errorf("%s: made %d look-ups, the explanation has at most %d", r.Path, r.Lookups, most)
		}
	}
	if e.Sessions != 2 || !plans["loans"].Steps[0].Scan || plans["pages"].Steps[0].Source.Limit != 2 || plans["editor.boss"].Depth != 2 || len(plans["shelves"].Steps) != 2 {
		t.Errorf("%+v", e)
	}
	text := e.String()
	for _, want := range []string{
		"books: about 40 rows", "scans loans for each chunk, because it has no look-up by isbn, edition", "looks up pages by ",
		"source: order by words desc, number; limit 2 for each key", "for each chunk at most 40 keys in 2 look-ups",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q in\n%s", want, text)
		}
	}
	if _, err := core.Explain(t.Context(), source, core.Query{Table: "boks"}, core.Options{}); err == nil || sources.KindOf(err) != sources.NotFound {
		t.Errorf("a missing table: %v", err)
	}
}
