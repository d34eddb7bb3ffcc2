package retry_test

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// stuck is a source in which the first call of one operation ignores its context until it
// is released.
type stuck struct {
	sources.Source
	op       string
	release  chan struct{}
	waited   atomic.Bool
	sessions atomic.Int64 // open ones
	begun    atomic.Int64
}

func (s *stuck) wait(op string) {
	if s.op == op && !s.waited.Swap(true) {
		<-s.release
	}
}

func (s *stuck) Catalog(ctx context.Context) (*sources.Catalog, error) {
	s.wait("catalog")
	return s.Source.Catalog(ctx)
}

func (s *stuck) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	s.wait("begin")
	held := env.Mem.Allocate(1 << 10) // fails if the budget is closed
	env.Mem.Free(held)
	session, err := s.Source.Begin(context.WithoutCancel(ctx), env)
	s.sessions.Add(1)
	s.begun.Add(1)
	return &stuckSession{session, s}, err
}

type stuckSession struct {
	sources.Session
	source *stuck
}

func (s *stuckSession) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	s.source.wait("plan")
	return s.Session.Plan(context.WithoutCancel(ctx), q)
}

func (s *stuckSession) Close() error {
	s.source.wait("close")
	s.source.sessions.Add(-1)
	return s.Session.Close()
}

// TestIgnoredTimeout tests that a call which ignores its context does not keep the stream
// waiting, and that the memory of the stream stays reserved until the call returns. What it
// has begun is then closed.
func TestIgnoredTimeout(t *testing.T) {
	for op, want := range map[string]string{
		"catalog": "catalog: unavailable: no answer within 1m0s: the source ignores ",
		"begin":   "begin: unavailable: no answer within 1m0s: the source ignores ",
		"plan":    "plan items: unavailable: no answer within 1m0s: the source ignores ",
		"close":   "close items: unavailable: no answer within 1m0s: the source ignores ",
	} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := &stuck{Source: coretest.Numbered(t, 5000), op: op, release: make(chan struct{})}
				parent, err := budget.New("host", 64<<20, nil)
				if err != nil {
					t.Fatal(err)
				}
				var late retry.LateCalls
				started := time.Now()
				rows, err := readNumbered(t, source, core.Options{Timeouts: retry.Timeouts{Call: time.Minute}, Parallel: 2}, core.Resources{Budget: parent, LateCalls: &late})
				if took := time.Since(started); took != time.Minute+2*time.Second {
					t.Errorf("it took %s", took)
				}
				if err == nil || !strings.HasPrefix(err.Error(), want) || sources.KindOf(err) != sources.Unavailable {
					t.Errorf("%v, want %s", err, want)
				}
				if (op == "close") != (rows == 5000) {
					t.Errorf("%d rows", rows)
				}
				if late.Count() != 1 {
					t.Errorf("%d calls are late", late.Count())
				}
				closed := false
				late.After(func() { closed = true })
				if held := parent.Held(); (held > 0) != (op != "catalog") || closed {
					t.Errorf("%d bytes are held, closed %t", held, closed)
				}
				close(source.release)
				synctest.Wait()
				if held, open := parent.Held(), source.sessions.Load(); held != 0 || open != 0 || !closed || late.Count() != 0 {
					t.Errorf("%d bytes are held, %d sessions are open, closed %t", held, open, closed)
				}
				if begun := source.begun.Load(); (begun == 0) != (op == "catalog") {
					t.Errorf("%d sessions were begun", begun)
				}
				parent.Close()
			})
		})
	}
}

// readNumbered reads all items, and returns how many there are and the first error.
func readNumbered(t *testing.T, source sources.Source, o core.Options, r core.Resources) (rows int64, err error) {
	t.Helper()
	stream, err := core.Open(t.Context(), source, core.Query{Table: "items"}, coretest.SmallMemory(o), r)
	if err != nil {
		return 0, err
	}
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return rows, err
		}
		rows += chunk.Record.NumRows()
	}
	return rows, stream.Close()
}

// TestIgnoredTimeoutOfExplain tests that an explanation does not wait for a plan that
// ignores its context, and that the session of the plan is closed only after it.
func TestIgnoredTimeoutOfExplain(t *testing.T) {
	for _, op := range []string{"catalog", "begin", "plan", "close"} {
		synctest.Test(t, func(t *testing.T) {
			source := &stuck{Source: coretest.Numbered(t, 10), op: op, release: make(chan struct{})}
			started := time.Now()
			_, err := core.Explain(t.Context(), source, core.Query{Table: "items"}, core.Options{})
			if sources.KindOf(err) != sources.Unavailable || err == nil || time.Since(started) != 32*time.Second {
				t.Errorf("%s: %v after %s", op, err, time.Since(started))
			}
			if open := source.sessions.Load(); op == "plan" && open != 1 {
				t.Errorf("%d sessions are open during the plan", open)
			}
			close(source.release)
			synctest.Wait()
			if open := source.sessions.Load(); open != 0 {
				t.Errorf("%s: %d sessions are open", op, open)
			}
		})
	}
}

// TestIgnoredCancel tests that a canceled stream does not wait for a call that ignores
// that.
func TestIgnoredCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &stuck{Source: coretest.Numbered(t, 10), op: "begin", release: make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		started := time.Now()
		_, err := core.Open(ctx, source, core.Query{Table: "items"}, core.Options{Timeouts: retry.Timeouts{Call: -1}}, core.Resources{})
		if sources.KindOf(err) != sources.Canceled || time.Since(started) != 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(started))
		}
		close(source.release)
	})
}

// TestCall tests the calls that return in time.
func TestCall(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(context.Context) (int, error)
		want string
	}{
		"result": {func(context.Context) (int, error) { return 7, nil }, ""},
		"error":  {func(context.Context) (int, error) { return 0, sources.Errorf(sources.Denied, "", "", "no") }, "op t: denied: no"},
		"panic":  {func(context.Context) (int, error) { panic("oh") }, "op t: internal: panic: oh"},
		"exit":   {func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }, "op t: internal: the call ended its goroutine"},
		"slow": {func(ctx context.Context) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			return 0, ctx.Err()
		}, "op t: unavailable: no answer within 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls retry.LateCalls
				n, late, err := retry.Call(t.Context(), &calls, time.Second, "op", "t", c.f, func(int, error) { t.Error("the result was discarded") })
				text := ""
				if err != nil {
					text = strings.Split(err.Error(), "\n")[0]
				}
				if late || text != c.want || (n == 7) != (c.want == "") || calls.Count() != 0 {
					t.Errorf("%d, %t, %v", n, late, err)
				}
			})
		})
	}
}
