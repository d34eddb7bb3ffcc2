package retry

import (
	"context"
	"errors"
	"sync"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// session is a session that reconnects: if the session of the wrapped source is lost,
// it begins another one, with the same snapshot. It is safe for concurrent use.
type session struct {
	source    *Source
	env       sources.Env
	beginning chan struct{} // a lock, of capacity 1, held while a session is begun

	mu            sync.Mutex
	current       *sharedSession // nil after a loss, until a session is needed again
	lost          []*sharedSession
	snapshot      string // the name of the snapshot to join; empty if it has none
	hasRead       bool   // the stream has obtained data or partitions from the snapshot
	ended         bool   // the stream has closed the session
	needsSnapshot bool   // a table with snapshots is read, so sessions must share one
	closedPeak    int64  // the peak of the sandboxes of closed sessions, in bytes
	closedLimit   int64  // their limit
}

// sharedSession is a session of the wrapped source, shared by concurrent scans and
// plans. Its fields are guarded by session.mu.
type sharedSession struct {
	session sources.Session
	users   int // scans and plans that use it now
	plans   int // calls of Plan that have not returned, including those that were given up
	closed  bool
}

var errSnapshotLost = errors.New("the session was lost, and its snapshot cannot be joined; read again from the start")

// acquire returns the current session, or begins one if there is none. It reports
// whether it did. The caller must release the session.
func (s *session) acquire(ctx context.Context, op, table string) (shared *sharedSession, fresh bool, err error) {
	if shared := s.use(); shared != nil {
		return shared, false, nil
	}
	select {
	case s.beginning <- struct{}{}:
		defer func() { <-s.beginning }()
	case <-ctx.Done():
		return nil, false, sources.ContextError(ctx, op, table)
	}
	if shared := s.use(); shared != nil {
		return shared, false, nil
	}
	env := s.env
	s.mu.Lock()
	if s.mustJoin() {
		if s.snapshot == "" {
			s.mu.Unlock()
			return nil, false, permanentError(op, table, errSnapshotLost)
		}
		env.Snapshot = s.snapshot
	}
	s.mu.Unlock()
	next, _, err := callOnce(ctx, s.source, "begin", table, func(ctx context.Context) (sources.Session, error) { return s.source.Source.Begin(ctx, env) }, closeLate)
	if err != nil {
		return nil, false, err
	}
	shared = &sharedSession{session: next, users: 1}
	s.mu.Lock()
	if s.current = shared; env.Snapshot == "" {
		s.snapshot = "" // that of an earlier session, of which nothing was read
	}
	s.mu.Unlock()
	s.closeLost()
	return shared, true, nil
}

// use returns the current session and counts the caller as a user of it. It returns
// nil if there is none.
func (s *session) use() *sharedSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.users++
	}
	return s.current
}

// markLost gives up a session: the next acquire begins another one.
func (s *session) markLost(shared *sharedSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == shared {
		s.current = nil
		s.lost = append(s.lost, shared)
	}
}

// release ends one use of a session. The last user of a lost session closes it, to
// free its resources for the next one. But if the next session must join its
// snapshot, the lost session stays open until that has happened.
func (s *session) release(shared *sharedSession) {
	s.mu.Lock()
	shared.users--
	unused := shared.users == 0 && s.current != shared && !s.mustJoin()
	s.mu.Unlock()
	if unused {
		_ = s.closeOnce(shared) // the error that lost it is already reported
	}
}

// mustJoin reports whether the next session must join the snapshot of this one. The
// caller holds the lock.
func (s *session) mustJoin() bool { return s.hasRead && s.needsSnapshot && !s.ended }

// closeLost closes the lost sessions that have no users.
func (s *session) closeLost() {
	s.mu.Lock()
	var unused []*sharedSession
	for _, shared := range s.lost {
		if shared.users == 0 {
			unused = append(unused, shared)
		}
	}
	s.mu.Unlock()
	for _, shared := range unused {
		_ = s.closeOnce(shared) // the error that lost it is already reported
	}
}

// closeLate closes a session that began too late for anybody to use it.
func closeLate(session sources.Session, err error) {
	if err == nil {
		_ = session.Close() // the stream was told that the session did not begin
	}
}

