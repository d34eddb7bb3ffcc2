package relation_test

import (
	"context"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// TestFaultsOfLoads tests that Open returns all faults of a load at once.
func TestFaultsOfLoads(t *testing.T) {
	source := coretest.Library(t)
	for load, want := range map[string][]string{
		"authr":                      {"not found", `authr: table "books" has no relation "authr"; the nearest is "author"`},
		"author.boss.boss.boss":      {"invalid", "author.boss.boss.boss has depth 4, the limit is 3: raise the limit"},
		"author.boss.boss.boss.x":    {"author.boss.boss.boss.x has depth 5"},
		"pages(columns: [x, words])": {"not found", "pages: ", `"x"`},
		"pages(order: x),nothing":    {`"x"`, `"nothing"`},
		"pages(where: x)":            {"invalid", `the condition "x" cannot be compiled: set Load.Compile`},
	} {
		_, err := core.Open(t.Context(), source, core.Query{Table: "books", Load: query.Load{Required: coretest.ParseLoad(t, load)}}, core.Options{}, core.Resources{})
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("--load %s: %v, want one that contains %s", load, err, w)
			}
		}
	}
	twice := query.Load{Required: []query.Branch{{Name: "author", Limit: 1}}, Optional: []query.Branch{{Name: "author", Limit: 2}}}
	for _, c := range []struct {
		load    query.Load
		options core.Options
	}{{options: core.Options{MaxDepth: -1}}, {options: core.Options{Strategy: 9}}, {load: twice}} {
		if _, err := core.Open(t.Context(), source, core.Query{Table: "books", Load: c.load}, c.options, core.Resources{}); err == nil || sources.KindOf(err) != sources.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// Eager ignores relations below the maximum depth, and ends cycles.
	stream := coretest.Open(t, source, core.Query{Table: "people", Load: query.Load{Required: coretest.ParseLoad(t, "boss.boss.boss.boss")}}, core.Options{Strategy: query.Eager, MaxDepth: 2}, core.Resources{Budget: coretest.NewBudget(t)})
	depth := 0
	for typ := stream.Schema().Field(stream.Schema().FieldIndices("boss")[0]).Type; ; depth++ {
		row := typ.(*arrow.StructType)
		at, ok := row.FieldIdx("boss")
		if !ok {
			break
		}
		typ = row.Field(at).Type
	}
	if depth != 1 {
		t.Errorf("boss has %d levels of boss below it, want 1", depth)
	}
}

// TestOneRowTooMany tests that a relation to one row that finds two is an error.
func TestOneRowTooMany(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	rows := func(n ...int) iter.Seq[[]any] {
		return func(yield func([]any) bool) {
			for _, v := range n {
				if !yield([]any{v}) {
					return
				}
			}
		}
	}
	source, err := testkit.NewMemory([]testkit.MemoryTable{
		{Name: "a", Schema: schema, Rows: rows(1, 2, 3)}, {Name: "b", Schema: schema, Key: []string{"id"}, Rows: rows(1, 3, 3)},
	}, []sources.ForeignKey{{Table: "a", Columns: []string{"id"}, TargetTable: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rowsOf(coretest.Open(t, source, core.Query{Table: "a", Load: query.Load{Required: coretest.ParseLoad(t, "b")}}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)}))
	if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "2 rows have id = 3, but the relation allows at most one") {
		t.Errorf("error: %v", err)
	}
}

// TestWaitForLookupsIsCanceled tests that Related, which waits while the look-ups for the
// next chunk run, ends with its context.
func TestWaitForLookupsIsCanceled(t *testing.T) {
	lookups := 0
	entered, release := make(chan struct{}), make(chan struct{})
	source := testkit.Wrap(coretest.Library(t), func(_ context.Context, _ sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
		if q.Keys == nil {
			return scan
		}
		return func(yield func(sources.Batch, error) bool) {
			if lookups++; lookups == 2 { // those for the second chunk
				close(entered)
				<-release
			}
			scan(yield)
		}
	})
	load := query.Load{Required: coretest.ParseLoad(t, "author"), Optional: coretest.ParseLoad(t, "editor")}
	o := core.Options{ReadAhead: true, ChunkRows: 10, Strategy: query.Lazy, FlushAfter: -1}
	for chunk, err := range coretest.Open(t, source, core.Query{Table: "books", Load: load}, o, core.Resources{Budget: coretest.NewBudget(t)}).Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		<-entered
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := chunk.Related(ctx, "editor")
			done <- err
		}()
		cancel()
		select {
		case err := <-done:
			if sources.KindOf(err) != sources.Canceled {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Related waits on after its context has ended")
		}
		close(release)
		break
	}
}
