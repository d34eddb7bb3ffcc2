package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// source is the simulated source. Its state is that of the simulation, and guarded by
// its lock.
type source struct{ *simulation }

// newCatalog returns the catalog of the tables in memory, without what the world's
// source cannot do.
func (w world) newCatalog(d *data) *sources.Catalog {
	all, err := d.source.Catalog(context.Background())
	if err != nil {
		panic(err)
	}
	c := &sources.Catalog{Identity: "simulated", Tables: slices.Clone(all.Tables)}
	for i := range c.Tables {
		t := &c.Tables[i]
		t.Capabilities &^= w.Source.Without
		t.MaxScans, t.Rows = w.Source.MaxScans, -1
		t.Lookups = slices.Clone(t.Lookups)
		for j := range t.Lookups {
			t.Lookups[j].MaxKeys = w.Source.MaxKeys
		}
		if w.Source.NoFilters {
			t.Filters = nil
		}
	}
	return c
}

// number returns the number of the next call of op.
func (s *source) number(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.counts[op]
	s.counts[op]++
	return n
}

// step is one call, or one page, of the source: it takes time, and a fault may happen. It
// returns the fault's error, after its time, or that of the context. n is the number of
// the call.
func (s *source) step(ctx context.Context, op, stream string, n, page int) (what string, err error) {
	var f fault
	for _, other := range s.world.Faults {
		if other.Op == op && other.Nth == n && (op != "scan" || other.Page == page) {
			f = other
		}
	}
	s.mu.Lock()
	if s.closed {
		s.wrongLocked("%s of %s after the source was closed", op, stream)
	}
	s.mu.Unlock()
	s.note("%s %d page %d for %s: %s", op, n, page, stream, f.What)
	if err := sleep(ctx, s.world.delay(op+stream, n*1000+page, s.world.Source.Slow)); err != nil {
		return "", err
	}
	switch f.What {
	case "":
		return "", nil
	case "stall":
		s.cause(sources.Unavailable)
		<-ctx.Done()
		return "", sources.NewError(sources.Canceled, op, "", context.Cause(ctx))
	case "late": // the context is ignored
		s.cause(sources.Unavailable)
		time.Sleep(milliseconds(f.For))
		return "", nil
	case "unavailable":
		err = sources.Errorf(sources.Unavailable, op, "", "simulated: the connection was reset")
	case "lost", "disorder":
		err = sources.Errorf(sources.Unavailable, op, "", "simulated: the session was lost")
	case "eof":
		err = sources.NewError(sources.Unavailable, op, "", io.ErrUnexpectedEOF)
	case "throttled":
		err = sources.Errorf(sources.Exhausted, op, "", "simulated: too many requests")
	case "denied":
		err = sources.Errorf(sources.Denied, op, "", "simulated: permission denied")
	case "invalid":
		err = sources.Errorf(sources.Invalid, op, "", "simulated: the data is not valid")
	case "plain":
		err = errors.New("simulated: an error without a kind")
	case "panic":
		s.cause(sources.Internal)
		panic("simulated: a panic of the source")
	}
	s.cause(sources.KindOf(err))
	return f.What, err
}

// sleep waits, or returns the error of the context if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return sources.ContextError(ctx, "simulated", "")
}

func (s *source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	if _, err := s.step(ctx, "catalog", "", s.number("catalog"), 0); err != nil {
		return nil, err
	}
	return s.catalog, nil
}

func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	if s.pool != nil { // a session of the world's few
		select {
		case s.pool <- struct{}{}:
		case <-ctx.Done():
			s.cause(sources.Unavailable)
			return nil, sources.ContextError(ctx, "begin", "")
		}
	}
	began, err := s.begin(ctx, env)
	if err != nil && s.pool != nil {
		<-s.pool
	}
	if err != nil {
		return nil, err
	}
	return began, nil
}

