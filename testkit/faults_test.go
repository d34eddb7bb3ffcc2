package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// good returns a small source that keeps every rule.
func good(t *testing.T) sources.Source {
	t.Helper()
	source, err := testkit.NewMemory([]testkit.MemoryTable{{
		Name: "people", Key: []string{"id"},
		Schema: arrow.NewSchema([]arrow.Field{
			{Name: "id", Type: arrow.PrimitiveTypes.Int64},
			{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		}, nil),
		Rows: func(yield func([]any) bool) {
			for i := range 40 {
				name := any(fmt.Sprintf("name %d", i%7))
				if i%5 == 0 {
					name = nil
				}
				if !yield([]any{i, name}) {
					return
				}
			}
		},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// asked returns a source that changes queries.
func asked(source sources.Source, f func(q *sources.Query)) sources.Source {
	return &asking{Source: source, f: f}
}

type asking struct {
	sources.Source
	f func(q *sources.Query)
}

func (a *asking) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	s, err := a.Source.Begin(ctx, env)
	return &askingSession{s, a.f}, err
}

type askingSession struct {
	sources.Session
	f func(q *sources.Query)
}

func (a *askingSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	other := *q
	a.f(&other)
	return a.Session.Scan(ctx, &other)
}

// TestEveryRuleCanBreak checks that the suite detects a source that breaks a rule, for
// each rule.
func TestEveryRuleCanBreak(t *testing.T) {
	kept := &arrowBatches{}
	for _, c := range []struct {
		rule   string
		source func(sources.Source) sources.Source
	}{
		{"catalog", func(s sources.Source) sources.Source { return &fickle{Source: s} }},
		{"not found", func(s sources.Source) sources.Source {
			return asked(s, func(q *sources.Query) { q.Table = "people" })
		}},
		{"scan", func(s sources.Source) sources.Source {
			return testkit.Wrap(s, func(context.Context, sources.Env, *sources.Query, sources.Batches) sources.Batches {
				return func(func(sources.Batch, error) bool) {}
			})
		}},
		{"cursor", func(s sources.Source) sources.Source {
			return asked(s, func(q *sources.Query) { q.After = nil })
		}},
		{"single use", func(s sources.Source) sources.Source {
			return testkit.Wrap(s, func(context.Context, sources.Env, *sources.Query, sources.Batches) sources.Batches {
				return twice(s)
			})
		}},
		{"skipped", func(s sources.Source) sources.Source {
			scans := int64(0)
			return testkit.Wrap(s, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
				return func(yield func(sources.Batch, error) bool) {
					skipped := sources.Skipped{Records: atomic.AddInt64(&scans, 1), Locations: []string{"somewhere"}}
					for batch, err := range scan {
						if err == nil {
							batch.Skipped, skipped = skipped, sources.Skipped{}
						}
						if !yield(batch, err) {
							return
						}
					}
				}
			})
		}},
		{"pages", func(s sources.Source) sources.Source { return &roomy{s} }},
		{"empty", func(s sources.Source) sources.Source {
			return testkit.Wrap(s, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
				return func(yield func(sources.Batch, error) bool) {
					for batch, err := range scan {
						if (err != nil || batch.Record.NumRows() > 0) && !yield(batch, err) {
							return
						}
					}
				}
			})
		}},
		{"break", func(s sources.Source) sources.Source {
			return testkit.Wrap(s, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
				return func(yield func(sources.Batch, error) bool) {
					for batch, err := range scan {
						if !yield(batch, err) {
							kept.keep(batch.Record)
							return
						}
					}
				}
			})
		}},
		{"errors", func(s sources.Source) sources.Source {
			return testkit.Wrap(s, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
				return func(yield func(sources.Batch, error) bool) {
					for batch, err := range scan {
						if !yield(batch, err) {
							return
						}
						if err != nil {
							yield(sources.Batch{}, err)
						}
					}
				}
			})
		}},
		{"memory", func(s sources.Source) sources.Source { return &unclassified{s} }},
		{"cancel", func(s sources.Source) sources.Source {
			return testkit.Wrap(s, func(ctx context.Context, _ sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
				return func(yield func(sources.Batch, error) bool) {
					if ctx.Err() != nil {
						yield(sources.Batch{}, errors.New("something is wrong"))
						return
					}
					scan(yield)
				}
			})
		}},
		{"columns", func(s sources.Source) sources.Source {
			return asked(s, func(q *sources.Query) {
				if len(q.Columns) == 1 {
					q.Columns = nil
				}
			})
		}},
		{"limit", func(s sources.Source) sources.Source {
			return asked(s, func(q *sources.Query) { q.Limit++; q.Limit -= map[bool]int64{true: 1}[q.Limit == 1] })
		}},
		{"stable", func(s sources.Source) sources.Source {
			var scans atomic.Int32
			return asked(s, func(q *sources.Query) {
				if scans.Add(1) > 2 && q.OrderBy == nil && q.After == nil {
					q.OrderBy = []sources.Sort{{Column: "id", Desc: true}}
				}
			})
		}},
		{"where", func(s sources.Source) sources.Source {
			return asked(s, func(q *sources.Query) {
				if p, ok := q.Where.(sources.Comparison); ok && p.Op == sources.OpNe {
					q.Where = nil
				}
			})
		}},
		{"logic", func(s sources.Source) sources.Source {
			return asked(s, func(q *sources.Query) {
				if _, ok := q.Where.(sources.Not); ok {
					q.Where = nil
				}
			})
		}},
		{"keys", func(s sources.Source) sources.Source { return asked(s, func(q *sources.Query) { q.Keys = nil }) }},
		{"order", func(s sources.Source) sources.Source {
			return asked(s, func(q *sources.Query) {
				if len(q.OrderBy) > 0 {
					q.OrderBy = []sources.Sort{{Column: q.OrderBy[0].Column, Desc: q.OrderBy[0].Desc}}
				}
			})
		}},
		{"partitions", func(s sources.Source) sources.Source { return asked(s, func(q *sources.Query) { q.Part = nil }) }},
		{"snapshot", func(s sources.Source) sources.Source { return &aloof{s} }},
		{"goroutines", func(s sources.Source) sources.Source {
			return testkit.Wrap(s, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
				go time.Sleep(time.Hour)
				return scan
			})
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			broken := map[string]bool{}
			_ = testkit.Check(t.Context(), c.source(good(t)), func(r testkit.Result) {
				if r.Err != nil {
					broken[r.Rule] = true
				}
			})
			kept.drop()
			time.Sleep(2 * time.Hour) // until what was leaked on purpose has ended
			if !broken[c.rule] {
				t.Errorf("the rule %q holds; broken are %v", c.rule, broken)
			}
		})
	}
}

