package cache

import (
	"context"
	"errors"
	"sync"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// Session is a session of a source that begins when it is first needed: a
// stream whose rows are in the cache needs none. It is safe for concurrent use,
// and reports the memory of the sandbox that its stream reads from.
type Session struct {
	source sources.Source // of the stream, with its retries
	shared sources.Source // the same source, as streams share it
	table  *sources.Table // that the stream reads
	env    sources.Env
	budget *budget.Budget // the stream's, which is env.Mem

	mu      sync.Mutex
	session sources.Session // nil until it begins
	closed  bool
	// sandboxed is the session that was begun last for the stream, if it runs
	// behind a wall: this one's, or that of a shared scan.
	sandboxed budget.Sandboxed
}

// NewSession returns a session for a stream of a table, in an environment whose
// memory is the stream's budget. source is the stream's own, which retries, shared
// the one below it that streams have in common. The caller closes the session.
func NewSession(source, shared sources.Source, table *sources.Table, env sources.Env, budget *budget.Budget) *Session {
	env.Mem = budget
	return &Session{source: source, shared: shared, table: table, env: env, budget: budget}
}

// Second begins another session of the source beside this one, for one scan at a
// time. It joins this session's snapshot where the table has snapshots; q is what
// this session scans. The caller closes the session that it returns.
func (s *Session) Second(ctx context.Context, q *sources.Query) (sources.Session, error) {
	env := s.env
	env.MaxScans = 1
	if s.table.Capabilities.Has(sources.CapSnapshot) {
		plan, err := sources.GuardCall("plan", s.table.Name, func() (*sources.Plan, error) { return s.Plan(ctx, q) })
		if err != nil {
			return nil, err
		}
		env.Snapshot = plan.Snapshot
	}
	return sources.GuardCall("begin", s.table.Name, func() (sources.Session, error) { return s.source.Begin(ctx, env) })
}

// Env returns the environment of the session.
func (s *Session) Env() sources.Env { return s.env }

// Begin begins the session unless it has begun. Its errors are the source's.
func (s *Session) Begin(ctx context.Context) error {
	_, err := s.begin(ctx)
	return err
}

func (s *Session) begin(ctx context.Context) (sources.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		return s.session, nil
	}
	if s.closed {
		return nil, &sources.Error{Op: "begin", Table: s.table.Name, Kind: sources.Invalid, Err: errors.New("the stream is closed")}
	}
	session, err := s.source.Begin(ctx, s.env)
	if err == nil {
		s.session = session
		s.sandboxed, _ = session.(budget.Sandboxed)
	}
	return session, err
}

// Plan begins the session if necessary and asks it for a plan.
func (s *Session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	session, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	return session.Plan(ctx, q)
}

// Scan begins the session if necessary and scans in it.
func (s *Session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		session, err := s.begin(ctx)
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		session.Scan(ctx, q)(yield)
	}
}

// suspend closes the source's session. The next call begins another one.
func (s *Session) suspend() error {
	s.mu.Lock()
	session := s.session
	s.session = nil
	s.mu.Unlock()
	if session == nil {
		return nil
	}
	_, err := sources.GuardCall("close", s.table.Name, func() (struct{}, error) { return struct{}{}, session.Close() })
	return err
}

// Close closes the source's session if it has begun. Later calls fail with an
// error of kind [sources.Invalid].
func (s *Session) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.suspend()
}

// watch makes another session's sandbox the one that Isolate reports.
func (s *Session) watch(session sources.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sandboxed, _ = session.(budget.Sandboxed)
}

// SandboxMemory returns what the sandbox of the stream's rows holds, the most that it
// held, and its cap, in bytes; zeros without one.
func (s *Session) SandboxMemory() (held, peak, limit int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sandboxed == nil {
		return 0, 0, 0
	}
	return s.sandboxed.SandboxMemory()
}
