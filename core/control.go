package core

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// Status is how a stream is getting on, for whoever watches it.
type Status string

// The statuses of a stream.
const (
	StatusOpen      Status = "open"      // its loop has not begun
	StatusRunning   Status = "running"   // its loop runs
	StatusDegraded  Status = "degraded"  // it runs, short of memory
	StatusPaused    Status = "paused"    // it waits: for memory, or for Resume
	StatusCompleted Status = "completed" // every row was handed out
	StatusFailed    Status = "failed"    // an error ended it
	StatusCanceled  Status = "cancelled" // somebody ended it: its context, Cancel, Close, or its own consumer
)

// Ended reports whether nothing more will come.
func (s Status) Ended() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCanceled
}

// errCanceled is the cause of a stream that was cancelled by Cancel without one.
var errCanceled = errors.New("the stream was cancelled")

// gate holds a stream's loop between two chunks. It is safe for concurrent use.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // closed when it opens; nil while it is open
}

func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		return false
	}
	g.shut = make(chan struct{})
	return true
}

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

// wait returns when the gate is open, or the context has ended.
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

// Pause holds the stream's loop before the next chunk until [Stream.Resume]; the
// chunk that the consumer has stays good. What is read ahead stays where it is,
// and nothing more is fetched. It reports whether the stream was not paused
// before.
func (s *Stream) Pause() bool { return s.gate.close() }

// Resume lets the loop go on, and reports whether it was held.
func (s *Stream) Resume() bool { return s.gate.open() }

// Cancel ends the stream with an error of kind [sources.Canceled] whose cause is
// this one; nil says that it was cancelled. It does not wait for the end, which
// comes when the consumer comes back to its loop. A stream whose loop has not
// begun has to be closed by its owner all the same.
func (s *Stream) Cancel(cause error) {
	if cause == nil {
		cause = errCanceled
	}
	s.stop(cause)
}

// Name is the stream's, as [Options.Name] says.
func (s *Stream) Name() string { return s.name }

// Status says how the stream is getting on.
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

// Progress is how far a stream has come. Its JSON names are stable.
type Progress struct {
	Rows  int64 `json:"rows"`  // handed out
	Bytes int64 `json:"bytes"` // of them, as [sources.Size] counts
	Read  int64 `json:"read"`  // rows that the source gave
	// Estimate is how many the source is expected to give in all; -1 where nobody
	// knows.
	Estimate int64 `json:"estimate"`
	// Fraction is how much of the whole is done, from 0 to 1; -1 where nobody knows.
	Fraction float64 `json:"part"`
	// Remaining is how long the rest takes at the speed so far, in nanoseconds; -1 where
	// nobody knows.
	Remaining time.Duration `json:"left_ns"`
	Elapsed   time.Duration `json:"elapsed_ns"` // since the stream was opened, or until it ended
	// RowsPerSecond and BytesPerSecond are the averages since the stream was opened.
	RowsPerSecond  float64 `json:"rows_per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"`
}

// Progress says how far the stream has come.
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
	if s.limit > 0 { // whichever comes first
		p.Fraction = max(p.Fraction, min(float64(r.Rows)/float64(s.limit), 0.999))
	}
	if p.Fraction > 0 {
		p.Remaining = time.Duration(float64(p.Elapsed) * (1 - p.Fraction) / p.Fraction)
	}
	return p
}

// estimate is how many rows the source is expected to give: by its plan, where
// one was made, else by its catalogue, where every row is asked for.
func (s *Stream) estimate() int64 {
	if planned := s.source.Planned(); planned >= 0 {
		return planned
	}
	return s.expected
}
