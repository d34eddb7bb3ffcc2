package core_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// counted is a source of one table, "items", whose rows are those of its version,
// and which counts what is asked of it.
type counted struct {
	rows      atomic.Int64
	version   atomic.Int64 // 0 is none; the first row's text says it
	begun     atomic.Int64 // sessions
	open      atomic.Int64 // of those, not closed
	scans     atomic.Int64
	plans     atomic.Int64
	pageRows  int64
	breakAt   atomic.Int64 // the scan fails after so many rows; 0 never
	onRow     func(i int)
	refuse    atomic.Bool // sessions
	estimated int64
	silent    bool                      // the version is not told
	rowsOf    func(version int64) int64 // instead of rows
}

func newCounted(rows int64) *counted {
	c := &counted{pageRows: 100}
	c.rows.Store(rows)
	return c
}

func (c *counted) Catalog(context.Context) (*sources.Catalog, error) { return countedCatalog, nil }

var countedCatalog = &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: itemSchema, Rows: -1}}}

func (c *counted) Close() error { return nil }

func (c *counted) Begin(_ context.Context, env sources.Env) (sources.Session, error) {
	if c.refuse.Load() {
		return nil, &sources.Error{Op: "begin", Table: "items", Kind: sources.Denied, Err: errors.New("not you")}
	}
	c.begun.Add(1)
	c.open.Add(1)
	return &countedSession{counted: c, env: env}, nil
}

type countedSession struct {
	*counted
	env sources.Env
}

func (s *countedSession) Close() error {
	s.open.Add(-1)
	return nil
}

func (s *countedSession) Plan(context.Context, *sources.Query) (*sources.Plan, error) {
	s.plans.Add(1)
	plan := &sources.Plan{Rows: -1, Bytes: s.estimated}
	if v := s.version.Load(); v > 0 && !s.silent {
		plan.Version = fmt.Sprint(v)
	}
	return plan, nil
}

func (s *countedSession) Scan(ctx context.Context, _ *sources.Query) sources.Batches {
	env := s.env
	env.Page.Rows = min(env.Page.Rows, s.pageRows)
	return func(yield func(sources.Batch, error) bool) {
		s.scans.Add(1)
		sources.FromRows(env, itemSchema, s.all(ctx))(yield)
	}
}

