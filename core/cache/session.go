package cache

import (
	"context"
	"sync"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/lock"
	"github.com/penstock-data/penstock/sources"
)

// Session is a session of a source that begins when it is first needed. A stream
// whose rows are cached may not need one at all. Session also reports the memory
// of the sandbox that the stream reads from. It is safe for concurrent use.
type Session struct {
	source sources.Source // the stream's own, with retries
	shared sources.Source // the source below it, which streams share
	table  *sources.Table // that the stream reads
	env    sources.Env
	budget *budget.Budget // the stream's, also env.Mem

	// beginning is held while a session begins, and guards the fields below.
	beginning lock.Lock
	session   sources.Session // nil until it begins
	closed    bool

	// sandboxed is the session that last began for the stream, this one's or a
	// shared scan's, if it runs in a sandbox. It has a lock of its own: whoever watches the
	// stream must not wait while a session begins.
	watchMu   sync.Mutex
	sandboxed budget.Sandboxed
}

// NewSession returns a session for a stream that reads table. It sets env.Mem to
// the stream's budget. source is the stream's own, with retries; shared is the
// source below it, which streams share. The caller closes the session.
func NewSession(source, shared sources.Source, table *sources.Table, env sources.Env, budget *budget.Budget) *Session {
	env.Mem = budget
	return &Session{source: source, shared: shared, table: table, env: env, budget: budget, beginning: lock.New()}
}

// Second begins another session of the source, for one scan at a time. If the
// table has snapshots, it joins the snapshot of s; q is the query that s scans.
// The caller closes the new session before s.
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

// Env returns the session's environment.
func (s *Session) Env() sources.Env { return s.env }

// Begin begins the session unless it has begun. After Close it returns an error of
// kind [sources.Invalid]; other errors are the source's.
func (s *Session) Begin(ctx context.Context) error {
	_, err := s.begin(ctx)
	return err
}

// begin returns the source's session, and begins it if necessary. If ctx ends while
// another call begins it, the error is of kind [sources.Canceled].
func (s *Session) begin(ctx context.Context) (sources.Session, error) {
	if !s.beginning.Acquire(ctx) {
		return nil, sources.ContextError(ctx, "begin", s.table.Name)
	}
	defer s.beginning.Unlock()
	if s.session != nil {
		return s.session, nil
	}
	if s.closed {
		return nil, sources.Errorf(sources.Invalid, "begin", s.table.Name, "the stream is closed")
	}
	session, err := s.source.Begin(ctx, s.env)
	if err == nil {
		s.session = session
		s.watch(session)
	}
	return session, err
}

// Plan begins the session if necessary and plans a scan of q.
func (s *Session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	session, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	return session.Plan(ctx, q)
}

// Scan begins the session if necessary and scans q.
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

// suspend closes the source's session. The next call that needs one begins
// another.
func (s *Session) suspend() error {
	s.beginning.Lock()
	session := s.session
	s.session = nil
	s.beginning.Unlock()
	if session == nil {
		return nil
	}
	_, err := sources.GuardCall("close", s.table.Name, func() (struct{}, error) { return struct{}{}, session.Close() })
	return err
}

// Close closes the source's session if it has begun. Later calls fail with an
// error of kind [sources.Invalid].
func (s *Session) Close() error {
	s.beginning.Lock()
	s.closed = true
	s.beginning.Unlock()
	return s.suspend()
}

// watch makes SandboxMemory report the sandbox of another session.
func (s *Session) watch(session sources.Session) {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	s.sandboxed, _ = session.(budget.Sandboxed)
}

// SandboxMemory returns the current and the peak memory of the sandbox that the
// stream reads from, and its limit, in bytes; zeros if there is none.
func (s *Session) SandboxMemory() (held, peak, limit int64) {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if s.sandboxed == nil {
		return 0, 0, 0
	}
	return s.sandboxed.SandboxMemory()
}