func (s *source) begin(ctx context.Context, env sources.Env) (_ *session, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			if s.pool != nil {
				<-s.pool
			}
			panic(fault)
		}
	}()
	if _, err := s.step(ctx, "begin", env.Stream, s.number("begin"), 0); err != nil {
		return nil, err
	}
	s.mu.Lock()
	version := s.version
	s.mu.Unlock()
	if env.Snapshot != "" {
		if _, err := fmt.Sscanf(env.Snapshot, "version %d", &version); err != nil || s.world.Source.Fleeting && !s.alive(version) {
			s.cause(sources.Invalid)
			s.cause(sources.Unavailable)
			return nil, sources.Errorf(sources.Invalid, "begin", "", "simulated: the snapshot %q has ended", env.Snapshot)
		}
	}
	inner, page := env, s.world.Source.PageRows
	inner.Snapshot, inner.Page = "", env.Page.OrDefault()
	if page > 0 {
		inner.Page.Rows = min(inner.Page.Rows, int64(page))
	}
	opened := &session{source: s, env: inner, version: version}
	s.mu.Lock()
	s.sessions[opened] = true
	s.mu.Unlock()
	return opened, nil
}

// alive reports whether a session has the snapshot of a version.
func (s *source) alive(version int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range maps.Keys(s.sessions) {
		if other.version == version && !other.lost {
			return true
		}
	}
	return false
}

func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) > 0 {
		s.wrongLocked("the source was closed while %d sessions were open", len(s.sessions))
	}
	s.closed = true
	return nil
}

// session is a session of the simulated source.
type session struct {
	*source
	env     sources.Env
	version int

	running int  // scans; guarded by the simulation's lock
	lost    bool // guarded by the simulation's lock
	ended   bool // guarded by the simulation's lock
}

// sees returns the version that a scan sees: without snapshots the latest.
func (s *session) sees() *data {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.world.Source.Without.Has(sources.CapSnapshot) {
		s.version = s.simulation.version
	}
	return s.dataLocked(s.version)
}

func (s *session) check(op string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		s.wrongLocked("%s of %s after its session was closed", op, s.env.Stream)
	}
	if s.lost {
		return sources.Errorf(sources.Unavailable, op, "", "simulated: the session is lost")
	}
	return nil
}

// fault is a step of the session, which may lose it.
func (s *session) fault(ctx context.Context, op string, n, page int) (string, error) {
	if err := s.check(op); err != nil {
		return "", err
	}
	what, err := s.step(ctx, op, s.env.Stream, n, page)
	if what == "lost" || what == "disorder" {
		s.mu.Lock()
		s.lost = true
		s.mu.Unlock()
	}
	return what, err
}

