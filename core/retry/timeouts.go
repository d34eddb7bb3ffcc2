package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The defaults of [Timeouts].
const (
	DefaultCallTimeout  = 30 * time.Second
	DefaultStallTimeout = 30 * time.Second
)

// Timeouts configures how long a stream waits for its source. A field that is zero
// has its default; a negative field means no timeout.
//
// A timeout cancels the context of the call or scan. A source that runs in the
// application may ignore that. Then a call is given up two seconds later: the stream goes
// on without it or fails, but the memory reserved for the stream and the session stay
// taken, and unused, until the call returns. A scan, however, blocks the stream until it
// returns. Only a source in a process of its own can be stopped reliably.
type Timeouts struct {
	// Call is how long a call for the catalog, a new session or a plan, or to close a
	// session, may take. The default is 30 s. A call that takes longer fails with an error
	// of kind [sources.Unavailable].
	Call time.Duration
	// Stall is how long a scan waits for progress: for rows, for skipped records, or for
	// an empty page with another cursor. The default is 30 s. After half of it the stream
	// reports a fault of kind [FaultStalled]. After all of it the scan fails with an
	// error of kind [sources.Unavailable], and is retried according to the [Policy]. Only
	// the time spent waiting for the source counts, not the time that the consumer takes
	// for a chunk, or that the stream waits for memory.
	Stall time.Duration
	// Stream is how long the stream may take from opening to end, including the
	// consumer's time. A stream that takes longer ends with an error of kind
	// [sources.Canceled]. The default is no timeout.
	Stream time.Duration
}

func (t Timeouts) orDefault() Timeouts {
	if t.Call == 0 {
		t.Call = DefaultCallTimeout
	}
	if t.Stall == 0 {
		t.Stall = DefaultStallTimeout
	}
	return t
}

// StreamContext returns the context of a whole stream, which ends after t.Stream. The
// caller must call the returned function to release its resources.
func (t Timeouts) StreamContext(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	if t.Stream <= 0 {
		return ctx, stop
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.Stream, fmt.Errorf("the stream exceeded its timeout of %s", t.Stream))
	return ctx, func(cause error) {
		stop(cause)
		cancel()
	}
}

// stallClock measures how long a scan waits for its source to make progress. It runs
// between start and stop, and begins anew with progress.
type stallClock struct {
	limit   time.Duration
	onHalf  func(waited time.Duration)
	onStall func(cause error)

	mu           sync.Mutex
	timer        *time.Timer   // nil if there is no limit
	before       time.Duration // waited since the last progress, without the current wait
	started      time.Time     // when the current wait began
	waiting      bool
	halfReported bool // since the last progress
}

// errStalled is the cause, wrapped, of a context that the clock has canceled.
var errStalled = errors.New("the source stalled")

// newStallClock returns a stopped clock. It calls onHalf after half of the limit, and
// onStall after all of it, on a goroutine of its own. If limit is not positive, it
// calls neither.
func newStallClock(limit time.Duration, onHalf func(waited time.Duration), onStall func(cause error)) *stallClock {
	c := &stallClock{limit: limit, onHalf: onHalf, onStall: onStall}
	if limit > 0 {
		c.timer = time.AfterFunc(limit, c.fire)
		c.timer.Stop()
	}
	return c
}

// start begins a wait.
func (c *stallClock) start() {
	if c.timer == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.started = true, time.Now()
	c.timer.Reset(c.next() - c.before)
}

// next returns after which time without progress the timer has something to do. The
// caller holds the lock.
func (c *stallClock) next() time.Duration {
	if c.halfReported {
		return c.limit
	}
	return c.limit / 2
}

// stop ends the wait.
func (c *stallClock) stop() {
	if c.timer == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting {
		c.before += time.Since(c.started)
	}
	c.waiting = false
	c.timer.Stop()
}

// progress forgets the waits before it. The clock must be stopped.
func (c *stallClock) progress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before, c.halfReported = 0, false
}

// fire is called by the timer.
func (c *stallClock) fire() {
	c.mu.Lock()
	waited := c.before + time.Since(c.started)
	switch {
	case !c.waiting || waited < c.next(): // the wait that set the timer has ended
		c.mu.Unlock()
	case !c.halfReported:
		c.halfReported = true
		c.timer.Reset(c.limit - waited)
		c.mu.Unlock()
		c.onHalf(waited)
	default:
		c.mu.Unlock()
		c.onStall(fmt.Errorf("%w: no data for %s", errStalled, waited.Round(time.Millisecond)))
	}
}
