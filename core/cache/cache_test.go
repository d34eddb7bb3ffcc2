package cache_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// TestCacheHits tests that a second stream of the same query is read from the cache,
// until Clear.
func TestCacheHits(t *testing.T) {
	budget := coretest.NewBudget(t)
	for _, rows := range []int64{0, 1, 5000} {
		source := newCounted(rows)
		testCache := coretest.NewCache(t, cache.Options{Budget: budget})
		first := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget))
		again := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget))
		if first.Cache != cache.Miss || again.Cache != cache.Hit {
			t.Errorf("%d rows: %s, then %s", rows, first.Cache, again.Cache)
		}
		if again.Digest != first.Digest || again.Rows != rows || !again.Complete {
			t.Errorf("%d rows: the hit's receipt is %+v, the miss's %+v", rows, again, first)
		}
		if source.scans.Load() != 1 || source.begun.Load() != 1 || source.open.Load() != 0 {
			t.Errorf("%d rows: %d scans, %d sessions, %d open", rows, source.scans.Load(), source.begun.Load(), source.open.Load())
		}
		if s := testCache.Stats(); s.Hits != 1 || s.Misses != 1 || s.Kept != 1 || s.Entries != 1 || s.HitRate() != 0.5 || s.Bytes == 0 {
			t.Errorf("%d rows: %+v", rows, s)
		}
		testCache.Clear()
		if held := testCache.Budget().Held(); held != 0 {
			t.Errorf("%d rows: %d bytes are held after Clear", rows, held)
		}
		if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget)); r.Cache != cache.Miss || r.Digest != first.Digest {
			t.Errorf("%d rows: after Clear %+v", rows, r)
		}
	}
}

// TestCachedPagesFitSmallerStreams tests that streams with less memory, or degraded
// ones, can read the pages that a stream with much memory stored.
func TestCachedPagesFitSmallerStreams(t *testing.T) {
	mem := coretest.NewBudget(t)
	source := newCounted(20_000)
	source.pageRows = 1 << 20
	testCache := coretest.NewCache(t, cache.Options{Budget: mem, MaxBytes: 16 << 20})
	first := readItems(t, source, core.Options{}, coretest.WithCache(testCache, mem))
	for _, o := range []core.Options{
		{Memory: 128 << 10}, {Memory: 1 << 20}, {ChunkRows: 7}, {ReadAhead: true},
		{Pressure: budget.Pressure{Degrade: 0.002, Recover: 0.001, Pause: 0.9}}, // degraded from the first page on
	} {
		stream := coretest.Open(t, source, core.Query{Table: "items"}, o, coretest.WithCache(testCache, mem))
		for chunk, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			_ = chunk
			if held := stream.Budget().Held(); held > stream.Budget().Limit() {
				t.Fatalf("%d bytes are held", held)
			}
		}
		if r := stream.Receipt(); r.Cache != cache.Hit || r.Digest != first.Digest || r.PeakBytes > r.LimitBytes {
			t.Errorf("%+v: %+v", o, r)
		}
		if o.Pressure.Degrade > 0 && stream.Receipt().LevelChanges == 0 {
			t.Error("the stream was never degraded")
		}
	}
	if source.scans.Load() != 1 {
		t.Errorf("%d scans", source.scans.Load())
	}
}

// TestRetainedHitsOutliveTheCache tests that retained records from the cache stay
// valid when their entry is dropped, and count toward the stream that retains them.
func TestRetainedHitsOutliveTheCache(t *testing.T) {
	budget := coretest.NewBudget(t)
	source := newCounted(3000)
	cache := coretest.NewCache(t, cache.Options{Budget: budget})
	readItems(t, source, core.Options{}, coretest.WithCache(cache, budget))
	stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(cache, budget))
	var kept []*core.Chunk
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		chunk.Record.Retain()
		kept = append(kept, chunk)
		cache.Clear()
	}
	if stream.Budget().Live() == 0 {
		t.Error("retained records do not count toward their stream")
	}
	var got []int64
	for _, chunk := range kept {
		got = append(got, coretest.RecordIDs(chunk.Record)...)
		chunk.Record.Release()
	}
	if diff := cmp.Diff(coretest.IDRange(0, 3000), got); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if held := cache.Budget().Held(); held != 0 || stream.Budget().Live() != 0 {
		t.Errorf("%d bytes are held, %d live", held, stream.Budget().Live())
	}
}

