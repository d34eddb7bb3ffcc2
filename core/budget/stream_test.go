package budget_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/sources"
)

// wide returns a source of n rows of about 1000 bytes.
func wide(n int) sources.Source {
	return coretest.Items(func(yield func(sources.Row, error) bool) {
		for i := range n {
			if !yield(sources.Row{Values: []any{i, strings.Repeat("w", 1000)}}, nil) {
				return
			}
		}
	})
}

// TestChunksGrow tests that, while there is memory, chunks grow from 1000 rows to a
// 16th of the limit, unless ChunkRows is set.
func TestChunksGrow(t *testing.T) {
	for _, c := range []struct {
		rows, memory, first, most int64
	}{
		{0, 32 << 20, 1000, 64 << 10},
		{700, 32 << 20, 700, 700},
	} {
		stream := coretest.Open(t, coretest.Items(coretest.ItemRows(300_000, nil)), core.Query{Table: "items"}, core.Options{ChunkRows: c.rows, Memory: c.memory}, core.Resources{Budget: coretest.NewBudget(t)})
		var first, largest int64
		for chunk, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			if first == 0 {
				first = chunk.Record.NumRows()
			}
			largest = max(largest, chunk.Record.NumRows())
			if size := sources.Size(chunk.Record); size > c.memory/16 {
				t.Fatalf("got a chunk of %d bytes", size)
			}
		}
		if first != c.first || largest > c.most || largest < min(c.most, 16_000) {
			t.Errorf("chunks of %d: the first has %d rows, the largest %d", c.rows, first, largest)
		}
	}
}

// TestConsumerThatRetainsEverything tests that a stream whose consumer retains all
// chunks ends with an error that says so, after the longest wait.
func TestConsumerThatRetainsEverything(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		mem := coretest.NewBudget(t)
		synctest.Test(t, func(t *testing.T) {
			stream, err := core.Open(t.Context(), wide(100_000), core.Query{Table: "items"}, core.Options{Memory: 8 << 20, ReadAhead: ahead}, core.Resources{Budget: mem})
			if err != nil {
				t.Fatal(err)
			}
			var kept []arrow.RecordBatch
			var last error
			begun := time.Now()
			for chunk, err := range stream.Chunks() {
				if err != nil {
					last = err
					break
				}
				chunk.Record.Retain()
				kept = append(kept, chunk.Record)
			}
			var shortage *budget.Shortage
			if sources.KindOf(last) != sources.Exhausted || !errors.As(last, &shortage) {
				t.Fatalf("error: %v", last)
			}
			// The rows that precede the error are yielded before it.
			if n := int64(len(kept)); shortage.Chunks < n-1 || shortage.Chunks > n || shortage.Held[budget.Consumer] < 4<<20 || !strings.HasSuffix(last.Error(), "release them") {
				t.Errorf("%d chunks were kept; error: %v", len(kept), last)
			}
			if waited := time.Since(begun); waited != budget.DefaultMaxWait {
				t.Errorf("waited %s", waited)
			}
			r := stream.Receipt()
			if r.Complete || r.PeakBytes > 8<<20 || r.Paused != budget.DefaultMaxWait {
				t.Errorf("receipt: %+v", r)
			}
			var levels []string
			for _, e := range r.Events {
				levels = append(levels, e.To.String())
			}
			if diff := cmp.Diff([]string{"degraded", "paused"}, levels); diff != "" {
				t.Errorf("the levels (-want +got):\n%s", diff)
			}
			for _, record := range kept {
				record.Release()
			}
		})
	}
}

// TestPausedUntilReleased tests that a stream waits for chunks that another
// goroutine retains, and continues once they are released.
func TestPausedUntilReleased(t *testing.T) {
	const rows = 30_000
	mem := coretest.NewBudget(t)
	synctest.Test(t, func(t *testing.T) {
		var events []budget.Event
		stream, err := core.Open(t.Context(), wide(rows), core.Query{Table: "items"},
			core.Options{Memory: 8 << 20}, core.Resources{Budget: mem, Observer: core.Observer{Level: func(e budget.Event) { events = append(events, e) }}})
		if err != nil {
			t.Fatal(err)
		}
		queue := make(chan arrow.RecordBatch, 1000)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for record := range queue {
				time.Sleep(10 * time.Millisecond) // slower than the source
				record.Release()
			}
		}()
		got, err := int64(0), error(nil)
		for chunk, fault := range stream.Chunks() {
			if err = fault; err != nil {
				break
			}
			got += chunk.Record.NumRows()
			chunk.Record.Retain()
			queue <- chunk.Record
		}
		close(queue)
		<-done
		r := stream.Receipt()
		if err != nil || got != rows || !r.Complete {
			t.Errorf("%d rows, %v, %+v", got, err, r)
		}
		if r.PeakBytes > 8<<20 || r.Paused == 0 || r.LevelChanges != len(events) || len(events) < 3 {
			t.Errorf("%d events, receipt: %+v", len(events), r)
		}
		if e := events[0]; e.From != budget.Normal || e.Rows < budget.MinChunkRows || e.Held[budget.Consumer] == 0 || e.Why == "" {
			t.Errorf("the first event is %+v", e)
		}
	})
}

