package testkit

import (
	"context"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// Change returns a scan that replaces another one. The query is that of the
// scan.
type Change func(ctx context.Context, env sources.Env, q *sources.Query, scan sources.Batches) sources.Batches

// Wrap returns a source whose scans are replaced by change. The catalog and everything
// else stay as they are.
func Wrap(source sources.Source, change Change) sources.Source {
	return &wrapped{Source: source, change: change}
}

type wrapped struct {
	sources.Source
	change Change
}

func (w *wrapped) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := w.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	return &wrappedSession{Session: session, env: env, change: w.change}, nil
}

type wrappedSession struct {
	sources.Session
	env    sources.Env
	change Change
}

func (s *wrappedSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return s.change(ctx, s.env, q, s.Session.Scan(ctx, q))
}

// FailAfter returns a source whose scans fail with err after the given number of
// batches, as if a connection were lost.
func FailAfter(source sources.Source, batches int, err error) sources.Source {
	return Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return upTo(scan, batches, func(yield func(sources.Batch, error) bool) { yield(sources.Batch{}, err) })
	})
}

// TruncateAfter returns a source whose scans end after the given number of batches, as
// if they were complete. A consumer cannot detect this without the trailer of an
// isolated source.
func TruncateAfter(source sources.Source, batches int) sources.Source {
	return Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return upTo(scan, batches, func(func(sources.Batch, error) bool) {})
	})
}

// PanicAfter returns a source whose scans panic after the given number of batches.
func PanicAfter(source sources.Source, batches int) sources.Source {
	return Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return upTo(scan, batches, func(func(sources.Batch, error) bool) { panic("testkit: a panic after some batches") })
	})
}

// HangAfter returns a source whose scans block after the given number of batches until
// their context is canceled.
func HangAfter(source sources.Source, batches int) sources.Source {
	return Wrap(source, func(ctx context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return upTo(scan, batches, func(yield func(sources.Batch, error) bool) {
			<-ctx.Done()
			yield(sources.Batch{}, sources.NewError(sources.Canceled, "scan", "", context.Cause(ctx)))
		})
	})
}

// DelayEach returns a source whose scans wait before each batch for the delay or until
// their context is canceled.
func DelayEach(source sources.Source, delay time.Duration) sources.Source {
	return Wrap(source, func(ctx context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			for batch, err := range scan {
				timer := time.NewTimer(delay)
				select {
				case <-timer.C:
				case <-ctx.Done():
					timer.Stop()
				}
				if !yield(batch, err) {
					return
				}
			}
		}
	})
}

// upTo yields the given number of batches of a scan and then calls end. If the scan ends
// earlier, it does not call end.
func upTo(scan sources.Batches, batches int, end func(yield func(sources.Batch, error) bool)) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		given := 0
		for batch, err := range scan {
			if given == batches && err == nil {
				end(yield)
				return
			}
			given++
			if !yield(batch, err) {
				return
			}
		}
	}
}
