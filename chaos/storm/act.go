//go:build linux

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// outcome is how an action of a goroutine ended.
type outcome int

const (
	complete outcome = iota // a stream with all of its rows
	canceled                // a stream that ended with an error, because it was canceled
	closed                  // a stream that was closed before its loop, or whose source was
	gone                    // a stream whose consumer left the loop
	refused                 // a stream for which there was no memory in time
	other                   // another action
	outcomes
)

// String returns the outcome's name.
func (o outcome) String() string {
	return [...]string{"complete", "canceled", "closed", "left", "refused", "other"}[o]
}

var errStorm = errors.New("canceled by the storm")

// act does one thing with the host.
func (s *storm) act(rng *rand.Rand) {
	// Opening a source starts a process in some walls, which takes long.
	switch n := rng.IntN(100); {
	case n < 3 && s.opening.TryLock():
		result := s.openAndClose(rng)
		s.opening.Unlock()
		s.done[result].Add(1)
	case n < 5:
		if err := s.source.Check(context.Background()); err != nil {
			s.fault("check: %w", err)
		}
		s.done[other].Add(1)
	case n < 7:
		events := s.host.Subscribe(8)
		s.source.Health()
		events.Close()
		s.done[other].Add(1)
	default:
		s.done[s.read(s.source, rng, &reader{})].Add(1)
	}
}

// openAndClose opens another source, and closes it while one goroutine reads a stream of it
// and others look at it.
func (s *storm) openAndClose(rng *rand.Rand) (result outcome) {
	source, err := s.host.Open(context.Background(), s.setting.uri)
	if err != nil {
		s.fault("open: %w", err)
		return other
	}
	var all sync.WaitGroup
	own := rand.New(rand.NewPCG(rng.Uint64(), 1))
	r := &reader{}
	wait := time.Duration(rng.IntN(30)) * time.Millisecond
	all.Go(func() { result = s.read(source, own, r) })
	all.Go(func() {
		for range 20 {
			source.Health()
			source.Sandboxes()
			time.Sleep(time.Millisecond)
		}
	})
	time.Sleep(wait)
	r.canceled.Store(true)
	r.closed.Store(true)
	if err := closeSource(source); err != nil {
		s.fault("closing a source: %w", err)
	}
	all.Wait()
	if n := source.Health().Streams; n != 0 {
		s.fault("a closed source has %d streams", n)
	}
	return result
}

// closeSource closes a source. On a slow machine a loop may take longer to end than
// Source.Close waits for it; then Close may be called again.
func closeSource(source *host.Source) error {
	for started := time.Now(); ; {
		err := source.Close()
		if err == nil || sources.KindOf(err) != sources.Invalid || time.Since(started) > patience {
			return err
		}
	}
}

// reader is what was done to a stream, before it was done: it explains the stream's error.
type reader struct{ canceled, closed atomic.Bool }

