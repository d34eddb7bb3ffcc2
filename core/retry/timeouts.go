package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// How long a stream waits when nobody says otherwise.
const (
	DefaultCallTimeout  = 30 * time.Second
	DefaultStallTimeout = 30 * time.Second
)

// Timeouts say how long a stream waits for its source. The zero value of a field
// is its default, and less than 0 is for ever.
//
// A source that runs within the application is told by the end of its context.
// One that does not look at it holds the stream up until it returns: only a wall
// makes the end certain.
type Timeouts struct {
	// Call is how long the catalogue, the beginning of a session and a plan may
	// take, each: 30 s. What is late is an error of kind [sources.Unavailable].
	Call time.Duration
	// Stall is how long a scan waits for its next page: 30 s. After half of it the
	// stream tells of a fault of kind [FaultStalled]; after all of it the scan is given
	// up as [sources.Unavailable], and tried again as [Policy] says. The clock runs
	// only while the source is waited for: neither while the consumer has the loop,
	// nor while the stream is paused or waits for memory.
	Stall time.Duration
	// Stream is how long the stream may take from its opening to its end, the
	// consumer's time included: then it ends with an error of kind
	// [sources.Canceled]. 0 is for ever.
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

// StreamContext returns the context of a whole stream.
func (t Timeouts) StreamContext(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	if t.Stream <= 0 {
		return ctx, stop
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.Stream, fmt.Errorf("the stream has taken the %s that it may", t.Stream))
	return ctx, func(cause error) {
		stop(cause)
		cancel()
	}
}

// callWithin makes one call into a source that has to answer in time.
func callWithin[T any](ctx context.Context, limit time.Duration, op, table string, f func(ctx context.Context) (T, error)) (T, error) {
	if limit <= 0 {
		return sources.GuardCall(op, table, func() (T, error) { return f(ctx) })
	}
	late := &sources.Error{Op: op, Table: table, Kind: sources.Unavailable, Err: fmt.Errorf("no answer within %s", limit)}
	timed, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	result, err := sources.GuardCall(op, table, func() (T, error) { return f(timed) })
	if err != nil && ctx.Err() == nil && timed.Err() != nil {
		return result, late
	}
	return result, err
}

// stallClock watches over one scan. It runs while the source is waited for.
type stallClock struct {
	half time.Duration
	tell func(waited time.Duration)
	cut  func(cause error)

	mu      sync.Mutex
	timer   *time.Timer // nil where a scan may take for ever
	begun   time.Time   // of this wait
	waiting bool
	told    bool
}

// errStalled is in the cause of a context that the clock has cancelled.
var errStalled = errors.New("the source stalled")

// newStallClock returns a clock that stands still. After half of the limit it
// calls tell, after all of it cut, on a goroutine of its own.
func newStallClock(limit time.Duration, tell func(waited time.Duration), cut func(cause error)) *stallClock {
	c := &stallClock{half: limit / 2, tell: tell, cut: cut}
	if limit > 0 {
		c.timer = time.AfterFunc(limit, c.ring)
		c.timer.Stop()
	}
	return c
}

func (c *stallClock) start() {
	if c.timer == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.told, c.begun = true, false, time.Now()
	c.timer.Reset(c.half)
}

func (c *stallClock) stop() {
	if c.timer == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	c.timer.Stop()
}

func (c *stallClock) ring() {
	c.mu.Lock()
	waited := time.Since(c.begun)
	switch {
	case !c.waiting || waited < c.half: // of a wait that has ended meanwhile
		c.mu.Unlock()
	case !c.told:
		c.told = true
		c.timer.Reset(c.half)
		c.mu.Unlock()
		c.tell(waited)
	default:
		c.mu.Unlock()
		c.cut(fmt.Errorf("%w: it gave nothing for %s", errStalled, waited.Round(time.Millisecond)))
	}
}
