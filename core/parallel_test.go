package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// parted is a table "items" of n rows in three partitions, whose scans change
// makes other scans of; nil leaves them.
func parted(t *testing.T, n int, change testkit.Change) sources.Source {
	t.Helper()
	source, err := testkit.NewMemory([]testkit.MemoryTable{{Name: "items", Schema: itemSchema, Key: []string{"id"}, Rows: func(yield func([]any) bool) {
		for row, err := range upTo(n, nil) {
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

// TestPartsInOrder: read in partitions, a table has the rows that it has read as
// one, in their order; without an order it has the same rows.
func TestPartsInOrder(t *testing.T) {
	budget, source := parent(t), parted(t, 6_000, nil)
	one := open(t, source, core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: budget})
	if _, err := ids(one); err != nil {
		t.Fatal(err)
	}
	for _, parallel := range []int{1, 2, 3, 8} {
		for _, ahead := range []bool{false, true} {
			for _, memory := range []int64{1 << 20, 32 << 20} {
				o := core.Options{Parallel: parallel, Memory: memory, ReadAhead: ahead}
				got := open(t, source, core.Query{Table: "items"}, o, core.Resources{Budget: budget})
				if _, err := ids(got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(one.Receipt(), got.Receipt(), ignored); diff != "" {
					t.Errorf("%d at once: %s", parallel, diff)
				}
				if r := got.Receipt(); r.PeakBytes > memory {
					t.Errorf("%d at once: %d bytes were held of %d", parallel, r.PeakBytes, memory)
				}
				o.Unordered = true
				all, err := ids(open(t, source, core.Query{Table: "items"}, o, core.Resources{Budget: budget}))
				if err != nil {
					t.Fatal(err)
				}
				if slices.Sort(all); !slices.Equal(all, count(0, 6_000)) {
					t.Errorf("%d at once, without an order: %d rows are others", parallel, len(all))
				}
			}
		}
	}
}

// TestPartsAtOnce: each scan waits until as many run as there should be.
func TestPartsAtOnce(t *testing.T) {
	for _, unordered := range []bool{false, true} {
		var running sync.WaitGroup
		running.Add(3)
		source := parted(t, 3000, func(_ context.Context, env sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				if q.Part == nil || env.MaxScans != 3 {
					yield(sources.Batch{}, fmt.Errorf("a session of %d scans is asked for the part %q", env.MaxScans, q.Part))
					return
				}
				running.Done()
				running.Wait()
				scan(yield)
			}
		})
		got, err := ids(open(t, source, core.Query{Table: "items"}, core.Options{Parallel: 3, Unordered: unordered}, core.Resources{Budget: parent(t)}))
		if err != nil || len(got) != 3000 {
			t.Errorf("%d rows, %v", len(got), err)
		}
	}
}

// TestPartsAreBounded: lanes that nobody takes anything from stop.
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
	stream := open(t, source, core.Query{Table: "items"}, core.Options{Parallel: 3, Memory: memory, ChunkRows: 100}, core.Resources{Budget: parent(t)})
	for range stream.Chunks() {
		break
	}
	if r := stream.Receipt(); r.PeakBytes > memory || r.Complete {
		t.Errorf("%+v", r)
	}
	// The table has some 60 pages of the 21 KiB that three lanes have in this
	// memory. One lane has one in its hands, six wait, and few were taken.
	if n := pages.Load(); n > 3+6+5 {
		t.Errorf("%d pages were read for the first chunk", n)
	}
}

// TestPartsFail: an error of one partition ends the stream after the rows that
// come before it; so do a panic, and the end of the context.
func TestPartsFail(t *testing.T) {
	for name, c := range map[string]struct {
		kind sources.Kind
		do   func(cancel func(), yield func(sources.Batch, error) bool)
	}{
		"error": {sources.Unavailable, func(_ func(), yield func(sources.Batch, error) bool) {
			yield(sources.Batch{}, &sources.Error{Kind: sources.Unavailable, Err: errors.New("gone")})
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
					if q.Part[0] != 0 { // where it begins
						c.do(cancel, yield)
						return
					}
					scan(yield)
				}
			})
			stream, err := core.Open(ctx, source, core.Query{Table: "items"}, core.Options{Parallel: 2}, core.Resources{Budget: parent(t)})
			if err != nil {
				t.Fatal(err)
			}
			got, err := ids(stream)
			if sources.KindOf(err) != c.kind || c.kind != sources.Canceled && !slices.Equal(got, count(0, 1000)) {
				t.Errorf("%d rows, then %v", len(got), err)
			}
			if stream.Receipt().Complete {
				t.Error("the receipt says that it is complete")
			}
		})
	}
}

// TestPartsAndThePanicOfTheConsumer: it passes through, and nothing is left.
func TestPartsAndThePanicOfTheConsumer(t *testing.T) {
	stream := open(t, parted(t, 3000, nil), core.Query{Table: "items"}, core.Options{Parallel: 3}, core.Resources{Budget: parent(t)})
	defer func() {
		if r := recover(); r != "mine" {
			t.Errorf("the panic became %v", r)
		}
	}()
	for range stream.Chunks() {
		panic("mine")
	}
}

// TestPartsNotDivided: what one scan must answer is asked of one.
func TestPartsNotDivided(t *testing.T) {
	for name, q := range map[string]core.Query{
		"order": {Table: "items", OrderBy: []sources.Sort{{Column: "id", Desc: true}}}, "limit": {Table: "items", Limit: 5},
	} {
		source := parted(t, 3000, func(_ context.Context, _ sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
			if q.Part != nil {
				t.Errorf("%s: a part is asked for", name)
			}
			return scan
		})
		if _, err := ids(open(t, source, q, core.Options{Parallel: 3}, core.Resources{Budget: parent(t)})); err != nil {
			t.Error(err)
		}
	}
	if _, err := core.Open(t.Context(), parted(t, 1, nil), core.Query{Table: "items"}, core.Options{Parallel: -1}, core.Resources{}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("%v", err)
	}
}
