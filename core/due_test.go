package core_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// slowly returns a source whose scans without keys yield pages of one row, each after a
// wait. If due is true, the pages are due.
func slowly(source sources.Source, wait time.Duration, due bool) sources.Source {
	return testkit.Wrap(source, func(_ context.Context, _ sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
		if q.Keys != nil {
			return scan
		}
		return func(yield func(sources.Batch, error) bool) {
			for page, err := range scan {
				if err != nil {
					yield(page, err)
					return
				}
				for i := range page.Record.NumRows() {
					time.Sleep(wait)
					row := sources.Batch{Record: page.Record.NewSlice(i, i+1), Due: due}
					more := yield(row, nil)
					row.Record.Release()
					if !more {
						return
					}
				}
			}
		}
	})
}

// chunkTimes reads a stream and returns when its chunks came and how many rows they
// had.
func chunkTimes(t *testing.T, stream *core.Stream) []string {
	t.Helper()
	started := time.Now()
	var got []string
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s: %d", time.Since(started), chunk.Record.NumRows()))
	}
	return got
}

// TestChunksWhenDue tests when chunks are yielded if rows come slowly: from FromRows,
// which hands on pages that are due, and in small pages that are full.
func TestChunksWhenDue(t *testing.T) {
	rows := func(yield func(sources.Row, error) bool) {
		for i := range 5 {
			time.Sleep(60 * time.Millisecond)
			if !yield(sources.Row{Values: []any{i, nil}}, nil) {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		options core.Options
		single  []string // rows that FromRows collects
		pages   []string // full pages of one row
	}{
		"default": {core.Options{FlushAfter: sources.DefaultFlushAfter}, []string{"120ms: 2", "240ms: 2", "300ms: 1"}, []string{"180ms: 3", "300ms: 2"}},
		"pinned":  {core.Options{FlushAfter: sources.DefaultFlushAfter, ChunkRows: 4}, []string{"120ms: 2", "240ms: 2", "300ms: 1"}, []string{"180ms: 3", "300ms: 2"}},
		"full":    {core.Options{FlushAfter: time.Hour, ChunkRows: 4}, []string{"300ms: 4", "300ms: 1"}, []string{"240ms: 4", "300ms: 1"}},
		"shorter": {core.Options{FlushAfter: time.Millisecond}, []string{"60ms: 1", "120ms: 1", "180ms: 1", "240ms: 1", "300ms: 1"}, []string{"120ms: 2", "240ms: 2", "300ms: 1"}},
		"never":   {core.Options{FlushAfter: -1}, []string{"300ms: 5"}, []string{"300ms: 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream := coretest.Open(t, coretest.Items(rows), core.Query{Table: "items"}, c.options, core.Resources{})
				if diff := cmp.Diff(c.single, chunkTimes(t, stream)); diff != "" {
					t.Errorf("single rows (-want +got):\n%s", diff)
				}
				stream = coretest.Open(t, slowly(coretest.Numbered(t, 5), 60*time.Millisecond, false), core.Query{Table: "items"}, c.options, core.Resources{})
				if diff := cmp.Diff(c.pages, chunkTimes(t, stream)); diff != "" {
					t.Errorf("full pages (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestDuePagesReachTheConsumer tests that a page that is due makes a chunk at once,
// whatever the stream does with it.
func TestDuePagesReachTheConsumer(t *testing.T) {
	const second = time.Second
	each := []string{"1s: 1", "2s: 1", "3s: 1", "4s: 1"}
	atLeast := func(n int64) sources.Predicate {
		return sources.Comparison{Column: "id", Op: sources.OpGe, Value: sources.Int(n)}
	}
	for name, c := range map[string]struct {
		query   core.Query
		options core.Options
		cached  bool
		want    []string
	}{
		"plain":        {},
		"projected":    {query: core.Query{Columns: []string{"text"}}},
		"filtered":     {query: core.Query{Where: atLeast(2)}, want: []string{"3s: 1", "4s: 1"}},
		"limited":      {query: core.Query{Limit: 3}, want: each[:3]},
		"sorted":       {query: core.Query{OrderBy: []sources.Sort{{Column: "id", Desc: true}}}, want: []string{"4s: 4"}},
		"read ahead":   {options: core.Options{ReadAhead: true}},
		"with tokens":  {options: core.Options{Tokens: true}},
		"shared scan":  {cached: true},
		"cached":       {cached: true, options: core.Options{Caching: cache.Policy{Mode: cache.ModeRefresh}}},
		"bypassed":     {cached: true, options: core.Options{Caching: cache.Policy{Mode: cache.ModeBypass}}},
		"small memory": {options: coretest.SmallMemory(core.Options{})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := coretest.Restrict(t, slowly(coretest.Numbered(t, 4), second, true), func(table *sources.Table) {
					table.Capabilities, table.Filters = sources.CapStable, nil
				})
				var r core.Resources
				if c.cached {
					r = coretest.WithCache(coretest.NewCache(t, cache.Options{}), nil)
				}
				c.query.Table = "items"
				want := c.want
				if want == nil {
					want = each
				}
				if diff := cmp.Diff(want, chunkTimes(t, coretest.Open(t, source, c.query, c.options, r))); diff != "" {
					t.Errorf("chunks (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestDueWithPartitions tests that pages which are due reach the consumer from a
// parallel read.
func TestDueWithPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := slowly(coretest.Numbered(t, 5000), time.Second, true)
		stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{Parallel: 2, Unordered: true, FlushAfter: -1}, core.Resources{})
		started := time.Now()
		for _, err := range stream.Chunks() {
			if err != nil || time.Since(started) != time.Second {
				t.Errorf("%v after %s", err, time.Since(started))
			}
			break
		}
	})
}

// TestDueWithoutMatches tests that a row that was found is yielded although the pages
// after it have no row that meets the condition.
func TestDueWithoutMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := coretest.Restrict(t, slowly(coretest.Numbered(t, 100), 60*time.Millisecond, false), func(table *sources.Table) {
			table.Capabilities, table.Filters = sources.CapStable|sources.CapResume, nil
		})
		q := core.Query{Table: "items", Where: sources.Comparison{Column: "id", Op: sources.OpLt, Value: sources.Int(1)}}
		got := chunkTimes(t, coretest.Open(t, source, q, core.Options{FlushAfter: sources.DefaultFlushAfter}, core.Resources{}))
		if diff := cmp.Diff([]string{"180ms: 1"}, got); diff != "" {
			t.Errorf("chunks (-want +got):\n%s", diff)
		}
	})
}

// TestDueWithRelations tests that a chunk that is due does not wait for the next one
// when relations are looked up ahead.
func TestDueWithRelations(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			source := slowly(coretest.Library(t), time.Second, true)
			q := core.Query{Table: "books", Limit: 3}
			q.Load.Required = coretest.ParseLoad(t, "author")
			got := chunkTimes(t, coretest.Open(t, source, q, core.Options{ReadAhead: ahead}, core.Resources{}))
			if diff := cmp.Diff([]string{"1s: 1", "2s: 1", "3s: 1"}, got); diff != "" {
				t.Errorf("read ahead %t: chunks (-want +got):\n%s", ahead, diff)
			}
		})
	}
}
