package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// LateCalls counts the calls to a source that were given up but have not returned: a
// source that runs in the application cannot be stopped if it ignores its context. What
// such a call uses must stay as it is until it returns. LateCalls is safe for concurrent
// use. The zero value is ready to use, and the nil *LateCalls counts nothing.
type LateCalls struct {
	parent *LateCalls // counts the calls as well; or nil

	mu    sync.Mutex
	count int
	after []func()
}

// Child returns a count of some of the calls, which l counts as well.
func (l *LateCalls) Child() *LateCalls { return &LateCalls{parent: l} }

// Count returns how many calls are late now.
func (l *LateCalls) Count() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// After calls f once no call is late: before it returns, or else on the goroutine of the
// last call that returns.
func (l *LateCalls) After(f func()) {
	if l != nil {
		l.mu.Lock()
		if l.count > 0 {
			l.after = append(l.after, f)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
	f()
}

// begin counts a call as late.
func (l *LateCalls) begin() {
	for ; l != nil; l = l.parent {
		l.mu.Lock()
		l.count++
		l.mu.Unlock()
	}
}

// end counts a call as returned.
func (l *LateCalls) end() {
	for ; l != nil; l = l.parent {
		var after []func()
		l.mu.Lock()
		if l.count--; l.count == 0 {
			after, l.after = l.after, nil
		}
		l.mu.Unlock()
		for _, f := range after {
			f()
		}
	}
}

// grace is how long a call whose context has ended may take to return. The contract asks
// for one second.
const grace = 2 * time.Second

// errIgnores is part of the error of a call that was given up.
var errIgnores = errors.New("the source ignores that the call was canceled; what the call uses is kept until it returns")

// errExited is the error of a call that ended its goroutine.
var errExited = errors.New("the call ended its goroutine")

// Call makes one call to a source, which must return within limit; if limit is not
// positive, there is no timeout. As [sources.GuardCall] does, it turns a panic into an
// error and adds op and table to errors.
//
// If the call does not return within limit, or within two seconds of the end of its context,
// Call gives it up and reports it as late: it counts it in calls, and returns an error that
// is not retried, of kind [sources.Unavailable], or [sources.Canceled] if ctx has
// ended. When the call then returns, on a goroutine of its own, discard gets its
// results, and must release what the call has used.
func Call[T any](ctx context.Context, calls *LateCalls, limit time.Duration, op, table string, f func(ctx context.Context) (T, error), discard func(T, error)) (result T, late bool, err error) {
	timed, cancel := ctx, context.CancelFunc(func() {})
	expired := sources.Errorf(sources.Unavailable, op, table, "no answer within %s", limit)
	if limit > 0 {
		timed, cancel = context.WithTimeoutCause(ctx, limit, expired)
	}
	defer cancel()
	type outcome struct {
		result T
		err    error
	}
	returned := make(chan outcome, 1)
	go func() {
		o := outcome{err: sources.NewError(sources.Internal, op, table, errExited)}
		defer func() { returned <- o }()
		o.result, o.err = sources.GuardCall(op, table, func() (T, error) { return f(timed) })
	}()
	inTime := func(o outcome) (T, bool, error) {
		if o.err != nil && ctx.Err() == nil && timed.Err() != nil {
			return o.result, false, expired
		}
		return o.result, false, o.err
	}
	select {
	case o := <-returned:
		return inTime(o)
	case <-timed.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case o := <-returned:
		return inTime(o)
	case <-timer.C:
	}
	calls.begin()
	go func() {
		defer calls.end()
		o := <-returned
		if discard == nil {
			return
		}
		// There is nobody to report an error to.
		_, _ = sources.GuardCall(op, table, func() (struct{}, error) { discard(o.result, o.err); return struct{}{}, nil })
	}()
	if ctx.Err() != nil {
		return result, true, sources.Errorf(sources.Canceled, op, table, "%w (%w)", context.Cause(ctx), errIgnores)
	}
	return result, true, permanentError(op, table, fmt.Errorf("%w: %w", expired.Err, errIgnores))
}
