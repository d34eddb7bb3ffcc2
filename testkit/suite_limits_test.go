package testkit_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// altered is a source whose scans go through a function.
type altered struct {
	sources.Source
	scan func(ctx context.Context, q *sources.Query, s sources.Session) sources.Batches
}

type alteredSession struct {
	sources.Session
	scan func(ctx context.Context, q *sources.Query, s sources.Session) sources.Batches
}

func (a altered) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	s, err := a.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	return alteredSession{s, a.scan}, nil
}

func (a alteredSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return a.scan(ctx, q, a.Session)
}

func failWith(err error) sources.Batches {
	return func(yield func(sources.Batch, error) bool) { yield(sources.Batch{}, err) }
}

// tables returns a source in memory of tables that have a key and a text column.
func tables(t *testing.T, values []string, names ...string) sources.Source {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	var all []testkit.MemoryTable
	for _, name := range names {
		all = append(all, testkit.MemoryTable{Name: name, Schema: schema, Key: []string{"id"}, Rows: func(yield func([]any) bool) {
			for i, s := range values {
				if !yield([]any{i, s}) {
					return
				}
			}
		}})
	}
	source, err := testkit.NewMemory(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// TestPatternsAreShort checks that the suite sends no pattern as long as a large text of a
// table.
func TestPatternsAreShort(t *testing.T) {
	large := strings.Repeat("é%", 100_000)
	var mu sync.Mutex
	longest, patterns := 0, 0
	source := altered{tables(t, []string{"", "é", "ab", "abc", large, large + "x"}, "texts"), func(ctx context.Context, q *sources.Query, s sources.Session) sources.Batches {
		mu.Lock()
		defer mu.Unlock()
		sources.Leaves(q.Where, func(p sources.Predicate) {
			switch p := p.(type) {
			case sources.Like:
				longest, patterns = max(longest, len(p.Pattern)), patterns+1
			case sources.HasPrefix:
				longest, patterns = max(longest, len(p.Prefix)), patterns+1
			}
		})
		return s.Scan(ctx, q)
	}}
	if err := testkit.TestSource(t.Context(), source); err != nil {
		t.Error(err)
	}
	if patterns == 0 || longest > 200 {
		t.Errorf("%d patterns, the longest has %d bytes", patterns, longest)
	}
}

// TestSlowStatementsAreSkipped checks a source that does not answer some queries: the rules
// that need them are skipped, and their statements end.
func TestSlowStatementsAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := 0
		source := altered{tables(t, []string{"a", "b"}, "texts"), func(ctx context.Context, q *sources.Query, s sources.Session) sources.Batches {
			if q.Where == nil {
				return s.Scan(ctx, q)
			}
			return func(yield func(sources.Batch, error) bool) {
				running++
				<-ctx.Done()
				running--
				yield(sources.Batch{}, sources.NewError(sources.Canceled, "scan", q.Table, ctx.Err()))
			}
		}}
		slow := map[string]bool{}
		err := testkit.Check(t.Context(), source, func(r testkit.Result) {
			if strings.Contains(r.Skipped, "a scan takes more than 1m0s") {
				slow[r.Rule] = true
			}
		})
		if err != nil || !slow["where"] || !slow["logic"] || slow["order"] || running != 0 {
			t.Errorf("%v, slow are %v, %d statements run", err, slow, running)
		}
	})
}

// TestDeniedTablesAreSkipped checks a source whose first table may not be read.
func TestDeniedTablesAreSkipped(t *testing.T) {
	source := altered{tables(t, []string{"a", "b"}, "secret", "open"), func(ctx context.Context, q *sources.Query, s sources.Session) sources.Batches {
		if q.Table == "secret" {
			return failWith(sources.NewError(sources.Denied, "scan", q.Table, errors.New("no SELECT privilege")))
		}
		return s.Scan(ctx, q)
	}}
	checked, skipped := 0, 0
	err := testkit.Check(t.Context(), source, func(r testkit.Result) {
		switch {
		case r.Table != "secret":
			if r.Skipped == "" {
				checked++
			}
		case !strings.Contains(r.Skipped, "may not be read") || !strings.Contains(r.Skipped, "no SELECT privilege"):
			t.Errorf("%s: %q, %v", r.Rule, r.Skipped, r.Err)
		default:
			skipped++
		}
	})
	if err != nil || checked < 20 || skipped < 20 {
		t.Errorf("%v, %d rules were checked and %d skipped", err, checked, skipped)
	}
}

// TestLargeTablesAreSampled checks that the suite keeps only a part of a table of large
// rows.
func TestLargeTablesAreSampled(t *testing.T) {
	values := make([]string, 16)
	for i := range values {
		values[i] = strings.Repeat("x", 1<<20)
	}
	var mu sync.Mutex
	most := int64(0)
	source := altered{tables(t, values, "large"), func(ctx context.Context, q *sources.Query, s sources.Session) sources.Batches {
		scan := s.Scan(ctx, q)
		return func(yield func(sources.Batch, error) bool) {
			bytes := int64(0)
			for b, err := range scan {
				if err == nil {
					bytes += sources.Size(b.Record)
				}
				if !yield(b, err) {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			most = max(most, bytes)
		}
	}}
	whole := true
	err := testkit.Check(t.Context(), source, func(r testkit.Result) {
		if r.Rule == "where" {
			whole = r.Skipped == ""
		}
	})
	if err != nil || whole || most > 10<<20 {
		t.Errorf("%v, a whole table %t, a scan of %d MiB", err, whole, most>>20)
	}
}
