package testkit

import (
	"context"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// Change makes of one scan another: it ranges over what the source gives and
// yields what it likes. The query is what was asked.
type Change func(ctx context.Context, env sources.Env, q *sources.Query, scan sources.Batches) sources.Batches

// Wrap returns the source with every scan changed. All else passes through, the
// catalogue too, so the result is no better a source than change lets it be.
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

// FailAfter returns the source with scans that end with err after so many
// batches, as when a connection is lost.
func FailAfter(source sources.Source, batches int, err error) sources.Source {
	return Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return upTo(scan, batches, func(yield func(sources.Batch, error) bool) { yield(sources.Batch{}, err) })
	})
}

// Cut returns the source with scans that end after so many batches as if they
// were complete. Nobody can tell from the scan alone: it is what a wall's
// trailer is for.
func TruncateAfter(source sources.Source, batches int) sources.Source {
	return Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return upTo(scan, batches, func(func(sources.Batch, error) bool) {})
	})
}

// PanicAfter returns the source with scans that panic after so many batches.
func PanicAfter(source sources.Source, batches int) sources.Source {
	return Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return upTo(scan, batches, func(func(sources.Batch, error) bool) { panic("testkit: a panic after some batches") })
	})
}

// HangAfter returns the source with scans that, after so many batches, wait
// until their context ends, and end with its error.
func HangAfter(source sources.Source, batches int) sources.Source {
	return Wrap(source, func(ctx context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return upTo(scan, batches, func(yield func(sources.Batch, error) bool) {
			<-ctx.Done()
			yield(sources.Batch{}, &sources.Error{Op: "scan", Kind: sources.Canceled, Err: context.Cause(ctx)})
		})
	})
}

// Slow returns the source with a delay before each batch, cut short by the end
// of the scan's context.
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

// upTo gives so many batches of a scan, and then does what end does. A scan that
// ends earlier ends by itself.
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
