package retry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// errCable is a fault that is retried.
var errCable = sources.Errorf(sources.Unavailable, "", "", "the cable is cut")

// trouble is a source whose scans fail as planned. Each entry of plan is the number
// of pages after which one scan fails; scans after the last entry succeed. If
// mortal, a fault also makes all later scans of the session fail.
type trouble struct {
	sources.Source
	mortal bool
	err    error

	mu     sync.Mutex
	plan   []int
	asked  []sources.Query // the query of every scan
	joined []string        // Env.Join of every session
	begins int             // sessions that were begun
	ends   int             // sessions that were closed
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
	return &troubleSession{Session: session, t: t}, nil
}

// troubleSession is a session of trouble.
type troubleSession struct {
	sources.Session
	t    *trouble
	dead bool
}

func (s *troubleSession) Close() error {
	s.t.mu.Lock()
	s.t.ends++
	s.t.mu.Unlock()
	return s.Session.Close()
}

func (s *troubleSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
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

// TestSnapshotOfLookups tests that a session which is lost while the first page is being
// delivered, by a look-up of related rows, is replaced by one that joins its snapshot.
func TestSnapshotOfLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &trouble{Source: coretest.Library(t), plan: []int{9, 0}, err: errCable, mortal: true}
		load := query.Load{Required: coretest.ParseLoad(t, "author")}
		stream := coretest.Open(t, source, core.Query{Table: "books", Load: load}, core.Options{ChunkRows: 10}, core.Resources{})
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(source.joined) < 2 || slices.Contains(source.joined[1:], "") {
			t.Errorf("sessions joined the snapshots %q", source.joined)
		}
	})
}

// TestRetry tests, for tables of different abilities and for faults at any position,
// that a stream yields every row exactly once and in order, or an error that tells
// why it cannot.
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
		want   string // text in the error; empty if the stream completes
		took   time.Duration
		begins int
	}{
		{name: "nothing fails", can: all, begins: 1},
		{name: "at once", can: all, plan: []int{0}, took: time.Second, begins: 1},
		{name: "in the middle", can: all, plan: []int{2}, took: time.Second, begins: 1},
		{name: "again and again, with pages between", can: all, plan: []int{2, 1, 1, 1, 1, 1}, took: 6 * time.Second, begins: 1},
		{name: "four times in a row", can: all, plan: []int{2, 0, 0, 0, 0}, want: "tried 4 times in 7s", took: 7 * time.Second, begins: 4},
		{name: "no retries", can: all, plan: []int{2}, retry: retry.Policy{MaxRetries: -1}, want: "scan items: unavailable: the cable is cut", begins: 1},
		{name: "one retry that succeeds", can: all, plan: []int{2}, retry: retry.Policy{MaxRetries: 1, InitialBackoff: time.Minute}, took: time.Minute, begins: 1},
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
					source := &trouble{Source: coretest.Numbered(t, rows), mortal: c.mortal, plan: c.plan, err: errCable}
					source.Source = coretest.Restrict(t, source.Source, func(table *sources.Table) { table.Capabilities &= c.can })
					c.q.Table = "items"
					c.retry.Jitter = -1
					started := time.Now()
					stream, err := core.Open(t.Context(), source, c.q, coretest.SmallMemory(core.Options{Retry: c.retry, ReadAhead: ahead}), core.Resources{})
					if err != nil {
						t.Fatal(err)
					}
					got, err := coretest.IDs(stream)
					took := time.Since(started)
					want := coretest.IDRange(0, rows)
					if c.q.Limit > 0 {
						want = want[:c.q.Limit]
					}
					r := stream.Receipt()
					switch {
					case c.want == "" && (err != nil || !r.Complete):
						t.Errorf("error: %v, receipt: %+v", err, r)
					case c.want == "":
						if d := cmp.Diff(want, got); d != "" {
							t.Error(d)
						}
					case err == nil || !strings.Contains(err.Error(), c.want) || sources.KindOf(err) != sources.Unavailable || r.Complete:
						t.Errorf("error: %v, want one that contains %q; complete: %t", err, c.want, r.Complete)
					case !slices.Equal(got, want[:len(got)]):
						t.Error("the rows before the error are not the first rows")
					}
					if took != c.took {
						t.Errorf("took %s, want %s", took, c.took)
					}
					if source.begins != c.begins || source.ends != c.begins {
						t.Errorf("began %d sessions and closed %d, want %d", source.begins, source.ends, c.begins)
					}
					if stream.Budget().Held() != 0 {
						t.Errorf("%d bytes are still held", stream.Budget().Held())
					}
				})
			})
		}
	}
}

