package retry

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/penstock-data/penstock/sources"
)

// The defaults of [BreakerOptions].
const (
	DefaultBreakerFailures = 5
	DefaultBreakerCooldown = 10 * time.Second
)

// BreakerOptions configures a [Breaker]. A field that is zero has its default.
type BreakerOptions struct {
	// Failures is the number of consecutive failures, counted over all streams, that
	// opens the circuit. The default is 5. If Failures is negative, the circuit never
	// opens.
	Failures int
	// Cooldown is how long the circuit stays open before one stream may probe the
	// source. The default is 10 s.
	Cooldown time.Duration
	// OnChange, if non-nil, is called when the circuit changes its state, from any
	// goroutine. It must not block, or call methods of the breaker.
	OnChange func(from, to Circuit)
}

// Circuit is the state of a breaker.
type Circuit string

// The states of a breaker.
const (
	CircuitClosed   Circuit = "closed"    // calls reach the source
	CircuitHalfOpen Circuit = "half-open" // one stream may probe whether the source has recovered
	CircuitOpen     Circuit = "open"      // calls fail at once
)

// Breaker is a circuit breaker: it protects a source that fails repeatedly. After a
// number of consecutive failures the circuit opens, and every call fails at once with
// a [Tripped] error. After a cooldown, one stream may probe the source: if it
// succeeds, the circuit closes again. Only errors of kind [sources.Unavailable] are
// failures.
//
// All streams of a source share one Breaker. It is safe for concurrent use. The nil
// *Breaker is valid, and its circuit is always closed.
type Breaker struct {
	circuit  circuitbreaker.CircuitBreaker[any] // nil if the circuit never opens
	cooldown time.Duration
	opened   atomic.Int64 // when the circuit last opened, in nanoseconds since the Unix epoch
}

// NewBreaker returns a breaker with a closed circuit.
func NewBreaker(o BreakerOptions) *Breaker {
	b := &Breaker{cooldown: o.Cooldown}
	if o.Failures < 0 {
		return b
	}
	if o.Failures == 0 {
		o.Failures = DefaultBreakerFailures
	}
	if b.cooldown <= 0 {
		b.cooldown = DefaultBreakerCooldown
	}
	b.circuit = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(uint(o.Failures)).WithDelay(b.cooldown).WithSuccessThreshold(1).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			if e.NewState == circuitbreaker.OpenState {
				b.opened.Store(time.Now().UnixNano())
			}
			if o.OnChange != nil {
				o.OnChange(circuitOf(e.OldState), circuitOf(e.NewState))
			}
		}).Build()
	return b
}

func circuitOf(s circuitbreaker.State) Circuit {
	switch s {
	case circuitbreaker.OpenState:
		return CircuitOpen
	case circuitbreaker.HalfOpenState:
		return CircuitHalfOpen
	}
	return CircuitClosed
}

// State returns the state of the circuit. If it is open, until is when the source may
// be probed; otherwise until is zero.
func (b *Breaker) State() (state Circuit, until time.Time) {
	if b == nil || b.circuit == nil {
		return CircuitClosed, time.Time{}
	}
	state = circuitOf(b.circuit.State())
	if state == CircuitOpen {
		until = time.Unix(0, b.opened.Load()).Add(b.cooldown)
	}
	return state, until
}

// Tripped is the cause of the [sources.Unavailable] error of a call that the breaker
// does not allow.
type Tripped struct {
	// Until is when the source may be probed. It is zero if another stream is probing
	// it now.
	Until time.Time
	wait  time.Duration // from the call to Until
}

// Error describes when to try again.
func (t *Tripped) Error() string {
	if t.Until.IsZero() {
		return "the source failed too often, and another stream is probing it now; try again shortly"
	}
	return fmt.Sprintf("the source failed too often; try again at %s, in %s", t.Until.UTC().Format(time.RFC3339), t.wait)
}

// permit is a stream's permission from the breaker to use its source. A call that
// succeeds keeps the permit for the scan that follows: only a scan that delivers
// something proves that the source has recovered. It is safe for concurrent use.
type permit struct {
	breaker *Breaker // or nil

	mu   sync.Mutex
	held bool
}

// acquire returns a [Tripped] error if the breaker does not allow a call now.
func (p *permit) acquire(op, table string) error {
	if p.breaker == nil || p.breaker.circuit == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held || p.breaker.circuit.TryAcquirePermit() {
		p.held = true
		return nil
	}
	_, until := p.breaker.State()
	return sources.NewError(sources.Unavailable, op, table, &Tripped{Until: until, wait: max(time.Until(until), 0).Round(100 * time.Millisecond)})
}

// succeeded records that the source responded, even if only with an error other than
// being unavailable.
func (p *permit) succeeded() {
	p.release(func(c circuitbreaker.CircuitBreaker[any]) { c.RecordSuccess() })
}

// abandoned records that the caller stopped waiting for the source. As that proves
// nothing about the source, a half-open circuit opens again.
func (p *permit) abandoned() {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if !held {
		return
	}
	p.release(func(c circuitbreaker.CircuitBreaker[any]) {
		if c.IsHalfOpen() {
			c.RecordFailure()
		}
	})
}

// release gives up the permit, and calls record for the outcome.
func (p *permit) release(record func(circuitbreaker.CircuitBreaker[any])) {
	if p.breaker == nil || p.breaker.circuit == nil {
		return
	}
	p.mu.Lock()
	p.held = false
	p.mu.Unlock()
	record(p.breaker.circuit)
}

// failed records the outcome of a call or scan that failed with err.
func (p *permit) failed(err error) {
	switch sources.KindOf(err) {
	case sources.Unavailable:
		p.release(func(c circuitbreaker.CircuitBreaker[any]) { c.RecordFailure() })
	case sources.Canceled:
		p.abandoned()
	default:
		p.succeeded()
	}
}
