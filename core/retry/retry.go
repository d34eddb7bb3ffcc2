package retry

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/penstock-data/penstock/sources"
)

// The defaults of [Policy].
const (
	DefaultMaxRetries     = 3
	DefaultInitialBackoff = time.Second
	DefaultMaxBackoff     = 4 * time.Second
	DefaultJitter         = 0.2
)

// Policy configures how a stream retries operations that fail with an error of kind
// [sources.Unavailable]. Other errors are not retried. A field that is zero has its
// default.
//
// A scan resumes after the last page that it delivered, so that each row is delivered
// exactly once:
//
//   - If the page has a cursor, the scan resumes there.
//   - Otherwise, if the table is [sources.CapStable], the scan is repeated from the last
//     cursor or the start, and a digest verifies that the rows delivered before
//     have not changed.
//   - Otherwise, a failure after the first rows ends the stream.
//
// A retry uses the current session first. If that fails again, the session is lost:
// the same retry begins a new session at once and continues there. If the stream has
// read from a snapshot in the lost session, the new one joins that snapshot
// ([sources.Env.Snapshot]); if that is not possible, the stream ends with an error.
type Policy struct {
	// MaxRetries is the maximum number of consecutive retries of a call or scan; a reply
	// of the source, or progress of the scan ([Timeouts.Stall]), starts the count again.
	// The default is 3. If MaxRetries is negative, nothing is retried.
	MaxRetries int
	// InitialBackoff is the wait before the first retry. The default is 1 s.
	InitialBackoff time.Duration
	// MaxBackoff is the maximum of the wait, which doubles with each consecutive retry.
	// The default is 4 s, or InitialBackoff if that is longer.
	MaxBackoff time.Duration
	// Jitter is the fraction, at most 1, by which each wait is randomly lengthened or
	// shortened, so that streams that failed together do not retry together. The
	// default is 0.2. If Jitter is negative, waits are exact.
	Jitter float64
}

func (p Policy) orDefault() Policy {
	if p.MaxRetries == 0 {
		p.MaxRetries = DefaultMaxRetries
	}
	if p.InitialBackoff <= 0 {
		p.InitialBackoff = DefaultInitialBackoff
	}
	if p.MaxBackoff <= 0 {
		p.MaxBackoff = max(DefaultMaxBackoff, p.InitialBackoff)
	}
	if p.Jitter == 0 {
		p.Jitter = DefaultJitter
	}
	return p
}

// Check returns an error of kind [sources.Invalid] if p, with its defaults, is not
// valid. The zero value is valid.
func (p Policy) Check() error {
	if d := p.orDefault(); d.InitialBackoff > d.MaxBackoff || d.Jitter > 1 {
		return sources.Errorf(sources.Invalid, "stream", "",
			"Retry must satisfy InitialBackoff <= MaxBackoff and Jitter <= 1 (got InitialBackoff %s, MaxBackoff %s, Jitter %g)", d.InitialBackoff, d.MaxBackoff, d.Jitter)
	}
	return nil
}

// Source is a [sources.Source] for one stream. It retries the calls and scans of the
// source that it wraps. Its sessions begin a new session of that source when they
// lose one.
//
// A Source is safe for concurrent use, but [Source.Catalog] must return before
// [Source.Begin] is called: the capabilities of a table determine how its scans resume.
type Source struct {
	sources.Source
	catalog    *sources.Catalog // set by Catalog
	timeouts   Timeouts
	permit     permit
	faults     *faultLog
	maxRetries int
	planned    atomic.Int64 // see Planned
	late       LateCalls
	executor   failsafe.Executor[any] // nil if there are no retries
}

// NewSource returns a Source that wraps source. The breaker and the count of late calls
// are shared by the streams of source, and may be nil. onFault, if non-nil, is called for every fault, from any
// goroutine.
func NewSource(source sources.Source, policy Policy, timeouts Timeouts, breaker *Breaker, late *LateCalls, onFault func(Fault)) *Source {
	policy = policy.orDefault()
	faults := &faultLog{started: time.Now(), notify: onFault}
	s := &Source{Source: source, timeouts: timeouts.orDefault(), permit: permit{breaker: breaker}, faults: faults, maxRetries: policy.MaxRetries, late: LateCalls{parent: late}}
	s.planned.Store(-1)
	if s.maxRetries < 0 {
		return s
	}
	builder := retrypolicy.NewBuilder[any]().
		HandleIf(func(_ any, err error) bool { return retryable(err) }).
		WithMaxRetries(s.maxRetries).WithBackoff(policy.InitialBackoff, policy.MaxBackoff).ReturnLastFailure().
		OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[any]) {
			faults.add(Fault{Kind: FaultRetried, Err: e.LastError(), Try: e.Attempts(), Wait: e.Delay})
		})
	if policy.Jitter > 0 {
		builder.WithJitterFactor(policy.Jitter)
	}
	s.executor = failsafe.With[any](builder.Build())
	return s
}

// retryable reports whether a retry may succeed after err.
func retryable(err error) bool {
	return err != nil && sources.KindOf(err) == sources.Unavailable &&
		!errors.As(err, new(permanent)) && !errors.As(err, new(*Tripped)) && !errors.As(err, new(progressed))
}