// TestNothingPartialIsKept tests that the rows of a stream that failed, was left
// early or was canceled are not stored.
func TestNothingPartialIsKept(t *testing.T) {
	budget := coretest.NewBudget(t)
	for _, refresh := range []bool{false, true} { // a shared scan, and a scan of the stream's own
		source := newCounted(5000)
		testCache := coretest.NewCache(t, cache.Options{Budget: budget})
		var o core.Options
		if refresh {
			o.Caching.Mode = cache.ModeRefresh
		}
		source.breakAt.Store(2500)
		stream := coretest.Open(t, source, core.Query{Table: "items"}, o, coretest.WithCache(testCache, budget))
		if got, err := coretest.IDs(stream); len(got) == 0 || len(got) > 2500 || sources.KindOf(err) != sources.Unavailable || !strings.HasPrefix(err.Error(), "scan items: unavailable: the cable is cut") {
			t.Errorf("%d rows and %v", len(got), err)
		}
		source.breakAt.Store(0)
		stream = coretest.Open(t, source, core.Query{Table: "items"}, o, coretest.WithCache(testCache, budget))
		for range stream.Chunks() {
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := core.Open(ctx, source, core.Query{Table: "items"}, o, coretest.WithCache(testCache, budget))
		if err != nil {
			t.Error(err)
			cancel()
			return
		}
		for range stream.Chunks() {
			cancel()
		}
		cancel()
		if s := testCache.Stats(); s.Entries != 0 || s.Kept != 0 || s.Bytes != 0 {
			t.Errorf("refresh %t: %+v", refresh, s)
		}
		if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget)); r.Cache != cache.Miss || r.Rows != 5000 {
			t.Errorf("refresh %t: %+v", refresh, r)
		}
		if source.open.Load() != 0 {
			t.Errorf("refresh %t: %d sessions are open", refresh, source.open.Load())
		}
	}
}

// TestVersions tests that an entry serves one version of the table, and that rows
// are not stored if the version changes while they are read.
func TestVersions(t *testing.T) {
	budget := coretest.NewBudget(t)
	source := newCounted(5000)
	source.version.Store(1)
	testCache := coretest.NewCache(t, cache.Options{Budget: budget})
	first := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget))
	if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget)); r.Cache != cache.Hit || r.Digest != first.Digest || source.scans.Load() != 1 {
		t.Errorf("%d scans, %+v", source.scans.Load(), r)
	}
	source.version.Store(2)
	second := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget))
	if second.Cache != cache.Miss || second.Digest == first.Digest || testCache.Stats().Evictions.Version != 1 {
		t.Errorf("%+v, %+v", second, testCache.Stats())
	}
	source.version.Store(3)
	source.onRow = func(i int) {
		if i == 2000 {
			source.version.Store(4)
		}
	}
	if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget)); r.Cache != cache.Miss || testCache.Stats().Entries != 0 {
		t.Errorf("%+v, %+v", r, testCache.Stats())
	}
	if source.open.Load() != 0 {
		t.Errorf("%d sessions are open", source.open.Load())
	}
}

// TestInvalidate tests that invalidated entries are dropped, that a scan which runs
// at the time is not stored, and that other tables and sources keep theirs.
func TestInvalidate(t *testing.T) {
	budget := coretest.NewBudget(t)
	source := newCounted(5000)
	testCache := coretest.NewCache(t, cache.Options{Budget: budget})
	readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget))
	testCache.Invalidate(coretest.SourceID, "others")
	testCache.Invalidate(query.Identify("another"), "")
	if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, budget)); r.Cache != cache.Hit {
		t.Errorf("%+v", r)
	}
	testCache.Invalidate(coretest.SourceID, "items")
	if s := testCache.Stats(); s.Entries != 0 || s.Evictions.Invalidated != 1 {
		t.Errorf("%+v", s)
	}
	leader := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(testCache, budget))
	follower := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(testCache, budget))
	for chunk, err := range leader.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		_ = chunk
		testCache.Invalidate(coretest.SourceID, "")
	}
	if got, err := coretest.IDs(follower); err != nil || len(got) != 5000 || follower.Receipt().Cache != cache.Miss {
		t.Errorf("%d rows, %v, %+v", len(got), err, follower.Receipt())
	}
	if s := testCache.Stats(); s.Entries != 0 {
		t.Errorf("%+v", s)
	}
}

