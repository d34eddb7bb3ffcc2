package retry

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/penstock-data/penstock/sources"
)

// When a breaker trips where nobody says otherwise.
const (
	DefaultBreakerFailures = 5
	DefaultBreakerCooldown = 10 * time.Second
)

// BreakerOptions say when a [Breaker] trips. The zero value of a field is its
// default.
type BreakerOptions struct {
	// Failures is how many failures in a row, of all streams together, open the
	// circuit: 5; less than 0 never opens it.
	Failures int
	// Cooldown is how long the circuit stays open before one stream may try: 10 s.
	Cooldown time.Duration
	// OnChange is told of each change of the state; nil is nobody. It must not
	// wait, and not call the breaker.
	OnChange func(from, to Circuit)
}

// Circuit is the state of a breaker.
type Circuit string

// The states of a breaker.
const (
	CircuitClosed   Circuit = "closed"    // the source is asked
	CircuitHalfOpen Circuit = "half-open" // one stream may try whether the source is back
	CircuitOpen     Circuit = "open"      // nobody asks the source
)

// Breaker keeps streams from asking a source that fails again and again: after
// so many failures in a row its circuit is open, and every stream fails at once
// with a [Tripped] error; after a rest one of them may try. Only errors of kind
// [sources.Unavailable] are failures. All streams of one source share one
// ([core.Options.Breaker]). It is safe for concurrent use.
type Breaker struct {
	circuit  circuitbreaker.CircuitBreaker[any] // nil never trips
	cooldown time.Duration
	opened   atomic.Int64 // when the circuit opened last, in nanoseconds since 1970
}

// NewBreaker returns a breaker whose circuit is closed.
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

// State is the circuit's now, and where it is open when the source may be tried
// next.
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

// Tripped is the cause of the [sources.Unavailable] error of a stream that meets
// an open circuit.
type Tripped struct {
	Until time.Time // when the source may be tried next; zero: as soon as the one that tries it has an answer
}

// Error says when the source may be tried.
func (t *Tripped) Error() string {
	if t.Until.IsZero() {
		return "the source has failed too often, and another stream is trying it now: try again soon"
	}
	wait := max(time.Until(t.Until), 0).Round(100 * time.Millisecond)
	return fmt.Sprintf("the source has failed too often: it may be tried again at %s, in %s", t.Until.UTC().Format(time.RFC3339), wait)
}

// permit is a stream's leave to ask its source. It is had once for a call that goes
// well and the scan after it: only a scan that gives something proves that the
// source is back. It is safe for concurrent use.
type permit struct {
	breaker *Breaker // or nil

	mu   sync.Mutex
	held bool
}

// ask returns an error where the source must not be asked now.
func (p *permit) ask(op, table string) error {
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
	return &sources.Error{Op: op, Table: table, Kind: sources.Unavailable, Err: &Tripped{Until: until}}
}

// answered notes that the source gave something, if only an error that says what
// is wrong with the question.
func (p *permit) answered() {
	p.settle(func(c circuitbreaker.CircuitBreaker[any]) { c.RecordSuccess() })
}

// gaveUp notes that nobody waited for the answer: what proves nothing leaves a
// circuit open.
func (p *permit) gaveUp() {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if !held {
		return
	}
	p.settle(func(c circuitbreaker.CircuitBreaker[any]) {
		if c.IsHalfOpen() {
			c.RecordFailure()
		}
	})
}

func (p *permit) settle(record func(circuitbreaker.CircuitBreaker[any])) {
	if p.breaker == nil || p.breaker.circuit == nil {
		return
	}
	p.mu.Lock()
	p.held = false
	p.mu.Unlock()
	record(p.breaker.circuit)
}

// failed notes how a call or a scan failed.
func (p *permit) failed(err error) {
	switch sources.KindOf(err) {
	case sources.Unavailable:
		p.settle(func(c circuitbreaker.CircuitBreaker[any]) { c.RecordFailure() })
	case sources.Canceled:
		p.gaveUp()
	default:
		p.answered()
	}
}