// TestRetryAsks tests that a resumed scan starts after the last page, with the
// remaining limit and in the snapshot of the first session.
func TestRetryAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &trouble{Source: coretest.Numbered(t, 5000), mortal: true, plan: []int{2}, err: errCable}
		stream := coretest.Open(t, source, core.Query{Table: "items", Limit: 4000}, coretest.SmallMemory(core.Options{}), core.Resources{})
		got, err := coretest.IDs(stream)
		if err != nil || len(got) != 4000 {
			t.Fatalf("%d rows, %v", len(got), err)
		}
		if d := cmp.Diff([]string{"", "always"}, source.joined); d != "" {
			t.Errorf("sessions joined: %s", d)
		}
		// One scan fails in the first session, one resumes there, one in the next session.
		last := source.asked[len(source.asked)-1]
		if len(source.asked) != 3 || last.After == nil || last.Limit <= 0 || last.Limit >= 4000 {
			t.Errorf("%d scans, the last query: %+v", len(source.asked), last)
		}
		r := stream.Receipt()
		if r.Retries != 1 || len(r.Faults) != 1 || r.Faults[0].Kind != retry.FaultRetried || r.Faults[0].Text != "scan items: unavailable: the cable is cut" {
			t.Errorf("receipt: %+v", r)
		}
	})
}

// TestRetryKinds tests that only errors of kind Unavailable are retried.
func TestRetryKinds(t *testing.T) {
	for _, kind := range []sources.Kind{sources.Internal, sources.Invalid, sources.NotFound, sources.Exhausted, sources.Denied, sources.Canceled} {
		t.Run(kind.String(), func(t *testing.T) {
			source := &trouble{Source: coretest.Numbered(t, 5000), plan: []int{2}, err: sources.Errorf(kind, "", "", "no")}
			stream := coretest.Open(t, source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{}), core.Resources{Budget: coretest.NewBudget(t)})
			if _, err := coretest.IDs(stream); sources.KindOf(err) != kind || len(source.asked) != 1 {
				t.Errorf("%v, after %d scans", err, len(source.asked))
			}
		})
	}
}

// TestRetryHoldsRowsToWhatTheyWere tests that a repeated scan which yields other
// rows is an error.
func TestRetryHoldsRowsToWhatTheyWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shift := 0
		catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: coretest.ItemSchema, Rows: -1, Capabilities: sources.CapStable}}}
		source := sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
			shift++
			return sources.FromRows(env, coretest.ItemSchema, func(yield func(sources.Row, error) bool) {
				for i := range 3000 {
					if !yield(sources.Row{Values: []any{i * shift, nil}}, nil) {
						return
					}
				}
				yield(sources.Row{}, errCable)
			})
		})
		stream := coretest.Open(t, source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{}), core.Resources{})
		_, err := coretest.IDs(stream)
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "the data has changed") {
			t.Errorf("error: %v", err)
		}
	})
}

// TestRetryIsCanceled tests that the end of the context ends the wait before a
// retry.
func TestRetryIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &trouble{Source: coretest.Numbered(t, 5000), plan: []int{2, 0, 0, 0}, err: errCable}
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := core.Open(ctx, source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{}), core.Resources{})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(1500*time.Millisecond, cancel)
		started := time.Now()
		if _, err := coretest.IDs(stream); sources.KindOf(err) != sources.Canceled || time.Since(started) != 1500*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(started))
		}
	})
}

// TestJitter tests that waits differ, and that they stay within 20 % of the
// configured one.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []time.Duration
		for range 20 {
			source := &trouble{Source: coretest.Numbered(t, 10), plan: []int{0}, err: errCable}
			stream := coretest.Open(t, source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{}), core.Resources{Observer: core.Observer{Fault: func(f retry.Fault) { waits = append(waits, f.Wait) }}})
			if _, err := coretest.IDs(stream); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(waits)
		if len(slices.Compact(slices.Clone(waits))) < 2 || waits[0] < 800*time.Millisecond || waits[19] > 1200*time.Millisecond {
			t.Errorf("waits: %v", waits)
		}
	})
}
