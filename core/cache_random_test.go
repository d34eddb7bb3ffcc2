package core_test

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
	"github.com/penstock-data/penstock/sources"
)

// reading is what one reader does: it waits, opens a stream, and reads it to the
// end, or for some chunks.
type reading struct {
	wait   time.Duration
	mode   cache.Mode
	memory int64
	ahead  bool
	pause  time.Duration // between chunks
	chunks int           // and then it leaves, or cancels; 0 is all
	cancel bool
}

// meddling is what happens meanwhile.
type meddling struct {
	wait time.Duration
	what int
}

// What meddlers do.
const (
	change = iota // the table
	invalidate
	clearAll
	press // for memory
	fail  // scans, from now on
	mend
	meddlings
)

// TestCachedAnswersAreTheSources: with readers that come and go, a table that
// changes, faults, memory that is short, and time, whoever reads to the end was
// given the whole table as it was at one moment: of its own time where the source
// tells versions, else no longer ago than answers live, and not before it was told
// that they are old. Nobody waits for ever, and nothing is left.
func TestCachedAnswersAreTheSources(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		span := rapid.Map(rapid.IntRange(0, 60), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
		readings := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) reading {
			return reading{
				wait: span.Draw(rt, "wait"), mode: rapid.SampledFrom([]cache.Mode{cache.ModeUse, cache.ModeUse, cache.ModeUse, cache.ModeRefresh, cache.ModeBypass}).Draw(rt, "mode"),
				memory: rapid.SampledFrom([]int64{256 << 10, 4 << 20}).Draw(rt, "memory"), ahead: rapid.Bool().Draw(rt, "ahead"),
				pause: span.Draw(rt, "pause"), chunks: rapid.IntRange(0, 3).Draw(rt, "chunks"), cancel: rapid.Bool().Draw(rt, "cancel"),
			}
		}), 2, 12).Draw(rt, "readings")
		meddlings := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) meddling {
			return meddling{wait: span.Draw(rt, "wait"), what: rapid.IntRange(0, meddlings-1).Draw(rt, "what")}
		}), 0, 8).Draw(rt, "meddlings")
		silent := rapid.Bool().Draw(rt, "silent")
		large := rapid.SampledFrom([]int64{1 << 20, 20 << 10}).Draw(rt, "answer")
		ttl := rapid.SampledFrom([]time.Duration{20 * time.Millisecond, time.Second}).Draw(rt, "ttl")
		var err error
		synctest.Test(t, func(*testing.T) { err = meddle(readings, meddlings, silent, large, ttl) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// moment is when a version of the table began, or when answers were dropped.
type moment struct {
	at      time.Time
	version int64
}

type world struct {
	source   *counted
	cache    *cache.Cache
	budget   *budget.Budget
	ttl      time.Duration
	mu       sync.Mutex
	versions []moment
	dropped  []time.Time
	faults   []error
}

func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Errorf(format, args...))
}

// at is the version that the table had at a time. Where it changed at that very
// time it is the one before.
func (w *world) at(when time.Time) int64 {
	version := int64(1)
	for _, m := range w.versions {
		if m.at.Before(when) {
			version = m.version
		}
	}
	return version
}

func meddle(readings []reading, meddlings []meddling, silent bool, large int64, ttl time.Duration) error {
	budget, err := budget.New("host", 8<<20, nil)
	if err != nil {
		return err
	}
	cache, err := cache.New(cache.Options{Budget: budget, MaxBytes: 2 << 20, MaxEntryBytes: large, TTL: ttl})
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
	all.Go(func() { w.meddle(meddlings) })
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

func (w *world) meddle(meddlings []meddling) {
	for _, m := range meddlings {
		time.Sleep(m.wait)
		switch m.what {
		case change:
			w.mu.Lock()
			version := w.source.version.Add(1)
			w.versions = append(w.versions, moment{time.Now(), version})
			w.mu.Unlock()
		case invalidate, clearAll:
			if m.what == clearAll {
				w.cache.Clear()
			} else {
				w.cache.Invalidate(identity, "items")
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
			// What streams hold cannot be given; what the cache does can.
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

// read reads as a reader does, and holds what it was given to the table.
func (w *world) read(r reading) {
	time.Sleep(r.wait)
	opened := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := core.Options{Memory: r.memory, ReadAhead: r.ahead, ChunkRows: 150, Caching: cache.Policy{Mode: r.mode}}
	stream, err := core.Open(ctx, w.source, core.Query{Table: "items"}, o, cached(w.cache, w.budget))
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
		for i, id := range idsOf(chunk.Record) {
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
			// What was dropped in the very moment may have been taken before.
			if at.Before(opened) && at.After(earliest) {
				earliest = at
			}
		}
	}
	least, most := w.at(earliest), w.source.version.Load()
	w.mu.Unlock()
	if rows != 300+130*version || version < least || version > most || !stream.Receipt().Complete {
		w.fault("%+v: %d rows of version %d, want one from %d to %d: %+v", r, rows, version, least, most, stream.Receipt())
	}
}