// closeOnce closes a session of the wrapped source, unless it is closed already, or a
// call of Plan has not returned: that closes it when it does.
func (s *session) closeOnce(shared *sharedSession) error {
	s.mu.Lock()
	if shared.closed || shared.plans > 0 {
		s.mu.Unlock()
		return nil
	}
	shared.closed = true
	s.mu.Unlock()
	_, _, err := Call(context.Background(), &s.source.late, s.source.timeouts.Call, "close", "", func(context.Context) (struct{}, error) { return struct{}{}, shared.session.Close() }, nil)
	if sandbox, ok := shared.session.(budget.Sandboxed); ok {
		_, peak, limit := sandbox.SandboxMemory()
		s.mu.Lock()
		s.closedPeak, s.closedLimit = max(s.closedPeak, peak), max(s.closedLimit, limit)
		s.mu.Unlock()
	}
	return err
}

// Close closes all sessions of the wrapped source that are open. It returns the error
// of closing the current one.
func (s *session) Close() error {
	s.source.permit.abandoned()
	s.mu.Lock()
	current, lost := s.current, s.lost
	s.current, s.lost, s.ended = nil, nil, true
	s.mu.Unlock()
	for _, shared := range lost {
		_ = s.closeOnce(shared) // the error that lost it is already reported
	}
	if current == nil {
		return nil
	}
	return s.closeOnce(current)
}

// SandboxMemory returns the memory of the current session's sandbox, with the peak and
// the limit of all sessions so far.
func (s *session) SandboxMemory() (held, peak, limit int64) {
	s.mu.Lock()
	shared := s.current
	peak, limit = s.closedPeak, s.closedLimit
	s.mu.Unlock()
	if shared == nil {
		return 0, peak, limit
	}
	sandbox, ok := shared.session.(budget.Sandboxed)
	if !ok {
		return 0, peak, limit
	}
	held, currentPeak, currentLimit := sandbox.SandboxMemory()
	return held, max(peak, currentPeak), max(limit, currentLimit)
}

// Plan plans q, with retries.
func (s *session) Plan(ctx context.Context, q *sources.Query) (plan *sources.Plan, err error) {
	err = s.source.doWithRetry(ctx, "plan", q.Table, func(int) (bool, error) {
		plan, err = s.plan(ctx, q)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasRead = s.hasRead || plan.Snapshot != "" || plan.Parts != nil
	s.needsSnapshot = s.needsSnapshot || s.hasSnapshot(q)
	return plan, nil
}

// plan plans q once. A session that turns out to be unavailable is lost, and so is one
// whose plan was given up, which may still use it.
func (s *session) plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	shared, _, err := s.acquire(ctx, "plan", q.Table)
	if err != nil {
		return nil, err
	}
	own := *q // the call may use it, and the record of keys, after it was given up
	if own.Keys != nil && own.Keys.Values != nil {
		own.Keys.Values.Retain()
	}
	s.mu.Lock()
	shared.plans++
	s.mu.Unlock()
	end := func(*sources.Plan, error) {
		if own.Keys != nil && own.Keys.Values != nil {
			own.Keys.Values.Release()
		}
		s.mu.Lock()
		shared.plans--
		s.mu.Unlock()
		s.release(shared)
	}
	plan, late, err := callOnce(ctx, s.source, "plan", q.Table, func(ctx context.Context) (*sources.Plan, error) { return shared.session.Plan(ctx, &own) }, end)
	if late || retryable(err) {
		s.markLost(shared)
	}
	if !late {
		end(nil, nil)
	}
	if err == nil {
		err = sources.WithOp("plan", q.Table, sources.CheckPlan(plan))
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Keys == nil && q.Part == nil && q.After == nil {
		s.source.planned.Store(plan.Rows)
	}
	if s.current == shared && plan.Snapshot != "" {
		s.snapshot = plan.Snapshot // the latest name stays valid longest
	}
	return plan, nil
}

// hasSnapshot reports whether the table of q has snapshots.
func (s *session) hasSnapshot(q *sources.Query) bool {
	t := s.source.catalog.Table(q.Table)
	return t != nil && t.Capabilities.Has(sources.CapSnapshot)
}

// nameSnapshot ensures that the name of the snapshot that a scan of q reads is known,
// if the table has snapshots: once the session is lost, it is too late to ask for it.
func (s *session) nameSnapshot(ctx context.Context, q *sources.Query) error {
	if !s.hasSnapshot(q) {
		return nil
	}
	s.mu.Lock()
	s.needsSnapshot = true
	named := s.snapshot != ""
	s.mu.Unlock()
	if named {
		return nil
	}
	_, err := s.plan(ctx, q)
	if retryable(err) || sources.KindOf(err) == sources.Canceled {
		return err
	}
	return nil // the scan reports what is wrong with the query
}
