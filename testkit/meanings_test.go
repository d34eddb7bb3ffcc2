package testkit_test

import (
	"context"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

func meanings(t *testing.T) sources.Source {
	t.Helper()
	source, err := testkit.NewMeanings()
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// TestMeaningsKeepTheContract tests that the source in memory compares by the meanings
// of its columns, and that the rules about them are checked.
func TestMeaningsKeepTheContract(t *testing.T) {
	tried := map[string]int{}
	err := testkit.Check(t.Context(), meanings(t), func(r testkit.Result) {
		if r.Skipped == "" {
			tried[r.Rule]++
		}
	})
	if err != nil {
		t.Error(err)
	}
	if tried["meaning"] != 4 || tried["ordinals"] != 3 || tried["keys"] != 4 {
		t.Errorf("the rules were checked for so many tables: %v", tried)
	}
}

// rewriting is a source that answers other queries than those that it is asked.
type rewriting struct {
	sources.Source
	change func(q *sources.Query)
}

func (r rewriting) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := r.Source.Begin(ctx, env)
	return rewritingSession{session, r.change}, err
}

type rewritingSession struct {
	sources.Session
	change func(q *sources.Query)
}

func (s rewritingSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	other := *q
	s.change(&other)
	return s.Session.Scan(ctx, &other)
}

// TestMeaningsAreChecked tests that the suite finds a source whose answers disagree
// with the meanings that its columns declare.
func TestMeaningsAreChecked(t *testing.T) {
	rewritten := func(change func(q *sources.Query)) sources.Source { return rewriting{meanings(t), change} }
	// ordinals returns the source with other ordinals.
	ordinals := func(change func(n, row int32) int32) sources.Source {
		return testkit.Wrap(meanings(t), func(_ context.Context, _ sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				row := int32(0)
				for batch, err := range scan {
					if err == nil && q.Keys != nil && batch.Record.Schema().HasField(sources.OrdinalColumn) {
						r := batch.Record
						b := array.NewInt32Builder(memory.DefaultAllocator) // outside of the budget
						for i, n := range r.Column(int(r.NumCols()) - 1).(*array.Int32).Int32Values() {
							b.Append(change(n, row+int32(i)))
						}
						row += int32(r.NumRows())
						columns := append([]arrow.Array{}, r.Columns()...)
						columns[len(columns)-1] = b.NewArray()
						batch.Record = array.NewRecordBatch(r.Schema(), columns, r.NumRows())
						wanted := yield(batch, nil)
						batch.Record.Release()
						if !wanted {
							return
						}
						continue
					}
					if !yield(batch, err) {
						return
					}
				}
			}
		})
	}
	first := func(q *sources.Query) *sources.Comparison {
		if terms := sources.Conjuncts(q.Where); len(terms) == 1 {
			if c, ok := terms[0].(sources.Comparison); ok {
				return &c
			}
		}
		return &sources.Comparison{}
	}
	for name, c := range map[string]struct {
		source sources.Source
		text   string
	}{
		"less is less or equal": {rewritten(func(q *sources.Query) {
			if c := first(q); c.Column == "nick" && c.Op == sources.OpLt {
				c.Op, q.Where = sources.OpLe, nil
				q.Where = *c
			}
		}), `column "nick"`},
		"not equal is everything": {rewritten(func(q *sources.Query) {
			if c := first(q); c.Column == "author" && c.Op == sources.OpNe {
				q.Where = sources.IsNull{Column: "author", Not: true}
			}
		}), "is both or neither = and <> it"},
		"a descending order": {rewritten(func(q *sources.Query) {
			if len(q.OrderBy) == 1 && q.OrderBy[0].Column == "team" && q.OrderBy[0].Desc {
				q.OrderBy = []sources.Sort{{Column: "team"}}
			}
		}), "on the wrong side of it in the order"},
		"labels by text": {rewritten(func(q *sources.Query) {
			if c := first(q); c.Column == "level" && c.Op == sources.OpLt {
				q.Where = sources.HasPrefix{Column: "level", Prefix: "a"}
			}
		}), "breaks the rule"},
		"numbers by text": {rewritten(func(q *sources.Query) {
			if len(q.OrderBy) == 1 && q.OrderBy[0].Column == "balance" {
				q.OrderBy = []sources.Sort{{Column: "nick", Desc: q.OrderBy[0].Desc, NullsFirst: q.OrderBy[0].NullsFirst}}
			}
		}), "comes before"},
		"no limit for each key": {rewritten(func(q *sources.Query) {
			if q.Keys != nil { // a copy, since the keys belong to the caller
				keys := *q.Keys
				keys.LimitPerKey, q.Keys = 0, &keys
			}
		}), "with LimitPerKey 1"},
		"an ordinal that was not asked for": {ordinals(func(n, _ int32) int32 { return n + 1000 }), "the ordinal"},
		"ordinals out of order":             {ordinals(func(n, row int32) int32 { return (n + row) % 2 }), "ordinal"},
	} {
		err := testkit.TestSource(t.Context(), c.source)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
	}
}
