package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// replanned is a source whose plans a test changes.
type replanned struct {
	sources.Source
	change func(q *sources.Query, plan *sources.Plan)
}

func (r *replanned) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	s, err := r.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	return &replannedSession{s, r.change}, nil
}

type replannedSession struct {
	sources.Session
	change func(q *sources.Query, plan *sources.Plan)
}

func (s *replannedSession) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	plan, err := s.Session.Plan(ctx, q)
	if err == nil {
		s.change(q, plan)
	}
	return plan, err
}

// TestTokensInParts tests that a stream that reads partitions resumes at any chunk, with any
// number of workers, and yields exactly the remaining rows.
func TestTokensInParts(t *testing.T) {
	const rows = 3000
	for _, capability := range []sources.Capability{^sources.Capability(0), ^sources.CapResume} {
		source := coretest.Restrict(t, parted(t, rows, nil), func(table *sources.Table) { table.Capabilities &= capability })
		first := coretest.Open(t, source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{Tokens: true, Parallel: 3, Unordered: true, ChunkRows: 170}), core.Resources{Budget: coretest.NewBudget(t)})
		if first.Resumption() != core.ResumeSameSnapshot {
			t.Errorf("to resume it takes %d", first.Resumption())
		}
		var tokens []core.Token
		var want []int64
		var ends []int
		for chunk, err := range first.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, idColumn(chunk.Record)...)
			tokens, ends = append(tokens, chunk.Token), append(ends, len(want))
		}
		if !slices.Equal(want, coretest.IDRange(0, rows)) {
			t.Fatal("with tokens, rows do not come in the order of the partitions")
		}
		whole := first.Receipt()
		for i, token := range tokens {
			for _, parallel := range []int{0, 1, 2, 8} {
				for _, limit := range []int64{0, 1, 1200} {
					q := core.Query{Table: "items", After: token, Limit: limit}
					again := coretest.Open(t, source, q, coretest.SmallMemory(core.Options{Parallel: parallel, ChunkRows: 230}), core.Resources{Budget: coretest.NewBudget(t)})
					got, err := idsByName(again)
					rest := want[ends[i]:]
					if limit > 0 {
						rest = rest[:min(int(limit), len(rest))]
					}
					if err != nil || !slices.Equal(got, rest) {
						t.Fatalf("after %d rows, %d at once, limit %d: got %d rows, want %d; error: %v", ends[i], parallel, limit, len(got), len(rest), err)
					}
					if r := again.Receipt(); r.TotalRows == whole.Rows && r.Digest != whole.Digest {
						t.Fatalf("after %d rows: the digest is %s, want %s", ends[i], r.Digest.Ordered(), whole.Digest.Ordered())
					}
				}
			}
		}
		// Another division of the table.
		other := &replanned{source, func(_ *sources.Query, plan *sources.Plan) {
			if len(plan.Parts) > 0 {
				plan.Parts = plan.Parts[:2]
			}
		}}
		for _, across := range []bool{false, true} {
			_, err := core.Open(t.Context(), other, core.Query{Table: "items", After: tokens[0]}, core.Options{AcrossSnapshots: across}, core.Resources{})
			if sources.KindOf(err) != sources.Invalid {
				t.Errorf("after another division: %v", err)
			}
		}
	}
}