// progressed is the error of an attempt that made progress before it failed. It ends
// one sequence of consecutive retries, and is the first failure of the next.
type progressed struct{ error }

func (p progressed) Unwrap() error { return p.error }

// doWithRetry calls attempt until it succeeds, fails with an error that is not
// retryable, or exceeds the number of consecutive retries. The argument of attempt is
// the number of consecutive failures before it; progress reports whether it obtained
// anything from the source, which restarts the count.
func (s *Source) doWithRetry(ctx context.Context, op, table string, attempt func(failures int) (progress bool, err error)) error {
	if s.executor == nil {
		_, err := attempt(0)
		return err
	}
	var carried, first error // carried is the failure that begins the next sequence
	started, count := time.Now(), 0
	for {
		succeeded := false
		err := s.executor.WithContext(ctx).RunWithExecution(func(e failsafe.Execution[any]) error {
			if carried != nil {
				err := carried
				carried = nil
				return err
			}
			progress, err := attempt(e.Retries())
			succeeded = err == nil
			if count++; progress {
				started, count, first = time.Now(), 1, nil
			}
			if first == nil {
				first = err
			}
			if progress && retryable(err) {
				return progressed{err}
			}
			return err
		})
		var p progressed
		switch {
		case err == nil, succeeded:
			// The executor reports the end of the context even after a success: that would
			// lose a session, and end a scan twice.
			return nil
		case ctx.Err() != nil:
			return sources.ContextError(ctx, op, table)
		case errors.As(err, &p):
			carried = p.error
			continue
		case retryable(err):
			return outOfRetries(err, first, count, time.Since(started))
		}
		return err
	}
}

// outOfRetries returns the error of an operation whose retries have all failed. It
// wraps the last error, and includes the text of the first one if that differs.
func outOfRetries(last, first error, count int, took time.Duration) error {
	e := sources.NewError(sources.Unavailable, "", "", last)
	if typed, ok := last.(*sources.Error); ok {
		e = sources.NewError(typed.Kind, typed.Op, typed.Table, typed.Err)
	}
	text := fmt.Sprintf("tried %d times in %s", count, took.Round(time.Millisecond))
	if first != nil && first.Error() != last.Error() {
		text += ", first error: " + first.Error()
	}
	e.Err = fmt.Errorf("%w (%s)", e.Err, text)
	return e
}

// callWithRetry makes a call to the source, with retries. See [Call] for discard.
func callWithRetry[T any](ctx context.Context, s *Source, op, table string, f func(ctx context.Context) (T, error), discard func(T, error)) (result T, err error) {
	err = s.doWithRetry(ctx, op, table, func(int) (bool, error) {
		result, _, err = callOnce(ctx, s, op, table, f, discard)
		return false, err
	})
	return result, err
}

// callOnce makes one call to the source, if the breaker allows it, which must return
// within [Timeouts.Call]. It reports whether the call was given up. See [Call] for
// discard.
func callOnce[T any](ctx context.Context, s *Source, op, table string, f func(ctx context.Context) (T, error), discard func(T, error)) (result T, late bool, err error) {
	if err := s.permit.acquire(op, table); err != nil {
		return result, false, err
	}
	result, late, err = Call(ctx, &s.late, s.timeouts.Call, op, table, f, discard)
	if err != nil {
		s.permit.failed(err)
	}
	return result, late, err
}

// AfterCalls calls f once no call of the stream is running that was given up: at once, or
// on another goroutine when the last of them returns. Until then such calls may use the
// memory of their session.
func (s *Source) AfterCalls(f func()) { s.late.After(f) }

// Catalog returns the [sources.NormalizeCatalog] of the source. If a name in it is too
// long, see [sources.CheckCatalog], the error is of kind [sources.Invalid].
func (s *Source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	catalog, err := callWithRetry(ctx, s, "catalog", "", s.Source.Catalog, nil)
	if err == nil {
		err = sources.CheckCatalog(catalog)
	}
	if err != nil {
		return nil, err
	}
	s.catalog = sources.NormalizeCatalog(catalog)
	return s.catalog, nil
}

// Begin begins a session. If a session of the source is lost, it begins another one
// when needed.
func (s *Source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	reconnecting := &session{source: s, env: env, snapshot: env.Snapshot, beginning: make(chan struct{}, 1)}
	first, err := callWithRetry(ctx, s, "begin", "", func(ctx context.Context) (sources.Session, error) { return s.Source.Begin(ctx, env) }, closeLate)
	if err != nil {
		return nil, err
	}
	reconnecting.current = &sharedSession{session: first}
	return reconnecting, nil
}

// Planned returns the number of rows that the latest plan of a whole scan estimates. It
// returns -1 before the first plan, and if the source has no estimate.
func (s *Source) Planned() int64 { return s.planned.Load() }

// Faults returns the first 64 faults, and the total numbers of retries and of stalls:
// waits in which the source delivered nothing for half of [Timeouts.Stall].
func (s *Source) Faults() (first []Fault, retries, stalls int64) { return s.faults.report() }
