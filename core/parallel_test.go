package core_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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

// parted returns a source of a table "items" of n rows in three partitions. change,
// if not nil, replaces its scans.
func parted(t *testing.T, n int, change testkit.Change) sources.Source {
	t.Helper()
	source, err := testkit.NewMemory([]testkit.MemoryTable{{Name: "items", Schema: coretest.ItemSchema, Key: []string{"id"}, Rows: func(yield func([]any) bool) {
		for row, err := range coretest.ItemRows(n, nil) {
			if err != nil || !yield(row.Values) {
				return
			}
		}
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change == nil {
		return source
	}
	return testkit.Wrap(source, change)
}

// TestPartsInOrder tests that reading partitions in parallel yields the rows of a
// single scan in the same order, or, if unordered, the same rows.
func TestPartsInOrder(t *testing.T) {
	budget, source := coretest.NewBudget(t), parted(t, 6_000, nil)
	one := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: budget})
	if _, err := coretest.IDs(one); err != nil {
		t.Fatal(err)
	}
	for _, parallel := range []int{1, 2, 3, 8} {
		for _, ahead := range []bool{false, true} {
			for _, memory := range []int64{1 << 20, 32 << 20} {
				o := core.Options{Parallel: parallel, Memory: memory, ReadAhead: ahead}
				got := coretest.Open(t, source, core.Query{Table: "items"}, o, core.Resources{Budget: budget})
				if _, err := coretest.IDs(got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(one.Receipt(), got.Receipt(), ignored); diff != "" {
					t.Errorf("%d at once: %s", parallel, diff)
				}
				if r := got.Receipt(); r.PeakBytes > memory {
					t.Errorf("%d at once: held %d bytes, limit %d", parallel, r.PeakBytes, memory)
				}
				o.Unordered = true
				mixed := coretest.Open(t, source, core.Query{Table: "items"}, o, core.Resources{Budget: budget})
				all, err := coretest.IDs(mixed)
				if err != nil {
					t.Fatal(err)
				}
				if mixed.Receipt().Digest.AnyOrder() != one.Receipt().Digest.AnyOrder() {
					t.Errorf("%d at once, unordered: the digest in any order differs", parallel)
				}
				if slices.Sort(all); !slices.Equal(all, coretest.IDRange(0, 6_000)) {
					t.Errorf("%d at once, unordered: got %d rows that differ", parallel, len(all))
				}
			}
		}
	}
}

// TestPartsAtOnce tests that partitions are scanned in parallel: each scan waits
// until three run.
func TestPartsAtOnce(t *testing.T) {
	for _, unordered := range []bool{false, true} {
		var running sync.WaitGroup
		running.Add(3)
		source := parted(t, 3000, func(_ context.Context, env sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				if q.Part == nil || env.MaxScans != 3 {
					yield(sources.Batch{}, fmt.Errorf("Env.Scans is %d and the query's part %q, want 3 scans and a part", env.MaxScans, q.Part))
					return
				}
				running.Done()
				running.Wait()
				scan(yield)
			}
		})
		got, err := coretest.IDs(coretest.Open(t, source, core.Query{Table: "items"}, core.Options{Parallel: 3, Unordered: unordered}, core.Resources{Budget: coretest.NewBudget(t)}))
		if err != nil || len(got) != 3000 {
			t.Errorf("got %d rows, error: %v", len(got), err)
		}
	}
}

// TestPartsAreBounded tests that workers stop reading while the consumer does not
// take pages.
func TestPartsAreBounded(t *testing.T) {
	const memory = 1 << 20
	var pages atomic.Int64
	source := parted(t, 30_000, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			for b, err := range scan {
				pages.Add(1)
				if !yield(b, err) {
					return
				}
			}
		}
	})
	stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{Parallel: 3, Memory: memory, ChunkRows: 100}, core.Resources{Budget: coretest.NewBudget(t)})
	for range stream.Chunks() {
		break
	}
	if r := stream.Receipt(); r.PeakBytes > memory || r.Complete {
		t.Errorf("%+v", r)
	}
	// With this memory, three workers read pages of 21 KiB, of which the table has
	// about 60. Each worker holds one page, six are queued, and few were taken.
	if n := pages.Load(); n > 3+6+5 {
		t.Errorf("read %d pages for the first chunk", n)
	}
}