func (s *countedSession) all(ctx context.Context) iter.Seq2[sources.Row, error] {
	version, rows := s.version.Load(), s.rows.Load()
	if s.rowsOf != nil {
		rows = s.rowsOf(version)
	}
	return func(yield func(sources.Row, error) bool) {
		for i := range rows {
			if s.onRow != nil {
				s.onRow(int(i))
			}
			if ctx.Err() != nil {
				yield(sources.Row{}, &sources.Error{Kind: sources.Canceled, Err: context.Cause(ctx)})
				return
			}
			if at := s.breakAt.Load(); at > 0 && i >= at {
				yield(sources.Row{}, &sources.Error{Kind: sources.Unavailable, Err: errors.New("the cable is cut")})
				return
			}
			row := sources.Row{Values: []any{i, strings.Repeat("x", int(i%50))}}
			if i == 0 {
				row.Values[1] = fmt.Sprint("version ", version)
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

var identity = query.Identify("counted", "test")

// newCache is a cache whose memory must be back when the test ends.
func newCache(t *testing.T, o cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if held := c.Budget().Held(); held != 0 {
			t.Errorf("the closed cache holds %d bytes", held)
		}
	})
	return c
}

func cached(c *cache.Cache, budget *budget.Budget) core.Resources {
	return core.Resources{Budget: budget, Cache: c, SourceID: identity}
}

// readItems reads a stream of items and returns its receipt.
func readItems(t *testing.T, source sources.Source, o core.Options, r core.Resources) core.Receipt {
	t.Helper()
	stream := open(t, source, core.Query{Table: "items"}, o, r)
	if _, err := ids(stream); err != nil {
		t.Fatal(err)
	}
	return stream.Receipt()
}

func TestCacheHits(t *testing.T) {
	budget := parent(t)
	for _, rows := range []int64{0, 1, 5000} {
		source := newCounted(rows)
		answers := newCache(t, cache.Options{Budget: budget})
		first := readItems(t, source, core.Options{}, cached(answers, budget))
		again := readItems(t, source, core.Options{}, cached(answers, budget))
		if first.Cache != cache.Miss || again.Cache != cache.Hit {
			t.Errorf("%d rows: %s, then %s", rows, first.Cache, again.Cache)
		}
		if again.Checksum != first.Checksum || again.Rows != rows || !again.Complete {
			t.Errorf("%d rows: the hit's receipt is %+v, the miss's %+v", rows, again, first)
		}
		if source.scans.Load() != 1 || source.begun.Load() != 1 || source.open.Load() != 0 {
			t.Errorf("%d rows: %d scans, %d sessions, %d open", rows, source.scans.Load(), source.begun.Load(), source.open.Load())
		}
		if s := answers.Stats(); s.Hits != 1 || s.Misses != 1 || s.Kept != 1 || s.Entries != 1 || s.HitRate() != 0.5 || s.Bytes == 0 {
			t.Errorf("%d rows: %+v", rows, s)
		}
		answers.Clear()
		if held := answers.Budget().Held(); held != 0 {
			t.Errorf("%d rows: %d bytes are held after Clear", rows, held)
		}
		if r := readItems(t, source, core.Options{}, cached(answers, budget)); r.Cache != cache.Miss || r.Checksum != first.Checksum {
			t.Errorf("%d rows: after Clear %+v", rows, r)
		}
	}
}

// TestCachedPagesFitSmallerStreams: what a stream with a large limit, and one of
// full speed, has read is found by one with a small limit and by a degraded one.
func TestCachedPagesFitSmallerStreams(t *testing.T) {
	mem := parent(t)
	source := newCounted(20_000)
	source.pageRows = 1 << 20
	answers := newCache(t, cache.Options{Budget: mem, MaxBytes: 16 << 20})
	first := readItems(t, source, core.Options{}, cached(answers, mem))
	for _, o := range []core.Options{
		{Memory: 128 << 10}, {Memory: 1 << 20}, {ChunkRows: 7}, {ReadAhead: true},
		{Pressure: budget.Pressure{Degrade: 0.002, Recover: 0.001, Pause: 0.9}}, // degraded from the first page on
	} {
		stream := open(t, source, core.Query{Table: "items"}, o, cached(answers, mem))
		for chunk, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			_ = chunk
			if held := stream.Budget().Held(); held > stream.Budget().Limit() {
				t.Fatalf("%d bytes are held", held)
			}
		}
		if r := stream.Receipt(); r.Cache != cache.Hit || r.Checksum != first.Checksum || r.PeakBytes > r.LimitBytes {
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

// TestRetainedHitsOutliveTheCache: what was lent is good until it is released.
func TestRetainedHitsOutliveTheCache(t *testing.T) {
	budget := parent(t)
	source := newCounted(3000)
	cache := newCache(t, cache.Options{Budget: budget})
	readItems(t, source, core.Options{}, cached(cache, budget))
	stream := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(cache, budget))
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
		t.Error("what the consumer holds does not count for its stream")
	}
	var got []int64
	for _, chunk := range kept {
		got = append(got, idsOf(chunk.Record)...)
		chunk.Record.Release()
	}
	if diff := cmp.Diff(count(0, 3000), got); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if held := cache.Budget().Held(); held != 0 || stream.Budget().Live() != 0 {
		t.Errorf("%d bytes are held, %d live", held, stream.Budget().Live())
	}
}

// TestNothingPartialIsKept: neither what failed, nor what was left, nor what was
// cancelled.
func TestNothingPartialIsKept(t *testing.T) {
	budget := parent(t)
	for _, alone := range []bool{false, true} { // a flight, and a stream that reads for itself
		source := newCounted(5000)
		answers := newCache(t, cache.Options{Budget: budget})
		var o core.Options
		if alone {
			o.Caching.Mode = cache.ModeRefresh
		}
		source.breakAt.Store(2500)
		stream := open(t, source, core.Query{Table: "items"}, o, cached(answers, budget))
		if got, err := ids(stream); len(got) != 2500 || sources.KindOf(err) != sources.Unavailable || !strings.HasPrefix(err.Error(), "scan items: unavailable: the cable is cut") {
			t.Errorf("%d rows and %v", len(got), err)
		}
		source.breakAt.Store(0)
		stream = open(t, source, core.Query{Table: "items"}, o, cached(answers, budget))
		for range stream.Chunks() {
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := core.Open(ctx, source, core.Query{Table: "items"}, o, cached(answers, budget))
		if err != nil {
			t.Error(err)
			cancel()
			return
		}
		for range stream.Chunks() {
			cancel()
		}
		cancel()
		if s := answers.Stats(); s.Entries != 0 || s.Kept != 0 || s.Bytes != 0 {
			t.Errorf("alone %t: %+v", alone, s)
		}
		if r := readItems(t, source, core.Options{}, cached(answers, budget)); r.Cache != cache.Miss || r.Rows != 5000 {
			t.Errorf("alone %t: %+v", alone, r)
		}
		if source.open.Load() != 0 {
			t.Errorf("alone %t: %d sessions are open", alone, source.open.Load())
		}
	}
}

// TestTwoStreamsOfOneGoroutine: it reads a chunk of the one, then of the other.
// Neither waits for the other, and the source is asked once.
func TestTwoStreamsOfOneGoroutine(t *testing.T) {
	budget := parent(t)
	source := newCounted(5000)
	answers := newCache(t, cache.Options{Budget: budget})
	a := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(answers, budget))
	b := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(answers, budget))
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
	if a.Receipt().Checksum != b.Receipt().Checksum || a.Receipt().Cache != cache.Miss || b.Receipt().Cache != cache.Shared || source.scans.Load() != 1 {
		t.Errorf("%d scans:\n%+v\n%+v", source.scans.Load(), a.Receipt(), b.Receipt())
	}
}

// TestFollowersGoOnAlone: the stream that began the scan is left, fails, or has
// an answer that is too large, while another waits for it.
func TestFollowersGoOnAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*counted, *core.Stream)
		answer int64
		want   string
		scans  int64
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
		{name: "too large", change: func(*counted, *core.Stream) {}, answer: 40 << 10, want: cache.Miss, scans: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			budget := parent(t)
			source := newCounted(5000)
			cache := newCache(t, cache.Options{Budget: budget, MaxEntryBytes: c.answer})
			leader := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(cache, budget))
			follower := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(cache, budget))
			next, stop := iter.Pull2(leader.Chunks())
			defer stop()
			if _, err, ok := next(); err != nil || !ok {
				t.Fatal(err)
			}
			c.change(source, leader)
			got, err := ids(follower)
			if diff := cmp.Diff(count(0, 5000), got); diff != "" || err != nil {
				t.Errorf("%v, ids (-want +got):\n%s", err, diff)
			}
			if r := follower.Receipt(); r.Cache != c.want || source.scans.Load() != c.scans {
				t.Errorf("%d scans, %s", source.scans.Load(), r.Cache)
			}
		})
	}
}

