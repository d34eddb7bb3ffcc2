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

// How a stream tries again when nobody says otherwise.
const (
	DefaultMaxRetries     = 3
	DefaultInitialBackoff = time.Second
	DefaultMaxBackoff     = 4 * time.Second
	DefaultJitter         = 0.2
)

// Policy says how often a stream tries again what its source could not do now:
// errors of kind [sources.Unavailable], and no others. A scan goes on behind the
// last page that it gave, so that no row is lost and none comes twice:
//
//   - at the page's cursor, where there is one;
//   - where the table is [sources.CapStable] it is read again up to there, and what
//     was given is held against what comes by a checksum;
//   - elsewhere a fault after the first rows is the stream's error.
//
// A session that cannot be read any more is begun anew. Where it saw a moment of
// the data that the stream has seen something of, the new one joins that moment
// ([sources.Env.Snapshot]), or the stream ends with an error. The zero value of a
// field is its default.
type Policy struct {
	// MaxRetries is how many tries in a row may follow a fault: 3; less than 0 is none.
	// A page that comes, or an answer, counts them from the start again.
	MaxRetries int
	// InitialBackoff is the wait before the first of them: 1 s. Each further one is twice as
	// long, up to Most: 4 s.
	InitialBackoff, MaxBackoff time.Duration
	// Jitter is how much longer or shorter each wait is by chance, as a part of it:
	// 0.2, so that streams that failed together do not come back together; less
	// than 0 is nothing.
	Jitter float64
}

func (r Policy) orDefault() Policy {
	if r.MaxRetries == 0 {
		r.MaxRetries = DefaultMaxRetries
	}
	if r.InitialBackoff <= 0 {
		r.InitialBackoff = DefaultInitialBackoff
	}
	if r.MaxBackoff <= 0 {
		r.MaxBackoff = max(DefaultMaxBackoff, r.InitialBackoff)
	}
	if r.Jitter == 0 {
		r.Jitter = DefaultJitter
	}
	return r
}

// Check returns what is wrong with r, an error of kind [sources.Invalid]; the
// zero value is good.
func (r Policy) Check() error {
	if d := r.orDefault(); d.InitialBackoff > d.MaxBackoff || d.Jitter > 1 {
		return &sources.Error{Op: "stream", Kind: sources.Invalid, Err: fmt.Errorf(
			"Retry: First %s must not be more than Most %s, and Jitter %g not more than 1", d.InitialBackoff, d.MaxBackoff, d.Jitter)}
	}
	return nil
}

// Source is the source of one stream. It retries failed calls and scans, in
// sessions that outlive the source's own.
//
// Call Catalog before Begin: the abilities of a table decide how its scans
// resume.
type Source struct {
	sources.Source
	catalog    *sources.Catalog
	timeouts   Timeouts
	probe      permit
	faults     *faultLog
	maxRetries int
	planned    atomic.Int64           // rows that the latest plan of a whole scan expects; -1 before the first
	policy     failsafe.Executor[any] // nil without retries
}

// NewSource returns a source that retries what source fails at. breaker is
// shared by the streams of the source, and may be nil. onFault, if non-nil, is
// called for every fault, from any goroutine.
func NewSource(source sources.Source, retry Policy, timeouts Timeouts, breaker *Breaker, onFault func(Fault)) *Source {
	retry = retry.orDefault()
	faults := &faultLog{started: time.Now(), notify: onFault}
	s := &Source{Source: source, timeouts: timeouts.orDefault(), probe: permit{breaker: breaker}, faults: faults, maxRetries: retry.MaxRetries}
	s.planned.Store(-1)
	if s.maxRetries < 0 {
		return s
	}
	policy := retrypolicy.NewBuilder[any]().
		HandleIf(func(_ any, err error) bool { return retryable(err) }).
		WithMaxRetries(s.maxRetries).WithBackoff(retry.InitialBackoff, retry.MaxBackoff).ReturnLastFailure().
		OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[any]) {
			faults.add(Fault{Kind: FaultRetried, Err: e.LastError(), Try: e.Attempts(), Wait: e.Delay})
		})
	if retry.Jitter > 0 {
		policy.WithJitterFactor(retry.Jitter)
	}
	s.policy = failsafe.With[any](policy.Build())
	return s
}