// TestStateOfData tests that a stream resumes only where the source proves that the data is
// the same, or across snapshots, which its receipt then tells.
func TestStateOfData(t *testing.T) {
	shop, err := testkit.Shop{Seed: 1, Orders: 900}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	states, versions := map[string]string{}, map[string]string{}
	source := &replanned{shop, func(q *sources.Query, plan *sources.Plan) {
		plan.State, plan.Version = states[q.Table], versions[q.Table]
	}}
	stored := coretest.NewCache(t, cache.Options{})
	begin := func(o core.Options, r core.Resources, q core.Query) (core.Receipt, error) {
		t.Helper()
		o.ChunkRows, r.Budget = 100, coretest.NewBudget(t)
		stream, err := core.Open(t.Context(), source, q, o, r)
		if err != nil {
			return core.Receipt{}, err
		}
		chunks := 0
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			if chunks++; chunks == 3 {
				break
			}
		}
		return stream.Receipt(), nil
	}
	customers := query.Load{Required: coretest.ParseLoad(t, "customer")}
	cached := core.Resources{Cache: stored, SourceID: query.Identify("shop"), OpenID: "1"}
	type tables = map[string]string
	for _, c := range []struct {
		name                    string
		load, loadAfter         query.Load
		state, stateAfter       tables
		version, versionAfter   tables
		resources               core.Resources
		bypass, cannot, unknown bool
	}{
		{name: "no state"},
		{name: "the same", state: tables{"orders": "1"}, stateAfter: tables{"orders": "1"}},
		{name: "another", state: tables{"orders": "1"}, stateAfter: tables{"orders": "2"}, cannot: true},
		{name: "a state that the token has not", stateAfter: tables{"orders": "2"}, cannot: true},
		{name: "another version", version: tables{"orders": "1"}, versionAfter: tables{"orders": "2"}},
		{name: "a table that is not read", state: tables{"customers": "1"}, stateAfter: tables{"customers": "2"}},
		{name: "the same relation", load: customers, loadAfter: customers, version: tables{"customers": "1"}, versionAfter: tables{"customers": "1"}},
		{name: "another relation", load: customers, loadAfter: customers, version: tables{"customers": "1"}, versionAfter: tables{"customers": "2"}, cannot: true},
		{name: "another state of a relation", load: customers, loadAfter: customers, state: tables{"customers": "1"}, stateAfter: tables{"customers": "2"}, cannot: true},
		{name: "one more relation", loadAfter: customers, version: tables{"customers": "1"}, versionAfter: tables{"customers": "2"}},
		{name: "one relation less", load: customers, version: tables{"customers": "1"}, versionAfter: tables{"customers": "2"}},
		{name: "a cache without versions", state: tables{"orders": "1"}, stateAfter: tables{"orders": "1"}, resources: cached, cannot: true},
		{name: "a cache that is not used", state: tables{"orders": "1"}, stateAfter: tables{"orders": "1"}, resources: cached, bypass: true},
		{
			name: "a cache with versions", state: tables{"orders": "1"}, stateAfter: tables{"orders": "2"},
			version: tables{"orders": "1"}, versionAfter: tables{"orders": "1"}, resources: cached,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := core.Options{Tokens: true}
			if c.bypass {
				o.Caching.Mode = cache.ModeBypass
			}
			states, versions = c.state, c.version
			q := core.Query{Table: "orders", Load: c.load}
			first, err := begin(o, c.resources, q)
			if err != nil || first.Token == "" || first.Snapshots != 0 {
				t.Fatalf("%v, %+v", err, first)
			}
			states, versions = c.stateAfter, c.versionAfter
			q.Load, q.After = c.loadAfter, first.Token
			second, err := begin(o, c.resources, q)
			if errors.Is(err, core.ErrOtherSnapshot) != c.cannot || (err != nil) != c.cannot || c.cannot && sources.KindOf(err) != sources.Invalid {
				t.Fatalf("resumed with %v", err)
			}
			if !c.cannot {
				if second.Snapshots != 0 || second.TotalRows != 500 {
					t.Errorf("%d rows of %d snapshots", second.TotalRows, second.Snapshots)
				}
				return
			}
			for n := range 2 { // each resumption across snapshots counts
				states = tables{"orders": fmt.Sprint("n", n), "customers": fmt.Sprint("n", n)}
				o.AcrossSnapshots = true
				r, err := begin(o, c.resources, q)
				if err != nil || r.Snapshots != n+2 || r.TotalRows != int64(500+200*n) {
					t.Fatalf("across snapshots: %v, %d rows of %d snapshots", err, r.TotalRows, r.Snapshots)
				}
				q.After = r.Token
			}
		})
	}
}

// renewed is a source whose sessions each see another state of the data: the ids of the
// session with number n begin at 1000 n.
type renewed struct {
	t *testing.T
	sources.Source
	sessions int
}

func (r *renewed) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	r.sessions++
	state := fmt.Sprint("state ", r.sessions)
	source := &replanned{coretest.NumberedFrom(r.t, 100, 1000*r.sessions), func(_ *sources.Query, plan *sources.Plan) { plan.State, plan.Version = state, state }}
	return source.Begin(ctx, env)
}

// TestTokensOfTheSessionThatReads tests that tokens have the state of the data that the
// rows come from, also if streams could share a scan, which has a session of its own.
func TestTokensOfTheSessionThatReads(t *testing.T) {
	source := &renewed{t: t, Source: coretest.Numbered(t, 100)}
	r := coretest.WithCache(coretest.NewCache(t, cache.Options{}), nil)
	stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{Tokens: true}, r)
	got, err := coretest.IDs(stream)
	if err != nil || !slices.Equal(got, coretest.IDRange(1000, 1100)) {
		t.Errorf("the rows are not those of the session whose state the tokens have: %v, %v", got, err)
	}
	_, err = core.Open(t.Context(), source, core.Query{Table: "items", After: stream.Receipt().Token}, core.Options{}, r)
	if !errors.Is(err, core.ErrOtherSnapshot) {
		t.Errorf("resumed in another state: %v", err)
	}
}

// TestChangedRowsBeforeTheToken tests that rows which are read again may have changed, if
// the consumer accepts another snapshot, and only then.
func TestChangedRowsBeforeTheToken(t *testing.T) {
	at := func(from int, state string) sources.Source {
		source := coretest.Restrict(t, coretest.NumberedFrom(t, 3000, from), func(table *sources.Table) { table.Capabilities &^= sources.CapResume })
		return &replanned{source, func(_ *sources.Query, plan *sources.Plan) { plan.State = state }}
	}
	first := coretest.Open(t, at(0, "1"), core.Query{Table: "items", Limit: 1000}, core.Options{Tokens: true}, core.Resources{})
	if _, err := coretest.IDs(first); err != nil {
		t.Fatal(err)
	}
	q := core.Query{Table: "items", After: first.Receipt().Token}
	again := coretest.Open(t, at(5, "2"), q, core.Options{AcrossSnapshots: true}, core.Resources{})
	got, err := coretest.IDs(again)
	if err != nil || len(got) != 2000 || again.Receipt().Snapshots != 2 {
		t.Errorf("%d rows, %v, of %d snapshots", len(got), err, again.Receipt().Snapshots)
	}
	_, err = coretest.IDs(coretest.Open(t, at(5, "1"), q, core.Options{AcrossSnapshots: true}, core.Resources{}))
	if sources.KindOf(err) != sources.Invalid {
		t.Errorf("with other rows in the same state: %v", err)
	}
}