// TestLeaderReadsOn: an answer turns out to be too large, and its reader notices
// nothing. Who asks next does not try again.
func TestLeaderReadsOn(t *testing.T) {
	budget := parent(t)
	source := newCounted(50_000)
	plain := readItems(t, source, core.Options{}, core.Resources{Budget: budget})
	answers := newCache(t, cache.Options{Budget: budget, MaxEntryBytes: 100 << 10})
	first := readItems(t, source, core.Options{}, cached(answers, budget))
	begun := source.begun.Load()
	again := readItems(t, source, core.Options{}, cached(answers, budget))
	for _, r := range []core.Receipt{first, again} {
		if r.Checksum != plain.Checksum || r.Cache != cache.Miss || !r.Complete {
			t.Errorf("%+v", r)
		}
	}
	if s := answers.Stats(); s.Entries != 0 || s.Bytes != 0 || s.Kept != 0 || source.begun.Load() != begun+1 {
		t.Errorf("%+v, %d sessions", s, source.begun.Load())
	}
	// Of a whole table the source may know it before.
	source = newCounted(50_000)
	source.estimated = 1 << 30
	answers = newCache(t, cache.Options{Budget: budget})
	if r := readItems(t, source, core.Options{}, cached(answers, budget)); r.Checksum != plain.Checksum || answers.Stats().Kept != 0 {
		t.Errorf("%+v, %+v", r, answers.Stats())
	}
}

