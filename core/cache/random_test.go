package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"pgregory.net/rapid"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/sources"
)

// reading is what one reader does: it waits, opens a stream, and reads some chunks
// or all.
type reading struct {
	wait   time.Duration
	mode   cache.Mode
	memory int64
	ahead  bool
	pause  time.Duration // between chunks
	chunks int           // chunks to read before leaving the loop; 0 is all
	cancel bool          // cancel the context instead of leaving the loop
}

// disturbance is one change that happens while readers read.
type disturbance struct {
	wait time.Duration
	what int // one of the kinds below
}

// The kinds of changes.
const (
	change     = iota // the table gets a new version
	invalidate        // the table's entries are invalidated
	clearAll          // the cache is cleared
	press             // another budget needs memory
	fail              // scans fail from now on
	mend              // scans succeed again
	changeKinds
)

// TestCachedAnswersAreTheSources tests, with random readers, changes of the table,
// faults, shortage of memory and delays, that a stream which completes has the whole
// table as it was in a single version. If the source has versions, it is a version
// of the time since the stream was opened. Otherwise it may be older by the TTL at
// most, and not older than the last invalidation. Every stream ends, and no memory
// stays in use.
func TestCachedAnswersAreTheSources(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		delay := rapid.Map(rapid.IntRange(0, 60), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
		readings := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) reading {
			return reading{
				wait: delay.Draw(rt, "wait"), mode: rapid.SampledFrom([]cache.Mode{cache.ModeUse, cache.ModeUse, cache.ModeUse, cache.ModeRefresh, cache.ModeBypass}).Draw(rt, "mode"),
				memory: rapid.SampledFrom([]int64{256 << 10, 4 << 20}).Draw(rt, "memory"), ahead: rapid.Bool().Draw(rt, "ahead"),
				pause: delay.Draw(rt, "pause"), chunks: rapid.IntRange(0, 3).Draw(rt, "chunks"), cancel: rapid.Bool().Draw(rt, "cancel"),
			}
		}), 2, 12).Draw(rt, "readings")
		changes := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) disturbance {
			return disturbance{wait: delay.Draw(rt, "wait"), what: rapid.IntRange(0, changeKinds-1).Draw(rt, "what")}
		}), 0, 8).Draw(rt, "changes")
		silent := rapid.Bool().Draw(rt, "silent")
		maxEntry := rapid.SampledFrom([]int64{1 << 20, 20 << 10}).Draw(rt, "max entry")
		ttl := rapid.SampledFrom([]time.Duration{20 * time.Millisecond, time.Second}).Draw(rt, "ttl")
		var err error
		synctest.Test(t, func(*testing.T) { err = runWorld(readings, changes, silent, maxEntry, ttl) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// versionStart is when a version of the table began.
type versionStart struct {
	at      time.Time
	version int64
}

// world is what readers and changes share.
type world struct {
	source   *counted
	cache    *cache.Cache
	budget   *budget.Budget
	ttl      time.Duration
	mu       sync.Mutex
	versions []versionStart
	dropped  []time.Time
	faults   []error
}

// fault records what went wrong.
func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Errorf(format, args...))
}

// versionAt returns the version that the table had at a time, the earlier one if it
// changed at that very time.
func (w *world) versionAt(when time.Time) int64 {
	version := int64(1)
	for _, m := range w.versions {
		if m.at.Before(when) {
			version = m.version
		}
	}
	return version
}

// runWorld runs readers and changes concurrently, and returns what went wrong.
func runWorld(readings []reading, changes []disturbance, silent bool, maxEntry int64, ttl time.Duration) error {
	budget, err := budget.New("host", 8<<20, nil)
	if err != nil {
		return err
	}
	cache, err := cache.New(cache.Options{Budget: budget, MaxBytes: 2 << 20, MaxEntryBytes: maxEntry, TTL: ttl})
	if err != nil {
		return err
	}
	w := &world{source: newCounted(0), cache: cache, budget: budget, ttl: ttl}
	w.source.version.Store(1)
	w.source.silent = silent
	w.source.rowsOf = func(version int64) int64 { return 300 + 130*version }
	w.source.onRow = func(i int) {
		if i%100 == 99 {
			time.Sleep(3 * time.Millisecond)
		}
	}
	var all sync.WaitGroup
	for _, r := range readings {
		all.Go(func() { w.read(r) })
	}
	all.Go(func() { w.change(changes) })
	all.Wait()
	if open := w.source.open.Load(); open != 0 {
		w.fault("%d sessions are open", open)
	}
	cache.Clear()
	if held := cache.Budget().Held(); held != 0 {
		w.fault("the cleared cache holds %d bytes", held)
	}
	if err := cache.Close(); err != nil || budget.Live() != 0 {
		w.fault("close: %v, %d bytes are live", err, budget.Live())
	}
	return errors.Join(w.faults...)
}