type arrowBatches struct{ all []arrow.RecordBatch }

func (a *arrowBatches) keep(r arrow.RecordBatch) {
	r.Retain()
	a.all = append(a.all, r)
}

func (a *arrowBatches) drop() {
	for _, r := range a.all {
		r.Release()
	}
	a.all = nil
}

// twice allows ranging over a scan several times.
func twice(source sources.Source) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		session, err := source.Begin(context.Background(), sources.Env{Mem: memory.DefaultAllocator})
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		session.Scan(context.Background(), &sources.Query{Table: "people"})(yield)
	}
}

// fickle returns another catalog each time.
type fickle struct {
	sources.Source
	calls int64
}

func (f *fickle) Catalog(ctx context.Context) (*sources.Catalog, error) {
	c, err := f.Source.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	other := sources.Catalog{Tables: append([]sources.Table(nil), c.Tables...)}
	f.calls++
	other.Tables[0].Rows = f.calls
	return &other, nil
}

// roomy ignores the limits of pages.
type roomy struct{ sources.Source }

func (r *roomy) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	env.Page = sources.Limits{}
	return r.Source.Begin(ctx, env)
}

// aloof rejects snapshots of other sessions.
type aloof struct{ sources.Source }

func (a *aloof) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	if env.Snapshot != "" {
		return nil, errors.New("no")
	}
	return a.Source.Begin(ctx, env)
}

// unclassified removes the kind of errors.
type unclassified struct{ sources.Source }

func (u *unclassified) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	s, err := u.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	return testkit.Wrap(forSession{s}, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			for batch, err := range scan {
				if err != nil {
					err = errors.New(strings.ReplaceAll(err.Error(), ":", ";"))
				}
				if !yield(batch, err) {
					return
				}
			}
		}
	}).Begin(ctx, env)
}

// forSession begins a given session.
type forSession struct{ sources.Session }

func (f forSession) Catalog(context.Context) (*sources.Catalog, error) { return nil, nil }

func (f forSession) Begin(context.Context, sources.Env) (sources.Session, error) {
	return f.Session, nil
}