// TestConsumerAtTheLine tests that the level of a stream does not flap if the use of
// memory stays close to a threshold.
func TestConsumerAtTheLine(t *testing.T) {
	budget := coretest.NewBudget(t)
	const limit = 32 << 20
	stream := coretest.Open(t, wide(40_000), core.Query{Table: "items"}, core.Options{Memory: limit, ChunkRows: 100}, core.Resources{Budget: budget})
	ballast := stream.Allocator().Allocate(limit / 4 * 3)
	defer func() { stream.Allocator().Free(ballast) }()
	var kept []arrow.RecordBatch
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		chunk.Record.Retain()
		kept = append(kept, chunk.Record)
		if len(kept) > 15 { // of 100 KB each, and the pages they are slices of: 78 to 84 % of the limit
			for _, record := range kept {
				record.Release()
			}
			kept = nil
		}
	}
	for _, record := range kept {
		record.Release()
	}
	r := stream.Receipt()
	if !r.Complete || r.LevelChanges == 0 || r.LevelChanges > 3 {
		t.Errorf("the level changed %d times: %+v", r.LevelChanges, r.Events)
	}
}

// TestStreamsWaitForTheirFloor tests that streams wait in Open while the host has no
// memory for their floor, and complete in the end. If they must not wait, Open
// fails.
func TestStreamsWaitForTheirFloor(t *testing.T) {
	host, err := budget.New("host", 16<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	const streams, rows = 40, 3000 // 40 floors of 1 MiB
	var wait sync.WaitGroup
	var mu sync.Mutex
	digests := map[string]int{}
	for range streams {
		wait.Go(func() {
			stream, err := core.Open(t.Context(), wide(rows), core.Query{Table: "items"}, core.Options{Memory: 8 << 20}, core.Resources{Budget: host})
			if err != nil {
				t.Error(err)
				return
			}
			for _, err := range stream.Chunks() {
				if err != nil {
					t.Error(err)
				}
			}
			r := stream.Receipt()
			if !r.Complete || r.Rows != rows {
				t.Errorf("receipt: %+v", r)
			}
			mu.Lock()
			digests[r.Digest.Ordered()]++
			mu.Unlock()
		})
	}
	wait.Wait()
	if len(digests) != 1 {
		t.Errorf("the digests are %v", digests)
	}
	if peak := host.Peak(); peak > host.Limit() {
		t.Errorf("the host held %d bytes", peak)
	}
	if held := host.Held(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}

	var opened []*core.Stream
	refused := error(nil)
	for range streams {
		stream, err := core.Open(t.Context(), wide(1), core.Query{Table: "items"}, core.Options{Memory: 8 << 20, Pressure: budget.Pressure{MaxWait: -1}}, core.Resources{Budget: host})
		if err != nil {
			refused = err
			break
		}
		opened = append(opened, stream)
	}
	if len(opened) != 16 || sources.KindOf(refused) != sources.Exhausted || !strings.Contains(fmt.Sprint(refused), "no room for another stream: host holds 16.0 MiB of its 16.0 MiB") {
		t.Errorf("opened %d streams, then: %v", len(opened), refused)
	}
	for _, stream := range opened {
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAdmissionIsCanceled tests that the end of the context ends the wait in Open.
func TestAdmissionIsCanceled(t *testing.T) {
	host, err := budget.New("host", 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := coretest.Open(t, wide(1), core.Query{Table: "items"}, core.Options{Memory: 8 << 20}, core.Resources{Budget: host})
	_ = first
	taken := host.Allocate(768 << 10)
	defer host.Free(host.Allocate(64 << 10))
	defer host.Free(taken)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	_, err = core.Open(ctx, wide(1), core.Query{Table: "items"}, core.Options{Memory: 8 << 20}, core.Resources{Budget: host})
	if sources.KindOf(err) != sources.Canceled {
		t.Errorf("error: %v", err)
	}
}

// TestPressureIsChecked tests that inconsistent thresholds are rejected by name.
func TestPressureIsChecked(t *testing.T) {
	for _, p := range []budget.Pressure{{Degrade: 0.99}, {Recover: 0.9}, {Pause: 1.2}, {Recover: -1}} {
		_, err := core.Open(t.Context(), wide(1), core.Query{Table: "items"}, core.Options{Pressure: p}, core.Resources{})
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "stream items: invalid: Pressure") {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestBreakdownAsJSON tests that a Breakdown is encoded by the names of owners, and
// decoded again.
func TestBreakdownAsJSON(t *testing.T) {
	h := budget.Breakdown{budget.Page: 5, budget.Consumer: 7, budget.Sandboxes: 100}
	b, err := json.Marshal(h)
	if err != nil || string(b) != `{"consumer":7,"isolates":100,"page":5}` || h.Total() != 12 {
		t.Errorf("%s, %v, total %d", b, err, h.Total())
	}
	var again budget.Breakdown
	if err := json.Unmarshal(b, &again); err != nil || again != h {
		t.Errorf("%v, %v", again, err)
	}
	if err := json.Unmarshal([]byte(`{"nobody":1}`), &again); err == nil {
		t.Error("an unknown owner was accepted")
	}
}

// TestAnyStreams tests, for random rows, limits and consumers, that each stream
// ends, stays within its limit, and yields every row exactly once and in order or an
// error.
func TestAnyStreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hostLimit := rapid.Int64Range(1<<20, 24<<20).Draw(t, "host")
		host, err := budget.New("host", hostLimit, nil)
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for i := range rapid.IntRange(1, 6).Draw(t, "streams") {
			rows := rapid.IntRange(0, 5000).Draw(t, "rows")
			width := rapid.IntRange(0, 4000).Draw(t, "width")
			keep := rapid.IntRange(0, 8).Draw(t, "keep")
			o := core.Options{
				Memory:    rapid.Int64Range(256<<10, 8<<20).Draw(t, "limit"),
				ChunkRows: rapid.SampledFrom([]int64{0, 1, 50, 5000}).Draw(t, "chunk"),
				ReadAhead: rapid.Bool().Draw(t, "ahead"),
				Pressure:  budget.Pressure{MaxWait: 20 * time.Millisecond},
			}
			source := coretest.Items(func(yield func(sources.Row, error) bool) {
				for i := range rows {
					if !yield(sources.Row{Values: []any{i, strings.Repeat("x", (i*7919)%(width+1))}}, nil) {
						return
					}
				}
			})
			wait.Go(func() {
				if err := drain(source, o, host, rows, keep); err != nil {
					t.Errorf("stream %d of %+v: %v", i, o, err)
				}
			})
		}
		wait.Wait()
		if host.Held() != 0 || host.Peak() > hostLimit {
			t.Errorf("the host holds %d bytes, its peak is %d, its limit %d", host.Held(), host.Peak(), hostLimit)
		}
	})
}

// drain reads a stream as a consumer that retains the last keep chunks, and returns
// what is wrong with the result. An error of kind Exhausted is not wrong.
func drain(source sources.Source, o core.Options, host *budget.Budget, rows, keep int) (fault error) {
	stream, err := core.Open(context.Background(), source, core.Query{Table: "items"}, o, core.Resources{Budget: host})
	if err != nil {
		if sources.KindOf(err) == sources.Exhausted {
			return nil
		}
		return err
	}
	var kept []arrow.RecordBatch
	defer func() {
		for _, record := range kept {
			record.Release()
		}
		if live := stream.Budget().Live(); live != 0 {
			fault = errors.Join(fault, fmt.Errorf("%d bytes are still live", live))
		}
	}()
	got, failed := 0, false
	for chunk, err := range stream.Chunks() {
		if err != nil {
			failed = true
			if sources.KindOf(err) != sources.Exhausted {
				fault = errors.Join(fault, err)
			}
			continue
		}
		for _, id := range coretest.RecordIDs(chunk.Record) {
			if id != int64(got) {
				return fmt.Errorf("got row %d at position %d", id, got)
			}
			got++
		}
		chunk.Record.Retain()
		if kept = append(kept, chunk.Record); len(kept) > keep {
			kept[0].Release()
			kept = kept[1:]
		}
	}
	r := stream.Receipt()
	switch {
	case r.PeakBytes > r.LimitBytes:
		return fmt.Errorf("held %d bytes, limit %d", r.PeakBytes, r.LimitBytes)
	case r.Complete == failed, !failed && got != rows, r.Rows != int64(got):
		return fmt.Errorf("got %d of %d rows, failed: %t, receipt: %+v", got, rows, failed, r)
	}
	return nil
}