// TestManyReadersOneScan: all get the same, and the source is asked once.
func TestManyReadersOneScan(t *testing.T) {
	budget := parent(t)
	source := newCounted(5000)
	cache := newCache(t, cache.Options{Budget: budget})
	const readers = 8
	var all sync.WaitGroup
	streams := make([]*core.Stream, readers)
	for i := range streams {
		streams[i] = open(t, source, core.Query{Table: "items"}, core.Options{}, cached(cache, budget))
	}
	for _, s := range streams {
		all.Go(func() {
			if got, err := ids(s); err != nil || len(got) != 5000 {
				t.Errorf("%d rows and %v", len(got), err)
			}
		})
	}
	all.Wait()
	if s := cache.Stats(); source.scans.Load() != 1 || s.Shared != readers-1 || s.Misses != 1 {
		t.Errorf("%d scans, %+v", source.scans.Load(), s)
	}
}

// TestVersions: another version is another answer; one that changes while it is
// read is not kept; and the same one is not read again.
func TestVersions(t *testing.T) {
	budget := parent(t)
	source := newCounted(5000)
	source.version.Store(1)
	answers := newCache(t, cache.Options{Budget: budget})
	first := readItems(t, source, core.Options{}, cached(answers, budget))
	if r := readItems(t, source, core.Options{}, cached(answers, budget)); r.Cache != cache.Hit || r.Checksum != first.Checksum || source.scans.Load() != 1 {
		t.Errorf("%d scans, %+v", source.scans.Load(), r)
	}
	source.version.Store(2)
	second := readItems(t, source, core.Options{}, cached(answers, budget))
	if second.Cache != cache.Miss || second.Checksum == first.Checksum || answers.Stats().Evictions.Version != 1 {
		t.Errorf("%+v, %+v", second, answers.Stats())
	}
	source.version.Store(3)
	source.onRow = func(i int) {
		if i == 2000 {
			source.version.Store(4)
		}
	}
	if r := readItems(t, source, core.Options{}, cached(answers, budget)); r.Cache != cache.Miss || answers.Stats().Entries != 0 {
		t.Errorf("%+v, %+v", r, answers.Stats())
	}
	if source.open.Load() != 0 {
		t.Errorf("%d sessions are open", source.open.Load())
	}
}

// TestInvalidate: what was asked before is not given again, also what is being
// read at that moment; other tables and sources stay.
func TestInvalidate(t *testing.T) {
	budget := parent(t)
	source := newCounted(5000)
	answers := newCache(t, cache.Options{Budget: budget})
	readItems(t, source, core.Options{}, cached(answers, budget))
	answers.Invalidate(identity, "others")
	answers.Invalidate(query.Identify("another"), "")
	if r := readItems(t, source, core.Options{}, cached(answers, budget)); r.Cache != cache.Hit {
		t.Errorf("%+v", r)
	}
	answers.Invalidate(identity, "items")
	if s := answers.Stats(); s.Entries != 0 || s.Evictions.Invalidated != 1 {
		t.Errorf("%+v", s)
	}
	leader := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(answers, budget))
	follower := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(answers, budget))
	for chunk, err := range leader.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		_ = chunk
		answers.Invalidate(identity, "")
	}
	if got, err := ids(follower); err != nil || len(got) != 5000 || follower.Receipt().Cache != cache.Miss {
		t.Errorf("%d rows, %v, %+v", len(got), err, follower.Receipt())
	}
	if s := answers.Stats(); s.Entries != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newCounted(500)
		answers := newCache(t, cache.Options{})
		readItems(t, source, core.Options{}, cached(answers, nil))
		time.Sleep(cache.DefaultTTL - time.Second)
		if r := readItems(t, source, core.Options{}, cached(answers, nil)); r.Cache != cache.Hit || r.CacheAge != cache.DefaultTTL-time.Second {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Second)
		if r := readItems(t, source, core.Options{}, cached(answers, nil)); r.Cache != cache.Miss || answers.Stats().Evictions.TTL != 1 {
			t.Errorf("%+v, %+v", r, answers.Stats())
		}
		var o core.Options
		o.Caching.Mode, o.Caching.TTL = cache.ModeRefresh, time.Second
		if r := readItems(t, source, o, cached(answers, nil)); r.Cache != cache.Miss || answers.Stats().Evictions.Replaced != 1 {
			t.Errorf("%+v, %+v", r, answers.Stats())
		}
		o.Caching.Mode = cache.ModeBypass
		if r := readItems(t, source, o, cached(answers, nil)); r.Cache != cache.Bypassed {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Second)
		if r := readItems(t, source, core.Options{}, cached(answers, nil)); r.Cache != cache.Miss || source.scans.Load() != 5 {
			t.Errorf("%d scans, %+v", source.scans.Load(), r)
		}
	})
}