// TestPartsFail tests that an error or a panic of one partition, or the end of the
// context, ends the stream after the rows that precede it.
func TestPartsFail(t *testing.T) {
	for name, c := range map[string]struct {
		kind sources.Kind
		do   func(cancel func(), yield func(sources.Batch, error) bool)
	}{
		"error": {sources.Unavailable, func(_ func(), yield func(sources.Batch, error) bool) {
			yield(sources.Batch{}, sources.Errorf(sources.Unavailable, "", "", "gone"))
		}},
		"panic": {sources.Internal, func(func(), func(sources.Batch, error) bool) { panic("oh") }},
		"context": {sources.Canceled, func(cancel func(), yield func(sources.Batch, error) bool) {
			cancel()
			yield(sources.Batch{}, context.Canceled)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			source := parted(t, 3000, func(_ context.Context, _ sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
				return func(yield func(sources.Batch, error) bool) {
					if q.Part[0] != 0 { // the first row of the partition
						c.do(cancel, yield)
						return
					}
					scan(yield)
				}
			})
			stream, err := core.Open(ctx, source, core.Query{Table: "items"}, core.Options{Parallel: 2}, core.Resources{Budget: coretest.NewBudget(t)})
			if err != nil {
				t.Fatal(err)
			}
			got, err := coretest.IDs(stream)
			if sources.KindOf(err) != c.kind || c.kind != sources.Canceled && !slices.Equal(got, coretest.IDRange(0, 1000)) {
				t.Errorf("got %d rows, error: %v", len(got), err)
			}
			if stream.Receipt().Complete {
				t.Error("the receipt is complete")
			}
		})
	}
}

// TestPartsAndThePanicOfTheConsumer tests that a panic of the consumer is not
// changed and leaves no memory in use.
func TestPartsAndThePanicOfTheConsumer(t *testing.T) {
	stream := coretest.Open(t, parted(t, 3000, nil), core.Query{Table: "items"}, core.Options{Parallel: 3}, core.Resources{Budget: coretest.NewBudget(t)})
	defer func() {
		if r := recover(); r != "mine" {
			t.Errorf("recovered %v", r)
		}
	}()
	for range stream.Chunks() {
		panic("mine")
	}
}

// TestPartsNotDivided tests that a query whose order or limit the table handles is
// read in one scan.
func TestPartsNotDivided(t *testing.T) {
	for name, q := range map[string]core.Query{
		"order": {Table: "items", OrderBy: []sources.Sort{{Column: "id", Desc: true}}}, "limit": {Table: "items", Limit: 5},
	} {
		source := parted(t, 3000, func(_ context.Context, _ sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
			if q.Part != nil {
				t.Errorf("%s: the query has a part", name)
			}
			return scan
		})
		if _, err := coretest.IDs(coretest.Open(t, source, q, core.Options{Parallel: 3}, core.Resources{Budget: coretest.NewBudget(t)})); err != nil {
			t.Error(err)
		}
	}
	if _, err := core.Open(t.Context(), parted(t, 1, nil), core.Query{Table: "items"}, core.Options{Parallel: -1}, core.Resources{}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("%v", err)
	}
}

// TestExplainParts tests that an explanation says how many partitions are read at once,
// or why the table is read in one scan.
func TestExplainParts(t *testing.T) {
	source := parted(t, 3000, nil)
	for _, c := range []struct {
		q    core.Query
		o    core.Options
		want core.Explanation // of which the three fields count
	}{
		{core.Query{Table: "items"}, core.Options{}, core.Explanation{}},
		{core.Query{Table: "items"}, core.Options{Parallel: 2}, core.Explanation{Parallel: 2, Partitions: 3}},
		{core.Query{Table: "items"}, core.Options{Parallel: 9}, core.Explanation{Parallel: 3, Partitions: 3}},
		{core.Query{Table: "items", Limit: 5}, core.Options{Parallel: 2}, core.Explanation{OneScan: "the source limits the rows"}},
		{core.Query{Table: "items"}, core.Options{Parallel: 2, Tokens: true}, core.Explanation{Parallel: 2, Partitions: 3}},
	} {
		e, err := core.Explain(t.Context(), source, c.q, c.o)
		if err != nil {
			t.Fatal(err)
		}
		if e.Parallel != c.want.Parallel || e.Partitions != c.want.Partitions || e.OneScan != c.want.OneScan {
			t.Errorf("%+v, %+v: %d of %d partitions, %q", c.q, c.o, e.Parallel, e.Partitions, e.OneScan)
		}
	}
}

// TestCachedPartitionsKeepTheirOrder tests that a stream whose rows come partition by
// partition does not get the cached rows of one that takes them as they arrive.
func TestCachedPartitionsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := testkit.Wrap(coretest.Numbered(t, 3000), func(_ context.Context, _ sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
			slow := q.Part != nil && q.Part[0] == 0 // the first partition comes last
			return func(yield func(sources.Batch, error) bool) {
				if slow {
					time.Sleep(time.Second)
				}
				scan(yield)
			}
		})
		r := coretest.WithCache(coretest.NewCache(t, cache.Options{}), nil)
		read := func(unordered bool) []int64 {
			got, err := coretest.IDs(coretest.Open(t, source, core.Query{Table: "items"}, core.Options{Parallel: 3, Unordered: unordered}, r))
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if got := read(true); slices.IsSorted(got) {
			t.Error("the first partition did not come last")
		}
		if got := read(false); !slices.Equal(got, coretest.IDRange(0, 3000)) {
			t.Errorf("the rows begin with %d", got[0])
		}
	})
}
