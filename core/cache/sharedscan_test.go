package cache_test

import (
	"errors"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
)

// TestTwoStreamsOfOneGoroutine tests that one goroutine can read two streams of the
// same query in turn: neither blocks the other, and the source is scanned once.
func TestTwoStreamsOfOneGoroutine(t *testing.T) {
	budget := coretest.NewBudget(t)
	source := newCounted(5000)
	testCache := coretest.NewCache(t, cache.Options{Budget: budget})
	a := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(testCache, budget))
	b := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(testCache, budget))
	nextA, stopA := iter.Pull2(a.Chunks())
	defer stopA()
	nextB, stopB := iter.Pull2(b.Chunks())
	defer stopB()
	for moreA, moreB := true, true; moreA || moreB; {
		for _, next := range []struct {
			next func() (*core.Chunk, error, bool)
			more *bool
		}{{nextA, &moreA}, {nextB, &moreB}} {
			_, err, ok := next.next()
			if err != nil {
				t.Fatal(err)
			}
			*next.more = ok
		}
	}
	if a.Receipt().Digest != b.Receipt().Digest || a.Receipt().Cache != cache.Miss || b.Receipt().Cache != cache.Shared || source.scans.Load() != 1 {
		t.Errorf("%d scans:\n%+v\n%+v", source.scans.Load(), a.Receipt(), b.Receipt())
	}
}

// TestFollowersGoOnAlone tests that a follower gets all rows if the leader of the
// shared scan is closed, fails, or reads too many rows to store.
func TestFollowersGoOnAlone(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*counted, *core.Stream)
		maxEntry int64
		want     string
		scans    int64
	}{
		{name: "left", change: func(_ *counted, s *core.Stream) { s.Close() }, want: cache.Shared, scans: 1},
		{name: "fails", change: func(c *counted, _ *core.Stream) {
			c.breakAt.Store(4000)
			c.onRow = func(i int) {
				if i == 4000 && c.scans.Load() > 1 {
					c.breakAt.Store(0)
				}
			}
		}, want: cache.Miss, scans: 2},
		{name: "too large", change: func(*counted, *core.Stream) {}, maxEntry: 40 << 10, want: cache.Miss, scans: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			budget := coretest.NewBudget(t)
			source := newCounted(5000)
			cache := coretest.NewCache(t, cache.Options{Budget: budget, MaxEntryBytes: c.maxEntry})
			leader := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(cache, budget))
			follower := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(cache, budget))
			next, stop := iter.Pull2(leader.Chunks())
			defer stop()
			if _, err, ok := next(); err != nil || !ok {
				t.Fatal(err)
			}
			c.change(source, leader)
			got, err := coretest.IDs(follower)
			if diff := cmp.Diff(coretest.IDRange(0, 5000), got); diff != "" || err != nil {
				t.Errorf("%v, ids (-want +got):\n%s", err, diff)
			}
			if r := follower.Receipt(); r.Cache != c.want || source.scans.Load() != c.scans {
				t.Errorf("%d scans, %s", source.scans.Load(), r.Cache)
			}
		})
	}
}

// TestCloseFaultKeepsRows tests that a stream gets its rows although a session that it
// shared, or only planned with, cannot be closed: closing the stream returns that error.
func TestCloseFaultKeepsRows(t *testing.T) {
	budget := coretest.NewBudget(t)
	source := newCounted(5000)
	source.version.Store(1)
	source.closeErr = errors.New("the farewell failed")
	r := coretest.WithCache(coretest.NewCache(t, cache.Options{Budget: budget}), budget)
	open := func() *core.Stream {
		stream, err := core.Open(t.Context(), source, core.Query{Table: "items"}, core.Options{}, r)
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	read := func(stream *core.Stream, want string) {
		got, err := coretest.IDs(stream)
		if err != nil || len(got) != 5000 || stream.Receipt().Cache != want {
			t.Errorf("%d rows, %s: %v", len(got), stream.Receipt().Cache, err)
		}
		if err := stream.Close(); !errors.Is(err, source.closeErr) {
			t.Errorf("close: %v", err)
		}
	}
	leader, follower := open(), open()
	if err := leader.Close(); err != nil {
		t.Errorf("the follower still uses the session: %v", err)
	}
	read(follower, cache.Shared)
	source.version.Store(2) // the cached entry is outdated, which takes a session to find out
	read(open(), cache.Miss)
}

// TestLeaderReadsOn tests that the leader gets all rows if they are too many to
// store, and that the next stream does not try to store them.
func TestLeaderReadsOn(t *testing.T) {
	budget := coretest.NewBudget(t)
	source := newCounted(50_000)
	plain := readItems(t, source, core.Options{}, core.Resources{Budget: budget})
	testCache := coretest.NewCache(t, cache.Options{Budget: budget, MaxEntryBytes: 100 << 10})
	first := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget))
	begun := source.begun.Load()
	again := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget))
	for _, r := range []core.Receipt{first, again} {
		if r.Digest != plain.Digest || r.Cache != cache.Miss || !r.Complete {
			t.Errorf("%+v", r)
		}
	}
	if s := testCache.Stats(); s.Entries != 0 || s.Bytes != 0 || s.Kept != 0 || source.begun.Load() != begun+1 {
		t.Errorf("%+v, %d sessions", s, source.begun.Load())
	}
	// The plan of a whole table can tell the size beforehand.
	source = newCounted(50_000)
	source.estimated = 1 << 30
	testCache = coretest.NewCache(t, cache.Options{Budget: budget})
	if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget)); r.Digest != plain.Digest || testCache.Stats().Kept != 0 {
		t.Errorf("%+v, %+v", r, testCache.Stats())
	}
}

// TestManyReadersOneScan tests that concurrent streams of the same query share one
// scan.
func TestManyReadersOneScan(t *testing.T) {
	budget := coretest.NewBudget(t)
	source := newCounted(5000)
	cache := coretest.NewCache(t, cache.Options{Budget: budget})
	const readers = 8
	var all sync.WaitGroup
	streams := make([]*core.Stream, readers)
	for i := range streams {
		streams[i] = coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(cache, budget))
	}
	for _, s := range streams {
		all.Go(func() {
			if got, err := coretest.IDs(s); err != nil || len(got) != 5000 {
				t.Errorf("%d rows and %v", len(got), err)
			}
		})
	}
	all.Wait()
	if s := cache.Stats(); source.scans.Load() != 1 || s.Shared != readers-1 || s.Misses != 1 {
		t.Errorf("%d scans, %+v", source.scans.Load(), s)
	}
}

// TestFollowersHavePatience tests that a follower waits for a slow leader for a
// limited time, and then scans the source itself.
func TestFollowersHavePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newCounted(1000)
		source.onRow = func(int) { time.Sleep(200 * time.Millisecond) }
		testCache := coretest.NewCache(t, cache.Options{})
		leader := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(testCache, nil))
		follower := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(testCache, nil))
		started := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			if got, err := coretest.IDs(leader); err != nil || len(got) != 1000 {
				t.Errorf("%d rows and %v", len(got), err)
			}
		})
		for range follower.Chunks() {
			break
		}
		// 20 seconds for the first page of the shared scan, 20 seconds of waiting, and
		// 200 for the first chunk.
		if waited := time.Since(started); waited > 250*time.Second || follower.Receipt().Cache != cache.Miss {
			t.Errorf("after %s: %+v", waited, follower.Receipt())
		}
		all.Wait()
	})
}