// TestFollowersHavePatience, and not more: with a source that takes for ever they
// see for themselves.
func TestFollowersHavePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newCounted(1000)
		source.onRow = func(int) { time.Sleep(200 * time.Millisecond) }
		answers := newCache(t, cache.Options{})
		leader := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(answers, nil))
		follower := open(t, source, core.Query{Table: "items"}, core.Options{}, cached(answers, nil))
		started := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			if got, err := ids(leader); err != nil || len(got) != 1000 {
				t.Errorf("%d rows and %v", len(got), err)
			}
		})
		for range follower.Chunks() {
			break
		}
		// Twenty seconds for the flight's first page, as many of patience, and two
		// hundred for the first chunk.
		if waited := time.Since(started); waited > 250*time.Second || follower.Receipt().Cache != cache.Miss {
			t.Errorf("after %s: %+v", waited, follower.Receipt())
		}
		all.Wait()
	})
}

// TestCacheGivesWay: a stream needs the memory, and gets it.
func TestCacheGivesWay(t *testing.T) {
	mem, err := budget.New("host", 8<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	cache := newCache(t, cache.Options{Budget: mem, MaxBytes: 8 << 20, MaxEntryBytes: 4 << 20})
	for i := range 3 {
		source := newCounted(20_000)
		r := cached(cache, mem)
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

// TestCacheBounds: by number, and by bytes.
func TestCacheBounds(t *testing.T) {
	read := func(cache *cache.Cache, i int) {
		r := cached(cache, nil)
		r.SourceID = query.Identify(fmt.Sprint(i))
		readItems(t, newCounted(1000), core.Options{}, r)
	}
	answers := newCache(t, cache.Options{MaxEntries: 3})
	for i := range 5 {
		read(answers, i)
		read(answers, 0) // which stays
	}
	if s := answers.Stats(); s.Entries != 3 || s.Evictions.LRU != 2 || s.Hits != 5 {
		t.Errorf("%+v", s)
	}
	answers = newCache(t, cache.Options{MaxBytes: 200 << 10})
	for i := range 20 {
		read(answers, i)
	}
	if s := answers.Stats(); s.Bytes > 200<<10 || s.Entries == 0 || s.Evictions.Bytes != 20-uint64(s.Entries) {
		t.Errorf("%+v", s)
	}
}

func TestCachingFaults(t *testing.T) {
	for _, o := range []cache.Options{{MaxBytes: -1}, {MaxEntries: -1}, {TTL: -1}, {MaxEntryBytes: -1}, {MaxBytes: 10, MaxEntryBytes: 11}, {MaxEntries: 1 << 30}} {
		if _, err := cache.New(o); sources.KindOf(err) != sources.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	answers := newCache(t, cache.Options{})
	for _, c := range []struct {
		source query.Fingerprint
		policy cache.Policy
	}{{}, {identity, cache.Policy{Mode: 9}}, {identity, cache.Policy{TTL: -1}}} {
		o, r := core.Options{Caching: c.policy}, core.Resources{Cache: answers, SourceID: c.source}
		if _, err := core.Open(t.Context(), newCounted(1), core.Query{Table: "items"}, o, r); sources.KindOf(err) != sources.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
	source := newCounted(1)
	source.refuse.Store(true)
	_, err := core.Open(t.Context(), source, core.Query{Table: "items"}, core.Options{}, cached(answers, parent(t)))
	if want := "begin items: denied: not you"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