// TestTTL tests that entries expire, and that the modes refresh and bypass ignore
// them.
func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newCounted(500)
		testCache := coretest.NewCache(t, cache.Options{})
		readItems(t, source, core.Options{}, coretest.WithCache(testCache, nil))
		time.Sleep(cache.DefaultTTL - time.Second)
		if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, nil)); r.Cache != cache.Hit || r.CacheAge != cache.DefaultTTL-time.Second {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Second)
		if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, nil)); r.Cache != cache.Miss || testCache.Stats().Evictions.TTL != 1 {
			t.Errorf("%+v, %+v", r, testCache.Stats())
		}
		var o core.Options
		o.Caching.Mode, o.Caching.TTL = cache.ModeRefresh, time.Second
		if r := readItems(t, source, o, coretest.WithCache(testCache, nil)); r.Cache != cache.Miss || testCache.Stats().Evictions.Replaced != 1 {
			t.Errorf("%+v, %+v", r, testCache.Stats())
		}
		o.Caching.Mode = cache.ModeBypass
		if r := readItems(t, source, o, coretest.WithCache(testCache, nil)); r.Cache != cache.Bypassed {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Second)
		if r := readItems(t, source, core.Options{}, coretest.WithCache(testCache, nil)); r.Cache != cache.Miss || source.scans.Load() != 5 {
			t.Errorf("%d scans, %+v", source.scans.Load(), r)
		}
	})
}

// TestCacheGivesWay tests that the cache evicts entries when another budget needs
// the memory.
func TestCacheGivesWay(t *testing.T) {
	mem, err := budget.New("host", 8<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	cache := coretest.NewCache(t, cache.Options{Budget: mem, MaxBytes: 8 << 20, MaxEntryBytes: 4 << 20})
	for i := range 3 {
		source := newCounted(20_000)
		r := coretest.WithCache(cache, mem)
		r.SourceID = query.Identify(fmt.Sprint(i))
		readItems(t, source, core.Options{Memory: 2 << 20}, r)
	}
	if s := cache.Stats(); s.Entries != 3 {
		t.Fatalf("%+v", s)
	}
	held := cache.Budget().Held()
	hungry, err := budget.New("hungry", 8<<20, mem)
	if err != nil {
		t.Fatal(err)
	}
	buffer := hungry.Allocate(7 << 20)
	if s := cache.Stats(); s.Evictions.Pressure == 0 || s.Bytes >= held {
		t.Errorf("%+v", s)
	}
	hungry.Free(buffer)
	hungry.Close()
}

// TestCacheBounds tests the limits on the number and the size of entries.
func TestCacheBounds(t *testing.T) {
	read := func(cache *cache.Cache, i int) {
		r := coretest.WithCache(cache, nil)
		r.SourceID = query.Identify(fmt.Sprint(i))
		readItems(t, newCounted(1000), core.Options{}, r)
	}
	testCache := coretest.NewCache(t, cache.Options{MaxEntries: 3})
	for i := range 5 {
		read(testCache, i)
		read(testCache, 0) // used last, and so not evicted
	}
	if s := testCache.Stats(); s.Entries != 3 || s.Evictions.LRU != 2 || s.Hits != 5 {
		t.Errorf("%+v", s)
	}
	testCache = coretest.NewCache(t, cache.Options{MaxBytes: 200 << 10})
	for i := range 20 {
		read(testCache, i)
	}
	if s := testCache.Stats(); s.Bytes > 200<<10 || s.Entries == 0 || s.Evictions.Bytes != 20-uint64(s.Entries) {
		t.Errorf("%+v", s)
	}
}

// TestCachingFaults tests that invalid options are rejected, and that the error of
// Begin is returned.
func TestCachingFaults(t *testing.T) {
	for _, o := range []cache.Options{{MaxBytes: -1}, {MaxEntries: -1}, {TTL: -1}, {MaxEntryBytes: -1}, {MaxBytes: 10, MaxEntryBytes: 11}, {MaxEntries: 1 << 30}} {
		if _, err := cache.New(o); sources.KindOf(err) != sources.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	testCache := coretest.NewCache(t, cache.Options{})
	for _, c := range []struct {
		source query.Fingerprint
		policy cache.Policy
	}{{}, {coretest.SourceID, cache.Policy{Mode: 9}}, {coretest.SourceID, cache.Policy{TTL: -1}}} {
		o, r := core.Options{Caching: c.policy}, core.Resources{Cache: testCache, SourceID: c.source}
		if _, err := core.Open(t.Context(), newCounted(1), core.Query{Table: "items"}, o, r); sources.KindOf(err) != sources.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
	source := newCounted(1)
	source.refuse.Store(true)
	_, err := core.Open(t.Context(), source, core.Query{Table: "items"}, core.Options{}, coretest.WithCache(testCache, coretest.NewBudget(t)))
	if want := "begin items: denied: not you"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
