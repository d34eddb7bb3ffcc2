package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// numbered is a table in memory that can do everything: its ids are 0 to n-1.
func numbered(t testing.TB, n int) sources.Source { return shifted(t, n, 0) }

// shifted is the same with ids from another number on.
func shifted(t testing.TB, n, from int) sources.Source {
	t.Helper()
	source, err := testkit.NewMemory([]testkit.MemoryTable{{Name: "items", Schema: itemSchema, Key: []string{"id"}, Rows: func(yield func([]any) bool) {
		for i := range n {
			if !yield([]any{int64(i + from), strings.Repeat("x", i%50)}) {
				return
			}
		}
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

var errCable = &sources.Error{Kind: sources.Unavailable, Err: errors.New("the cable is cut")}

// trouble is a source whose scans fail as planned: each entry is after how many
// pages one scan fails. Where sessions are mortal, a fault ends its session.
type trouble struct {
	sources.Source
	mortal bool
	err    error

	mu     sync.Mutex
	plan   []int
	asked  []sources.Query // of every scan
	joined []string        // of every session
	begins int
	ends   int
}

func (t *trouble) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := t.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begins++
	t.joined = append(t.joined, env.Snapshot)
	return &troubled{Session: session, t: t}, nil
}

type troubled struct {
	sources.Session
	t    *trouble
	dead bool
}

func (s *troubled) Close() error {
	s.t.mu.Lock()
	s.t.ends++
	s.t.mu.Unlock()
	return s.Session.Close()
}

func (s *troubled) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		s.t.mu.Lock()
		s.t.asked = append(s.t.asked, *q)
		left, dead := -1, s.dead
		if !dead && len(s.t.plan) > 0 {
			left, s.t.plan = s.t.plan[0], s.t.plan[1:]
		}
		s.t.mu.Unlock()
		for page, err := range s.Session.Scan(ctx, q) {
			if err == nil && (dead || left == 0) {
				s.dead = s.t.mortal
				err, page = s.t.err, sources.Batch{}
			}
			left--
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// small makes pages of a few hundred rows.
func small(o core.Options) core.Options {
	o.Memory = 512 << 10
	return o
}

// TestRetry: whatever a table can do, and wherever it fails, every row comes once
// and in order, or an error says that it cannot be.
func TestRetry(t *testing.T) {
	const rows = 5000
	const all = ^sources.Capability(0)
	cases := []struct {
		name   string
		can    sources.Capability
		mortal bool
		plan   []int
		q      core.Query
		retry  retry.Policy
		want   string // of the error; empty: complete
		took   time.Duration
		begins int
	}{
		{name: "nothing fails", can: all, begins: 1},
		{name: "at once", can: all, plan: []int{0}, took: time.Second, begins: 1},
		{name: "in the middle", can: all, plan: []int{2}, took: time.Second, begins: 1},
		{name: "again and again, with pages between", can: all, plan: []int{2, 1, 1, 1, 1, 1}, took: 6 * time.Second, begins: 1},
		{name: "four times in a row", can: all, plan: []int{2, 0, 0, 0, 0}, want: "tried 4 times in 7s", took: 7 * time.Second, begins: 4},
		{name: "no tries", can: all, plan: []int{2}, retry: retry.Policy{MaxRetries: -1}, want: "scan items: unavailable: the cable is cut", begins: 1},
		{name: "one try, and it helps", can: all, plan: []int{2}, retry: retry.Policy{MaxRetries: 1, InitialBackoff: time.Minute}, took: time.Minute, begins: 1},
		{name: "the session dies", can: all, mortal: true, plan: []int{3}, took: time.Second, begins: 2},
		{name: "the sessions die", can: all, mortal: true, plan: []int{3, 1, 0, 0, 1}, took: 9 * time.Second, begins: 6},
		{name: "without cursors", can: all &^ sources.CapResume, plan: []int{2, 3}, took: 2 * time.Second, begins: 1},
		{name: "without cursors, the session dies", can: all &^ sources.CapResume, mortal: true, plan: []int{2, 3}, took: 2 * time.Second, begins: 3},
		{name: "without cursors or an order", can: all &^ (sources.CapResume | sources.CapStable), plan: []int{2}, want: "neither cursors nor a stable order", begins: 1},
		{name: "without cursors or an order, at once", can: all &^ (sources.CapResume | sources.CapStable), plan: []int{0}, took: time.Second, begins: 1},
		{name: "the table's limit", can: all, plan: []int{2, 1}, q: core.Query{Limit: 3000}, took: 2 * time.Second, begins: 1},
		{name: "the engine's limit", can: all &^ sources.CapLimit, plan: []int{2, 1}, q: core.Query{Limit: 3000}, took: 2 * time.Second, begins: 1},
		{name: "the engine sorts", can: all &^ (sources.CapSort | sources.CapResume), plan: []int{2, 9},
			q: core.Query{OrderBy: []sources.Sort{{Column: "id"}}, Limit: 3000}, took: 2 * time.Second, begins: 1},
	}
	for _, c := range cases {
		for _, ahead := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ahead %t", c.name, ahead), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					source := &trouble{Source: numbered(t, rows), mortal: c.mortal, plan: c.plan, err: errCable}
					source.Source = humbled(t, source.Source, func(table *sources.Table) { table.Capabilities &= c.can })
					c.q.Table = "items"
					c.retry.Jitter = -1
					started := time.Now()
					stream, err := core.Open(t.Context(), source, c.q, small(core.Options{Retry: c.retry, ReadAhead: ahead}), core.Resources{})
					if err != nil {
						t.Fatal(err)
					}
					got, err := ids(stream)
					took := time.Since(started)
					want := count(0, rows)
					if c.q.Limit > 0 {
						want = want[:c.q.Limit]
					}
					r := stream.Receipt()
					switch {
					case c.want == "" && (err != nil || !r.Complete):
						t.Errorf("the error is %v, the receipt %+v", err, r)
					case c.want == "":
						if d := cmp.Diff(want, got); d != "" {
							t.Error(d)
						}
					case err == nil || !strings.Contains(err.Error(), c.want) || sources.KindOf(err) != sources.Unavailable || r.Complete:
						t.Errorf("the error is %v, want %q; complete: %t", err, c.want, r.Complete)
					case !slices.Equal(got, want[:len(got)]):
						t.Error("the rows before the error are not the first ones")
					}
					if took != c.took {
						t.Errorf("it took %s, want %s", took, c.took)
					}
					if source.begins != c.begins || source.ends != c.begins {
						t.Errorf("%d sessions were begun and %d ended, want %d", source.begins, source.ends, c.begins)
					}
					if stream.Budget().Held() != 0 {
						t.Errorf("%d bytes are held", stream.Budget().Held())
					}
				})
			})
		}
	}
}

