package core

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// Status is the state of a stream.
type Status string

// The statuses of a stream.
const (
	StatusOpen      Status = "open"      // its loop has not started
	StatusRunning   Status = "running"   // its loop runs
	StatusDegraded  Status = "degraded"  // its loop runs, short of memory
	StatusPaused    Status = "paused"    // it waits for memory, or for Resume
	StatusCompleted Status = "completed" // it has yielded every row
	StatusFailed    Status = "failed"    // an error ended it
	StatusCanceled  Status = "canceled"  // its context, Cancel, Close or its consumer ended it
)

// Ended reports whether s is a status of a stream that has ended.
func (s Status) Ended() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCanceled
}

// errCanceled is the cause of a stream that Cancel ended without a cause.
var errCanceled = errors.New("the stream was canceled")

// gate stops a stream's loop between two chunks while it is closed. The zero value is
// open. It is safe for concurrent use.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // non-nil while the gate is closed; opening the gate closes it
}

// close closes the gate, and reports whether it was open.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		return false
	}
	g.shut = make(chan struct{})
	return true
}

// open opens the gate, and reports whether it was closed.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		return false
	}
	close(g.shut)
	g.shut = nil
	return true
}

func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut != nil
}

// wait returns once the gate is open or the context has ended.
func (g *gate) wait(ctx context.Context) {
	for {
		g.mu.Lock()
		shut := g.shut
		g.mu.Unlock()
		if shut == nil {
			return
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return
		}
	}
}

// Pause makes the stream's loop wait before the next chunk until [Stream.Resume] is
// called or the stream is canceled. It returns false if the stream was paused already.
// A paused stream keeps its session, and the memory that it holds. The consumer's
// current chunk stays valid.
func (s *Stream) Pause() bool { return s.gate.close() }

// Resume ends a pause that [Stream.Pause] began. It returns false if the stream was
// not paused.
func (s *Stream) Resume() bool { return s.gate.open() }

// Cancel makes the stream's loop end with an error of kind [sources.Canceled] that
// wraps cause, or if cause is nil an error that says that the stream was canceled.
// Cancel does not wait: the loop ends when the consumer asks for the next chunk. If
// the loop never starts, the stream must still be closed.
func (s *Stream) Cancel(cause error) {
	if cause == nil {
		cause = errCanceled
	}
	s.stop(cause)
}

// Name returns the stream's name, [Options.Name].
func (s *Stream) Name() string { return s.name }

// Status returns the stream's current status.
func (s *Stream) Status() Status {
	s.mu.Lock()
	state, complete, kind := s.state, s.receipt.Complete, s.failure
	failed := s.receipt.Error != ""
	s.mu.Unlock()
	switch {
	case complete:
		return StatusCompleted
	case failed && kind == sources.Canceled:
		return StatusCanceled
	case failed:
		return StatusFailed
	case state == ended:
		return StatusCanceled
	case s.gate.closed():
		return StatusPaused
	case state == idle:
		return StatusOpen
	}
	switch s.Level() {
	case budget.Degraded:
		return StatusDegraded
	case budget.Paused:
		return StatusPaused
	}
	return StatusRunning
}

// Progress has figures of how far a stream has come. Its JSON names are stable.
type Progress struct {
	Rows  int64 `json:"rows"`  // rows yielded to the consumer
	Bytes int64 `json:"bytes"` // size of these rows, as [sources.Size] counts
	Read  int64 `json:"read"`  // rows read from the source or the cache, before the engine filters them
	// Estimate is the number of rows that the source is expected to yield in all; -1
	// if unknown.
	Estimate int64 `json:"estimate"`
	// Fraction is the part of the work that is done, from 0 to 1; -1 if unknown.
	Fraction float64 `json:"part"`
	// Remaining is the time to the end at the average speed so far, in nanoseconds; -1
	// if unknown.
	Remaining time.Duration `json:"left_ns"`
	// Elapsed is the time from opening the stream to its end, or to now, in
	// nanoseconds.
	Elapsed time.Duration `json:"elapsed_ns"`
	// RowsPerSecond and BytesPerSecond are averages over Elapsed.
	RowsPerSecond  float64 `json:"rows_per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"`
}

// Progress returns how far the stream has come.
func (s *Stream) Progress() Progress {
	s.mu.Lock()
	r := s.receipt
	s.mu.Unlock()
	p := Progress{Rows: r.Rows, Bytes: r.Bytes, Read: s.read.Load(), Estimate: s.estimate(), Fraction: -1, Remaining: -1, Elapsed: r.Elapsed}
	if p.Elapsed == 0 {
		p.Elapsed = time.Since(s.started)
	}
	if seconds := p.Elapsed.Seconds(); seconds > 0 {
		p.RowsPerSecond, p.BytesPerSecond = float64(r.Rows)/seconds, float64(r.Bytes)/seconds
	}
	switch {
	case r.Complete:
		p.Fraction, p.Remaining = 1, 0
		return p
	case p.Estimate > 0:
		p.Fraction = min(float64(p.Read)/float64(p.Estimate), 0.999)
	}
	if s.limit > 0 { // the stream ends at the limit or at the end of the table
		p.Fraction = max(p.Fraction, min(float64(r.Rows)/float64(s.limit), 0.999))
	}
	if p.Fraction > 0 {
		p.Remaining = time.Duration(float64(p.Elapsed) * (1 - p.Fraction) / p.Fraction)
	}
	return p
}

// estimate returns how many rows the source is expected to yield in all, by its plan
// if there is one, else by its catalog; -1 if unknown.
func (s *Stream) estimate() int64 {
	if planned := s.source.Planned(); planned >= 0 {
		return planned
	}
	return s.expected
}