// read opens a stream, reads it while another goroutine pauses, resumes, cancels or closes
// it, and judges how it ended.
func (s *storm) read(source *host.Source, rng *rand.Rand, r *reader) outcome {
	q := s.setting.questions[rng.IntN(len(s.setting.questions))]
	o := core.Options{Memory: streamMemory, ReadAhead: rng.IntN(2) == 0, Tokens: rng.IntN(4) == 0, ChunkRows: int64(rng.IntN(3)) * 50}
	if !o.Tokens && rng.IntN(4) == 0 {
		o.Parallel = 2
		o.Unordered = rng.IntN(2) == 0
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if rng.IntN(20) == 0 { // while it is opened
		r.canceled.Store(true)
		time.AfterFunc(time.Duration(rng.IntN(5))*time.Millisecond, func() { cancel(errStorm) })
	}
	stream, err := source.Stream(ctx, q.query, o)
	if err != nil {
		return s.judge(err, r, "opening")
	}
	defer func() {
		// A module that computes in this process cannot be stopped, and says so.
		if err := stream.Close(); err != nil && !strings.Contains(err.Error(), "cannot be stopped in this process") {
			s.fault("closing a stream: %w", err)
		}
		if held := stream.Budget().Held(); held != 0 {
			s.fault("an ended stream holds %d bytes", held)
		}
	}()
	var hand sync.WaitGroup
	defer hand.Wait()
	fate := rand.New(rand.NewPCG(rng.Uint64(), 2))
	hand.Go(func() { s.control(stream, fate, cancel, r) })
	if rng.IntN(20) == 0 {
		return gone // without a loop
	}
	early, err := s.consume(stream, rng)
	receipt := stream.Receipt()
	switch {
	case err != nil:
		if receipt.Complete {
			s.fault("the stream failed, but its receipt says complete: %w", err)
		}
		return s.judge(err, r, "reading")
	case early:
		if receipt.Complete {
			s.fault("the consumer left the loop, but the receipt says complete")
		}
		return gone
	case !receipt.Complete:
		s.fault("the stream ended without an error, but its receipt does not say complete")
	case receipt.Rows != q.truth.Rows || receipt.Digest.AnyOrder() != q.truth.Digest.AnyOrder(),
		(o.Parallel == 0 || len(q.query.OrderBy) > 0) && receipt.Digest.Ordered() != q.truth.Digest.Ordered():
		s.fault("WRONG ROWS of %s: %d with %s, want %d with %s", q.query.Table, receipt.Rows, receipt.Digest.Ordered(), q.truth.Rows, q.truth.Digest.Ordered())
	}
	return complete
}

// consume ranges over the stream. early is true if it left the loop. It may keep records
// beyond the loop, whose values stay valid.
func (s *storm) consume(stream *core.Stream, rng *rand.Rand) (early bool, err error) {
	kept := map[arrow.RecordBatch]string{}
	defer func() {
		for record, text := range kept {
			if now := lastRow(record); now != text {
				s.fault("a retained record ended with %s, and now with %s", text, now)
			}
			record.Release()
		}
	}()
	defer func() {
		if p := recover(); p == errStorm {
			early, err = true, nil
		} else if p != nil {
			panic(p)
		}
	}()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return false, err
		}
		switch rng.IntN(60) {
		case 0:
			return true, nil
		case 1:
			panic(errStorm)
		case 2, 3:
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
		case 4:
			if len(kept) < 2 {
				chunk.Record.Retain()
				kept[chunk.Record] = lastRow(chunk.Record)
			}
		}
	}
	return false, nil
}

// lastRow returns the last row as text.
func lastRow(r arrow.RecordBatch) string {
	var text strings.Builder
	for _, c := range r.Columns() {
		text.WriteString(c.ValueStr(int(r.NumRows()) - 1))
		text.WriteByte(' ')
	}
	return text.String()
}

// control pauses, resumes, cancels or closes a stream from outside of its loop, until it has
// ended.
func (s *storm) control(stream *core.Stream, rng *rand.Rand, cancel context.CancelCauseFunc, r *reader) {
	running := s.host.Stream(stream.Name())
	for acts := rng.IntN(6); acts > 0; acts-- {
		select {
		case <-stream.Done():
			return
		case <-time.After(time.Duration(rng.IntN(4000)) * time.Microsecond):
		}
		if running == nil { // it has ended, and others have ended since
			return
		}
		switch n := rng.IntN(20); {
		case n < 10:
			running.Pause()
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
			running.Resume()
		case n < 14:
			running.Health()
			stream.Progress()
			stream.MemoryByOwner()
		case n < 15:
			r.canceled.Store(true)
			running.Cancel(errStorm)
		case n < 16:
			r.canceled.Store(true)
			cancel(errStorm)
		case n < 17:
			r.canceled.Store(true)
			r.closed.Store(true)
			if err := stream.Close(); err != nil {
				s.fault("closing a stream from outside of its loop: %w", err)
			}
		}
	}
}

// judge returns the outcome of a stream that ended with an error, which must be due to what
// was done to it.
func (s *storm) judge(err error, r *reader, doing string) outcome {
	var typed *sources.Error
	kind := sources.KindOf(err)
	switch {
	case !errors.As(err, &typed):
		s.fault("%s: the error has no kind: %w", doing, err)
	case kind == sources.Canceled && r.canceled.Load():
		return canceled
	case kind == sources.Invalid && r.closed.Load():
		return closed
	case kind == sources.Exhausted:
		return refused
	default:
		s.fault("%s: nothing explains the error: %w", doing, err)
	}
	return other
}