// TestRetryAsks: a scan that goes on is asked for behind the last page, for what
// is left of the limit, in the moment of the first session.
func TestRetryAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &trouble{Source: numbered(t, 5000), mortal: true, plan: []int{2}, err: errCable}
		stream := open(t, source, core.Query{Table: "items", Limit: 4000}, small(core.Options{}), core.Resources{})
		got, err := ids(stream)
		if err != nil || len(got) != 4000 {
			t.Fatalf("%d rows, %v", len(got), err)
		}
		if d := cmp.Diff([]string{"", "always"}, source.joined); d != "" {
			t.Errorf("sessions joined: %s", d)
		}
		// In the session, and then in the next one.
		last := source.asked[len(source.asked)-1]
		if len(source.asked) != 3 || last.After == nil || last.Limit <= 0 || last.Limit >= 4000 {
			t.Errorf("%d scans, the last one of %+v", len(source.asked), last)
		}
		r := stream.Receipt()
		if r.Retries != 1 || len(r.Faults) != 1 || r.Faults[0].Kind != retry.FaultRetried || r.Faults[0].Text != "scan items: unavailable: the cable is cut" {
			t.Errorf("the receipt is %+v", r)
		}
	})
}

// TestRetryKinds: only what is unavailable is asked again.
func TestRetryKinds(t *testing.T) {
	for _, kind := range []sources.Kind{sources.Internal, sources.Invalid, sources.NotFound, sources.Exhausted, sources.Denied, sources.Canceled} {
		t.Run(kind.String(), func(t *testing.T) {
			source := &trouble{Source: numbered(t, 5000), plan: []int{2}, err: &sources.Error{Kind: kind, Err: errors.New("no")}}
			stream := open(t, source, core.Query{Table: "items"}, small(core.Options{}), core.Resources{Budget: parent(t)})
			if _, err := ids(stream); sources.KindOf(err) != kind || len(source.asked) != 1 {
				t.Errorf("%v, after %d scans", err, len(source.asked))
			}
		})
	}
}

// TestRetryHoldsRowsToWhatTheyWere: a table that is read again must give what it
// gave.
func TestRetryHoldsRowsToWhatTheyWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shift := 0
		catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: itemSchema, Rows: -1, Capabilities: sources.CapStable}}}
		source := sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
			shift++
			return sources.FromRows(env, itemSchema, func(yield func(sources.Row, error) bool) {
				for i := range 3000 {
					if !yield(sources.Row{Values: []any{i * shift, nil}}, nil) {
						return
					}
				}
				yield(sources.Row{}, errCable)
			})
		})
		stream := open(t, source, core.Query{Table: "items"}, small(core.Options{}), core.Resources{})
		_, err := ids(stream)
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "the data has changed") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestRetryIsCancelled: a wait ends with the context.
func TestRetryIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &trouble{Source: numbered(t, 5000), plan: []int{2, 0, 0, 0}, err: errCable}
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := core.Open(ctx, source, core.Query{Table: "items"}, small(core.Options{}), core.Resources{})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(1500*time.Millisecond, cancel)
		started := time.Now()
		if _, err := ids(stream); sources.KindOf(err) != sources.Canceled || time.Since(started) != 1500*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(started))
		}
	})
}