// retryable reports whether it can help to try again.
func retryable(err error) bool {
	return err != nil && sources.KindOf(err) == sources.Unavailable &&
		!errors.As(err, new(permanent)) && !errors.As(err, new(*Tripped)) && !errors.As(err, new(progressed))
}

// progressed is an error of a try that gave something before it failed: it ends
// one row of tries, and is the first fault of the next.
type progressed struct{ error }

func (p progressed) Unwrap() error { return p.error }

// doWithRetry tries until the attempt succeeds, fails in a way that no retry mends, or
// has failed once too often in a row. An attempt is told how many tries were in
// vain before it, and says whether it gave something.
func (s *Source) doWithRetry(ctx context.Context, op, table string, attempt func(try int) (gave bool, err error)) error {
	if s.policy == nil {
		_, err := attempt(0)
		return err
	}
	var fault, first error
	started, count := time.Now(), 0
	for {
		err := s.policy.WithContext(ctx).RunWithExecution(func(e failsafe.Execution[any]) error {
			if fault != nil { // of the row of tries before
				err := fault
				fault = nil
				return err
			}
			gave, err := attempt(e.Retries())
			if count++; gave {
				started, count, first = time.Now(), 1, nil
			}
			if first == nil {
				first = err
			}
			if gave && retryable(err) {
				return progressed{err}
			}
			return err
		})
		var p progressed
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return sources.ContextError(ctx, op, table)
		case errors.As(err, &p):
			fault = p.error
			continue
		case retryable(err):
			return outOfRetries(err, first, count, time.Since(started))
		}
		return err
	}
}

// outOfRetries is the error of something that was tried in vain. It keeps the last
// fault's words, and says the first one's where they differ.
func outOfRetries(last, first error, count int, took time.Duration) error {
	e := &sources.Error{Kind: sources.Unavailable, Err: last}
	if own, ok := last.(*sources.Error); ok {
		e = &sources.Error{Op: own.Op, Table: own.Table, Kind: own.Kind, Err: own.Err}
	}
	text := fmt.Sprintf("tried %d times in %s", count, took.Round(time.Millisecond))
	if first != nil && first.Error() != last.Error() {
		text += ", first: " + first.Error()
	}
	e.Err = fmt.Errorf("%w (%s)", e.Err, text)
	return e
}

// callWithRetry makes a call, and tries it again.
func callWithRetry[T any](ctx context.Context, s *Source, op, table string, f func(ctx context.Context) (T, error)) (result T, err error) {
	err = s.doWithRetry(ctx, op, table, func(int) (bool, error) {
		result, err = callOnce(ctx, s, op, table, f)
		return false, err
	})
	return result, err
}

// callOnce makes a call that the breaker allows, and that has to answer in time.
func callOnce[T any](ctx context.Context, s *Source, op, table string, f func(ctx context.Context) (T, error)) (result T, err error) {
	if err := s.probe.ask(op, table); err != nil {
		return result, err
	}
	result, err = callWithin(ctx, s.timeouts.Call, op, table, f)
	if err != nil {
		s.probe.failed(err)
	}
	return result, err
}

// Catalog asks the source's, and keeps it for what follows.
func (s *Source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	catalog, err := callWithRetry(ctx, s, "catalog", "", s.Source.Catalog)
	if err == nil {
		s.catalog = catalog
	}
	return catalog, err
}

// Begin begins a session that is begun again when it is lost.
func (s *Source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	n := &session{of: s, env: env, join: env.Snapshot, turn: make(chan struct{}, 1)}
	session, err := callWithRetry(ctx, s, "begin", "", func(ctx context.Context) (sources.Session, error) { return s.Source.Begin(ctx, env) })
	if err != nil {
		return nil, err
	}
	n.current = &sharedSession{session: session}
	return n, nil
}

// Planned returns how many rows the latest plan of a whole scan expects, or -1
// before the first plan.
func (s *Source) Planned() int64 { return s.planned.Load() }

// Faults returns what went wrong so far without ending the stream: the first 64
// faults, how often the source failed and was tried again, and how often it
// returned nothing for half of [Timeouts.Stall].
func (s *Source) Faults() (first []Fault, retries, stalls int64) { return s.faults.report() }