func (s *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	if _, err := s.fault(ctx, "plan", s.number("plan"), 0); err != nil {
		return nil, err
	}
	if _, err := s.catalog.Check(q); err != nil {
		s.wrong("a plan asks for what the table cannot do: %v", err)
	}
	var plan *sources.Plan
	err := s.inner(func(inner sources.Session) (err error) {
		plan, err = inner.Plan(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	plan.Version, plan.Snapshot, plan.Rows = fmt.Sprint("version ", s.version), fmt.Sprint("version ", s.version), -1
	if s.world.changes() { // the cursors are row numbers, which are never rejected
		plan.State = plan.Version
	}
	if s.world.Source.Silent {
		if plan.Version = ""; plan.State != "" {
			plan.State = fmt.Sprintf("session %p", s)
		}
	}
	if s.world.Source.Without.Has(sources.CapSnapshot) {
		plan.Snapshot = ""
	}
	if s.world.Source.Without.Has(sources.CapPartition) {
		plan.Parts = nil
	}
	return plan, nil
}

// inner calls f with a session of the tables in memory.
func (s *session) inner(f func(sources.Session) error) error {
	inner, err := s.sees().source.Begin(context.Background(), s.env)
	if err != nil {
		return err
	}
	return errors.Join(f(inner), inner.Close())
}

func (s *session) Close() error {
	s.mu.Lock()
	if s.running > 0 {
		s.wrongLocked("the session of %s was closed while %d scans ran", s.env.Stream, s.running)
	}
	again := s.ended
	s.ended = true
	s.mu.Unlock()
	if again {
		return nil
	}
	defer func() {
		s.mu.Lock()
		delete(s.sessions, s)
		s.mu.Unlock()
		if s.pool != nil {
			<-s.pool
		}
	}()
	_, err := s.step(context.Background(), "close", s.env.Stream, s.number("close"), 0)
	return err
}

func (s *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		table, err := s.catalog.Check(q)
		if err != nil {
			s.wrong("a scan asks for what the table cannot do: %v", err)
			yield(sources.Batch{}, err)
			return
		}
		s.run(1, table)
		defer s.run(-1, table)
		err = s.inner(func(inner sources.Session) error {
			s.scan(ctx, table, q, inner.Scan(ctx, q), yield)
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
}

// run counts the scans that run.
func (s *session) run(n int, table *sources.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running += n; table.MaxScans > 0 && s.running > table.MaxScans {
		s.wrongLocked("%s runs %d scans at once of %d", s.env.Stream, s.running, table.MaxScans)
	}
}

// scan yields the pages of a scan, with what befalls them.
func (s *session) scan(ctx context.Context, table *sources.Table, q *sources.Query, pages sources.Batches, yield func(sources.Batch, error) bool) {
	who := fmt.Sprintf("%s %s %t %x", s.env.Stream, q.Table, q.Keys != nil, q.Part)
	s.mu.Lock()
	s.scansOf[who]++
	disordered := s.disorder[who]
	turn := 0
	if !table.Capabilities.Has(sources.CapStable) && !table.Capabilities.Has(sources.CapResume) && len(q.OrderBy) == 0 && q.Keys == nil {
		turn = s.scansOf[who] // another order each time
	}
	s.mu.Unlock()
	if turn > 0 || disordered > 0 {
		pages = turned(pages, turn, disordered)
	}
	n, number := s.number("scan"), 0
	next := func() bool {
		what, err := s.fault(ctx, "scan", n, number)
		if what == "disorder" && number > 0 && q.Keys == nil && !table.Capabilities.Has(sources.CapResume) {
			s.mu.Lock()
			s.disorder[who] = 1 + int(s.world.mix(who, number)%2)
			s.mu.Unlock()
			s.cause(sources.Invalid)
		}
		if err != nil {
			yield(sources.Batch{}, err)
			return false
		}
		number++
		return true
	}
	var last sources.Cursor
	for page, err := range pages {
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		if !next() {
			return
		}
		if !table.Capabilities.Has(sources.CapResume) {
			page.Cursor = nil
		}
		if s.world.Source.Empty && number%2 == 0 {
			empty := sources.Batch{Record: page.Record.NewSlice(0, 0), Cursor: last}
			more := yield(empty, nil)
			empty.Record.Release()
			if !more || !next() {
				return
			}
		}
		last = page.Cursor
		s.note("%s: page of %d rows", who, page.Record.NumRows())
		if !yield(page, nil) {
			return
		}
	}
	_ = next() // a fault after the last page
}

// turned yields the pages of a scan in another order: from the last to the first if
// disordered is 1. If it is 2, it yields an empty page alone.
func turned(pages sources.Batches, turn, disordered int) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		var all []sources.Batch
		defer func() {
			for _, page := range all {
				page.Record.Release()
			}
		}()
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			page.Record.Retain()
			all = append(all, page)
		}
		for i := range all {
			page := all[(i+turn)%len(all)]
			switch disordered {
			case 1:
				page = all[len(all)-1-i]
			case 2:
				page.Record = page.Record.NewSlice(0, 0)
				yield(page, nil)
				page.Record.Release()
				return
			}
			if !yield(page, nil) {
				return
			}
		}
	}
}