// TestJitter: waits differ, and not by more than they may.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []time.Duration
		for range 20 {
			source := &trouble{Source: numbered(t, 10), plan: []int{0}, err: errCable}
			stream := open(t, source, core.Query{Table: "items"}, small(core.Options{}), core.Resources{Observer: core.Observer{Fault: func(f retry.Fault) { waits = append(waits, f.Wait) }}})
			if _, err := ids(stream); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(waits)
		if len(slices.Compact(slices.Clone(waits))) < 2 || waits[0] < 800*time.Millisecond || waits[19] > 1200*time.Millisecond {
			t.Errorf("the waits are %v", waits)
		}
	})
}

// TestStall: a source that gives nothing is told of, given up, and asked again;
// the consumer's own time does not count.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := 1
		source := testkit.Wrap(numbered(t, 5000), func(ctx context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				pages := 0
				for page, err := range scan {
					if pages == 2 && hangs > 0 {
						hangs--
						<-ctx.Done()
						yield(sources.Batch{}, &sources.Error{Kind: sources.Canceled, Err: context.Cause(ctx)})
						return
					}
					pages++
					if !yield(page, err) {
						return
					}
				}
			}
		})
		stream := open(t, source, core.Query{Table: "items"}, small(core.Options{Retry: retry.Policy{Jitter: -1}}), core.Resources{})
		started := time.Now()
		rows := int64(0)
		for chunk, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			rows += chunk.Record.NumRows()
			time.Sleep(time.Hour)
		}
		r := stream.Receipt()
		want := []retry.Fault{{Kind: retry.FaultStalled, Text: "waiting for a page of items", Wait: 15 * time.Second},
			{Kind: retry.FaultRetried, Text: "scan items: unavailable: the source stalled: no data for 30s", Try: 1, Wait: time.Second}}
		if d := cmp.Diff(want, r.Faults, cmpopts.IgnoreFields(retry.Fault{}, "At", "Err")); d != "" || rows != 5000 {
			t.Errorf("%d rows, faults %s", rows, d)
		}
		if took := time.Since(started); took != time.Duration(r.Chunks)*time.Hour+31*time.Second {
			t.Errorf("it took %s for %d chunks", took, r.Chunks)
		}
	})
}

// TestDeadlines: a call that does not come back is unavailable, a stream that
// takes too long is cancelled.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &deaf{Source: numbered(t, 10)}
		started := time.Now()
		_, err := core.Open(t.Context(), source, core.Query{Table: "items"}, core.Options{Timeouts: retry.Timeouts{Call: time.Minute}, Retry: retry.Policy{MaxRetries: -1}}, core.Resources{})
		if err == nil || err.Error() != "begin: unavailable: no answer within 1m0s" || time.Since(started) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(started))
		}
		stream := open(t, testkit.HangAfter(numbered(t, 5000), 1), core.Query{Table: "items"}, small(core.Options{Timeouts: retry.Timeouts{Stream: 10 * time.Second}}), core.Resources{})
		_, err = ids(stream)
		if sources.KindOf(err) != sources.Canceled || !strings.Contains(err.Error(), "the stream exceeded its timeout of 10s") {
			t.Errorf("%v", err)
		}
	})
}

// deaf does not answer.
type deaf struct{ sources.Source }

func (*deaf) Begin(ctx context.Context, _ sources.Env) (sources.Session, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestBreaker: after so many failures in a row nobody asks, until one may try.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		breaker := retry.NewBreaker(retry.BreakerOptions{Failures: 5, Cooldown: 10 * time.Second, OnChange: func(from, to retry.Circuit) {
			changes = append(changes, fmt.Sprint(from, " -> ", to))
		}})
		source := &trouble{Source: numbered(t, 5000), plan: []int{0, 0, 0, 0, 0}, err: errCable}
		read := func() error {
			stream, err := core.Open(t.Context(), source, core.Query{Table: "items"}, small(core.Options{Retry: retry.Policy{MaxRetries: 1, Jitter: -1}}), core.Resources{Breaker: breaker})
			if err != nil {
				return err
			}
			_, err = ids(stream)
			return err
		}
		var tripped *retry.Tripped
		// A try asks in the session that it has, and then in a new one.
		for i := range 2 {
			if err := read(); sources.KindOf(err) != sources.Unavailable || (i == 1) != errors.As(err, &tripped) {
				t.Errorf("stream %d: %v", i, err)
			}
		}
		asked := len(source.asked)
		state, until := breaker.State()
		err := read()
		if state != retry.CircuitOpen || !errors.As(err, &tripped) || !tripped.Until.Equal(until) || time.Until(until) != 10*time.Second || len(source.asked) != asked {
			t.Errorf("%s until %s: %v", state, until, err)
		}
		time.Sleep(10 * time.Second)
		if err := read(); err != nil {
			t.Errorf("after the rest: %v", err)
		}
		if state, _ := breaker.State(); state != retry.CircuitClosed {
			t.Errorf("the circuit is %s", state)
		}
		if d := cmp.Diff([]string{"closed -> open", "open -> half-open", "half-open -> closed"}, changes); d != "" {
			t.Error(d)
		}
	})
}
