package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
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
// application and ignores its context blocks the stream until it returns. Only a
// source in a process or module of its own can be stopped reliably.
type Timeouts struct {
	// Call is how long a call for the catalog, a new session or a plan may take. The
	// default is 30 s. A call that takes longer fails with an error of kind
	// [sources.Unavailable].
	Call time.Duration
	// Stall is how long a scan waits for its next page. The default is 30 s. After half
	// of it the stream reports a fault of kind [FaultStalled]. After all of it the scan
	// fails with an error of kind [sources.Unavailable], and is retried according to
	// the [Policy]. Only the time spent waiting for the source counts, not the time
	// that the consumer takes for a chunk, or that the stream waits for memory.
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

// callWithin makes one call to a source, which must return within limit. If limit is
// not positive, there is no timeout.
func callWithin[T any](ctx context.Context, limit time.Duration, op, table string, f func(ctx context.Context) (T, error)) (T, error) {
	if limit <= 0 {
		return sources.GuardCall(op, table, func() (T, error) { return f(ctx) })
	}
	late := sources.Errorf(sources.Unavailable, op, table, "no answer within %s", limit)
	timed, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	result, err := sources.GuardCall(op, table, func() (T, error) { return f(timed) })
	if err != nil && ctx.Err() == nil && timed.Err() != nil {
		return result, late
	}
	return result, err
}

// stallClock measures how long a scan waits for its source. It runs between start
// and stop.
type stallClock struct {
	half    time.Duration // half of the limit
	onHalf  func(waited time.Duration)
	onStall func(cause error)

	mu           sync.Mutex
	timer        *time.Timer // nil if there is no limit
	started      time.Time   // when the current wait began
	waiting      bool
	halfReported bool // in the current wait
}

// errStalled is the cause, wrapped, of a context that the clock has canceled.
var errStalled = errors.New("the source stalled")

// newStallClock returns a stopped clock. It calls onHalf after half of the limit, and
// onStall after all of it, on a goroutine of its own. If limit is not positive, it
// calls neither.
func newStallClock(limit time.Duration, onHalf func(waited time.Duration), onStall func(cause error)) *stallClock {
	c := &stallClock{half: limit / 2, onHalf: onHalf, onStall: onStall}
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
	c.waiting, c.halfReported, c.started = true, false, time.Now()
	c.timer.Reset(c.half)
}

// stop ends the wait.
func (c *stallClock) stop() {
	if c.timer == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	c.timer.Stop()
}

// fire is called by the timer.
func (c *stallClock) fire() {
	c.mu.Lock()
	waited := time.Since(c.started)
	switch {
	case !c.waiting || waited < c.half: // the wait that set the timer has ended
		c.mu.Unlock()
	case !c.halfReported:
		c.halfReported = true
		c.timer.Reset(c.half)
		c.mu.Unlock()
		c.onHalf(waited)
	default:
		c.mu.Unlock()
		c.onStall(fmt.Errorf("%w: no data for %s", errStalled, waited.Round(time.Millisecond)))
	}
}
