package host_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
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
	closed   atomic.Int64 // calls of Close, which no session may outlive
	t        *testing.T
}

func (s *stuck) wait(op string) {
	if s.op == op && !s.waited.Swap(true) {
		<-s.release
	}
}

func newStuck(t *testing.T, op string) *stuck {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "t", Schema: schema, Rows: 1}}}
	plain := sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return sources.FromRows(env, schema, func(yield func(sources.Row, error) bool) { yield(sources.Row{Values: []any{1}}, nil) })
	})
	return &stuck{Source: plain, op: op, release: make(chan struct{}), t: t}
}

func (s *stuck) open(context.Context, sources.Config) (sources.Source, error) {
	s.wait("open")
	return s, nil
}

func (s *stuck) Catalog(ctx context.Context) (*sources.Catalog, error) {
	s.wait("catalog")
	return s.Source.Catalog(ctx)
}

func (s *stuck) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	s.wait("begin")
	session, err := s.Source.Begin(context.WithoutCancel(ctx), env)
	s.sessions.Add(1)
	return &stuckSession{session, s}, err
}

func (s *stuck) Close() error {
	s.wait("close")
	if open := s.sessions.Load(); open != 0 {
		s.t.Errorf("%s: the source is closed while %d sessions are open", s.op, open)
	}
	s.closed.Add(1)
	return nil
}

type stuckSession struct {
	sources.Session
	source *stuck
}

func (s *stuckSession) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	s.source.wait("plan")
	return s.Session.Plan(ctx, q)
}

func (s *stuckSession) Close() error {
	s.source.wait("end")
	s.source.sessions.Add(-1)
	return s.Session.Close()
}

// TestIgnoredTimeout tests that no method of a host or a source waits for a call that
// ignores its context, and that the source is closed once, after that call.
func TestIgnoredTimeout(t *testing.T) {
	methods := func(s *host.Source) map[string]func(context.Context) error {
		return map[string]func(context.Context) error{
			"catalog": func(ctx context.Context) error { _, err := s.Catalog(ctx); return err },
			"check":   s.Check,
			"explain": func(ctx context.Context) error {
				_, err := s.Explain(ctx, core.Query{Table: "t"}, core.Options{})
				return err
			},
			"stream": func(ctx context.Context) error {
				stream, err := s.Stream(ctx, core.Query{Table: "t"}, core.Options{})
				if err != nil {
					return err
				}
				return stream.Close()
			},
			"close": func(context.Context) error { return s.Close() },
		}
	}
	for _, c := range []struct{ op, method string }{
		{"catalog", "catalog"}, {"catalog", "explain"}, {"catalog", "stream"}, {"begin", "check"}, {"begin", "explain"}, {"begin", "stream"},
		{"plan", "explain"}, {"end", "check"}, {"end", "explain"}, {"end", "stream"}, {"close", "close"},
	} {
		t.Run(c.op+" in "+c.method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := newStuck(t, c.op)
				h, err := host.New(host.Options{Sources: map[string]sources.Open{"stuck": source.open}, Timeouts: retry.Timeouts{Call: 10 * time.Second}, PluginPath: []string{}})
				if err != nil {
					t.Fatal(err)
				}
				s, err := h.Open(t.Context(), "stuck:")
				if err != nil {
					t.Fatal(err)
				}
				started := time.Now()
				if err := methods(s)[c.method](t.Context()); sources.KindOf(err) != sources.Unavailable || err == nil || !strings.Contains(err.Error(), "no answer within 10s: the source ignores") {
					t.Errorf("%v", err)
				}
				if took := time.Since(started); took != 12*time.Second {
					t.Errorf("it took %s", took)
				}
				if held := h.Budget().Held(); c.method == "stream" && (held > 0) != (c.op != "catalog") {
					t.Errorf("%d bytes are held", held)
				}
				err = h.Close()
				if c.op == "close" != (err == nil) || err != nil && !strings.Contains(err.Error(), `close: unavailable: 1 calls to the source "stuck" were given up and have not returned: it is closed when they do`) {
					t.Errorf("%v", err)
				}
				if n := source.closed.Load(); n != 0 {
					t.Errorf("the source was closed %d times", n)
				}
				close(source.release)
				synctest.Wait()
				if n := source.closed.Load(); n != 1 || h.Budget().Held() != 0 || source.sessions.Load() != 0 {
					t.Errorf("the source was closed %d times, %d bytes are held, %d sessions are open", n, h.Budget().Held(), source.sessions.Load())
				}
			})
		})
	}
}

// TestIgnoredOpenTimeout tests that Open does not wait for a source that ignores its
// context, and that such a source is closed if it opens later.
func TestIgnoredOpenTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newStuck(t, "open")
		h, err := host.New(host.Options{Sources: map[string]sources.Open{"stuck": source.open}, OpenTimeout: time.Minute, PluginPath: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		_, err = h.Open(t.Context(), "stuck:")
		if sources.KindOf(err) != sources.Unavailable || err == nil || time.Since(started) != time.Minute+2*time.Second {
			t.Errorf("%v after %s", err, time.Since(started))
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		close(source.release)
		synctest.Wait()
		if n := source.closed.Load(); n != 1 {
			t.Errorf("the source was closed %d times", n)
		}
	})
}