// change makes the changes one after another.
func (w *world) change(changes []disturbance) {
	for _, m := range changes {
		time.Sleep(m.wait)
		switch m.what {
		case change:
			w.mu.Lock()
			version := w.source.version.Add(1)
			w.versions = append(w.versions, versionStart{time.Now(), version})
			w.mu.Unlock()
		case invalidate, clearAll:
			if m.what == clearAll {
				w.cache.Clear()
			} else {
				w.cache.Invalidate(coretest.SourceID, "items")
			}
			w.mu.Lock()
			w.dropped = append(w.dropped, time.Now())
			w.mu.Unlock()
		case press:
			hungry, err := budget.New("hungry", 8<<20, w.budget)
			if err != nil {
				w.fault("%v", err)
				return
			}
			// The cache can release memory; streams cannot.
			buffer, err := sources.GuardCall("allocate", "", func() ([]byte, error) { return hungry.Allocate(3 << 20), nil })
			if err == nil {
				time.Sleep(time.Millisecond)
				hungry.Free(buffer)
			}
			hungry.Close()
		case fail:
			w.source.breakAt.Store(250)
		case mend:
			w.source.breakAt.Store(0)
		}
	}
}

// read reads as r describes, and compares the rows with the table's.
func (w *world) read(r reading) {
	time.Sleep(r.wait)
	opened := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := core.Options{Memory: r.memory, ReadAhead: r.ahead, ChunkRows: 150, Caching: cache.Policy{Mode: r.mode}}
	stream, err := core.Open(ctx, w.source, core.Query{Table: "items"}, o, coretest.WithCache(w.cache, w.budget))
	if err != nil {
		w.fault("%+v: %v", r, err)
		return
	}
	defer func() {
		if err := stream.Close(); err != nil || stream.Budget().Live() != 0 {
			w.fault("%+v: close: %v, %d bytes are live", r, err, stream.Budget().Live())
		}
	}()
	rows, version, chunks := int64(0), int64(0), 0
	for chunk, err := range stream.Chunks() {
		if err != nil {
			if kind := sources.KindOf(err); kind != sources.Unavailable && (kind != sources.Canceled || ctx.Err() == nil) {
				w.fault("%+v: %v", r, err)
			}
			return
		}
		for i, id := range coretest.RecordIDs(chunk.Record) {
			if id != rows+int64(i) {
				w.fault("%+v: row %d is %d", r, rows+int64(i), id)
				return
			}
		}
		if rows == 0 {
			if _, err := fmt.Sscanf(chunk.Record.Column(1).(*array.String).Value(0), "version %d", &version); err != nil {
				w.fault("%+v: %v", r, err)
				return
			}
		}
		rows += chunk.Record.NumRows()
		if chunks++; chunks == r.chunks {
			if !r.cancel {
				return
			}
			cancel()
		}
		time.Sleep(r.pause)
	}
	w.mu.Lock()
	earliest := opened
	if w.source.silent && r.mode == cache.ModeUse {
		earliest = opened.Add(-w.ttl)
		for _, at := range w.dropped {
			// An entry that was dropped at the time of opening may have been used before.
			if at.Before(opened) && at.After(earliest) {
				earliest = at
			}
		}
	}
	oldest, newest := w.versionAt(earliest), w.source.version.Load()
	w.mu.Unlock()
	if rows != 300+130*version || version < oldest || version > newest || !stream.Receipt().Complete {
		w.fault("%+v: %d rows of version %d, want one from %d to %d: %+v", r, rows, version, oldest, newest, stream.Receipt())
	}
}
