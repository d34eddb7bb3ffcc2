package relation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// TestRelationsOfMeanings tests that relations over columns that only the source can
// compare have the same rows with chunks of any size, with and without push-down, and
// from a cache.
func TestRelationsOfMeanings(t *testing.T) {
	source, err := testkit.NewMeanings()
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for _, table := range catalog.Tables {
		for _, r := range table.Relations {
			q := core.Query{Table: table.Name, Load: query.Load{Required: []query.Branch{{Name: r.Name}}}}
			want, err := lines(t, source, q, core.Options{}, core.Resources{})
			if err != nil {
				t.Fatalf("%s.%s: %v", table.Name, r.Name, err)
			}
			if strings.Contains(strings.Join(want, ""), "map[") {
				loaded++
			}
			for _, o := range []core.Options{{ChunkRows: 1}, {ChunkRows: 3}, {ChunkRows: 3, NoPushdown: true}, {NoPushdown: true}} {
				cached := coretest.WithCache(coretest.NewCache(t, cache.Options{}), nil)
				for _, resources := range []core.Resources{{}, cached, cached} {
					got, err := lines(t, source, q, o, resources)
					if err != nil {
						t.Fatalf("%s.%s: %v", table.Name, r.Name, err)
					}
					if diff := gocmp.Diff(want, got); diff != "" {
						t.Fatalf("%s.%s, chunks of %d, no push-down %t (-want +got):\n%s", table.Name, r.Name, o.ChunkRows, o.NoPushdown, diff)
					}
				}
			}
		}
	}
	if loaded < 8 {
		t.Errorf("only %d relations have rows", loaded)
	}
}

// TestOrderOfEqualKeys tests that rows which the source calls equal are put in the order
// of a key column whose order is that of its bytes.
func TestOrderOfEqualKeys(t *testing.T) {
	name := arrow.Field{Name: "name", Type: arrow.BinaryTypes.String, Metadata: arrow.MetadataFrom(sources.Meaning{Equality: sources.BySource}.Metadata())}
	id := arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64}
	source, err := testkit.NewMemory([]testkit.MemoryTable{
		{Name: "people", Schema: arrow.NewSchema([]arrow.Field{name}, nil), Key: []string{"name"}, Rows: slices.Values([][]any{{"mark"}})},
		{Name: "badges", Schema: arrow.NewSchema([]arrow.Field{id, name}, nil), Key: []string{"id"}, Rows: slices.Values([][]any{{1, "mark"}, {2, "Mark"}, {3, "MARK"}, {4, "anna"}})},
	}, []sources.ForeignKey{{Table: "badges", Columns: []string{"name"}, TargetTable: "people"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, noPushdown := range []bool{false, true} {
		for _, limit := range []int{0, 2} {
			q := core.Query{Table: "people", Load: query.Load{Required: []query.Branch{{Name: "badges", Columns: []string{"id"}, OrderBy: []sources.Sort{{Column: "name"}}, Limit: limit}}}}
			want := []string{`"mark" [map[id:3] map[id:2] map[id:1]]`, `"mark" [map[id:3] map[id:2]]`}[limit/2]
			got, err := lines(t, source, q, core.Options{NoPushdown: noPushdown}, core.Resources{})
			if err != nil || fmt.Sprint(got) != fmt.Sprint([]string{want}) {
				t.Errorf("limit %d, no push-down %t: %v, %v, want %s", limit, noPushdown, got, err, want)
			}
		}
	}
}
