package testkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// statementTime is how long a call or a scan of the source under test may take. A rule that
// needs more, for example to sort a large table, is skipped.
const statementTime = time.Minute

// errTime is the cause of the end of a context by the limit.
var errTime = errors.New("the time of the statement is over")

// timed is the source under test, with a limit for the time of each plan and scan.
type timed struct{ sources.Source }

func (s timed) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := s.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	return &timedSession{Session: session}, nil
}

type timedSession struct {
	sources.Session
	mu      sync.Mutex
	cancels []context.CancelCauseFunc // of all plans and scans
}

// withTime returns a context that start limits. It ends with the session and not with the
// scan, whose second range loop must not see another error than that of the source.
func (s *timedSession) withTime(ctx context.Context) (limited context.Context, start func() (stop func() bool)) {
	limited, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancels = append(s.cancels, cancel)
	return limited, func() (stop func() bool) {
		return time.AfterFunc(statementTime, func() { cancel(errTime) }).Stop
	}
}

// judge returns what skips the rule in place of an error that the limit caused.
func judge(ctx context.Context, what string, err error) error {
	if err != nil && context.Cause(ctx) == errTime {
		return skipped(fmt.Sprintf("%s takes more than %s", what, statementTime))
	}
	return err
}

func (s *timedSession) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	ctx, start := s.withTime(ctx)
	defer start()()
	plan, err := s.Session.Plan(ctx, q)
	return plan, judge(ctx, "a plan", err)
}

func (s *timedSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	ctx, start := s.withTime(ctx)
	scan := s.Session.Scan(ctx, q)
	return func(yield func(sources.Batch, error) bool) {
		defer start()()
		for batch, err := range scan {
			if !yield(batch, judge(ctx, "a scan", err)) {
				return
			}
		}
	}
}

func (s *timedSession) Close() error {
	s.mu.Lock()
	for _, cancel := range s.cancels {
		cancel(nil)
	}
	s.cancels = nil
	s.mu.Unlock()
	return s.Session.Close()
}
