package retry

import (
	"context"
	"errors"
	"sync"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// session is a session that is begun again when it is lost, in the moment
// that the first one saw. It is safe for concurrent use, as the source's is.
type session struct {
	of   *Source
	env  sources.Env
	turn chan struct{} // held by who begins a session: others wait for that one

	mu      sync.Mutex
	current *sharedSession // nil where it is lost, and nobody has needed it since
	lost    []*sharedSession
	join    string // names the moment; empty where nothing does
	seen    bool   // the stream knows something of the moment: no other will do
	bound   bool   // the moment matters: a table that was read has snapshots
	peak    int64  // of the isolates of sessions that are closed
	limit   int64
}

// sharedSession is a session of the source's, and how many scans and plans are at work
// in it.
type sharedSession struct {
	session sources.Session
	users   int
	closed  bool
}

var errSnapshotLost = errors.New("the session is lost, and its moment cannot be joined: read again from the start")

// acquire returns the session to use next, and whether it was begun for that.
// The caller releases it.
func (n *session) acquire(ctx context.Context, op, table string) (l *sharedSession, fresh bool, err error) {
	if l := n.take(); l != nil {
		return l, false, nil
	}
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return nil, false, sources.ContextError(ctx, op, table)
	}
	if l := n.take(); l != nil {
		return l, false, nil
	}
	env := n.env
	n.mu.Lock()
	if n.joins() {
		if n.join == "" {
			n.mu.Unlock()
			return nil, false, permanentError(op, table, errSnapshotLost)
		}
		env.Snapshot = n.join
	}
	n.mu.Unlock()
	session, err := callOnce(ctx, n.of, "begin", table, func(ctx context.Context) (sources.Session, error) { return n.of.Source.Begin(ctx, env) })
	if err != nil {
		return nil, false, err
	}
	l = &sharedSession{session: session, users: 1}
	n.mu.Lock()
	n.current = l
	n.mu.Unlock()
	n.drop()
	return l, true, nil
}

// take returns the current session, if there is one.
func (n *session) take() *sharedSession {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current != nil {
		n.current.users++
	}
	return n.current
}

// lose has the next one who needs a session begin it anew.
func (n *session) lose(l *sharedSession) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current == l {
		n.current = nil
		n.lost = append(n.lost, l)
	}
}

// release ends one use. A session that is lost is closed by the last one who
// leaves it: what it held is wanted for the next. One that may still hold the
// moment which the next has to join is closed when that has joined it.
func (n *session) release(l *sharedSession) {
	n.mu.Lock()
	l.users--
	ends := l.users == 0 && n.current != l && !n.joins()
	n.mu.Unlock()
	if ends {
		_ = n.end(l) // whoever lost it has told why
	}
}

// joins reports whether the next session has to join this one's moment. The caller
// holds the lock.
func (n *session) joins() bool { return n.seen && n.bound }

// drop closes the sessions that were lost and have nobody in them.
func (n *session) drop() {
	n.mu.Lock()
	var ends []*sharedSession
	for _, l := range n.lost {
		if l.users == 0 {
			ends = append(ends, l)
		}
	}
	n.mu.Unlock()
	for _, l := range ends {
		_ = n.end(l) // whoever lost it has told why
	}
}

// end closes one of the source's sessions, once.
func (n *session) end(l *sharedSession) error {
	n.mu.Lock()
	if l.closed {
		n.mu.Unlock()
		return nil
	}
	l.closed = true
	n.mu.Unlock()
	_, err := sources.GuardCall("close", "", func() (struct{}, error) { return struct{}{}, l.session.Close() })
	if i, ok := l.session.(budget.Sandboxed); ok {
		_, peak, limit := i.SandboxMemory()
		n.mu.Lock()
		n.peak, n.limit = max(n.peak, peak), max(n.limit, limit)
		n.mu.Unlock()
	}
	return err
}

// Close closes what is open of the source's sessions.
func (n *session) Close() error {
	n.of.probe.gaveUp()
	n.mu.Lock()
	current, lost := n.current, n.lost
	n.current, n.lost = nil, nil
	n.mu.Unlock()
	for _, l := range lost {
		_ = n.end(l) // whoever lost it has told why
	}
	if current == nil {
		return nil
	}
	return n.end(current)
}

// SandboxMemory is that of the current session, with the peak of all.
func (n *session) SandboxMemory() (held, peak, limit int64) {
	n.mu.Lock()
	l := n.current
	peak, limit = n.peak, n.limit
	n.mu.Unlock()
	if l == nil {
		return 0, peak, limit
	}
	i, ok := l.session.(budget.Sandboxed)
	if !ok {
		return 0, peak, limit
	}
	held, itsPeak, itsLimit := i.SandboxMemory()
	return held, max(peak, itsPeak), max(limit, itsLimit)
}

// Plan asks the current session, or the next one.
func (n *session) Plan(ctx context.Context, q *sources.Query) (plan *sources.Plan, err error) {
	err = n.of.doWithRetry(ctx, "plan", q.Table, func(int) (bool, error) {
		plan, err = n.plan(ctx, q)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = n.seen || plan.Snapshot != "" || plan.Parts != nil
	n.bound = n.bound || n.hasSnapshot(q)
	return plan, nil
}

// plan tries once. A session that does not answer is not asked again.
func (n *session) plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	l, _, err := n.acquire(ctx, "plan", q.Table)
	if err != nil {
		return nil, err
	}
	defer n.release(l)
	plan, err := callOnce(ctx, n.of, "plan", q.Table, func(ctx context.Context) (*sources.Plan, error) { return l.session.Plan(ctx, q) })
	if retryable(err) {
		n.lose(l)
	}
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if q.Keys == nil && q.Part == nil && q.After == nil {
		n.of.planned.Store(plan.Rows)
	}
	if n.current == l && plan.Snapshot != "" {
		n.join = plan.Snapshot // the latest name is good for longest
	}
	return plan, nil
}

func (n *session) hasSnapshot(q *sources.Query) bool {
	t := n.of.catalog.Table(q.Table)
	return t != nil && t.Capabilities.Has(sources.CapSnapshot)
}

// nameSnapshot makes sure that the moment which a scan will see has a name, where the
// table's moments have some: once the session is lost nobody can ask any more.
func (n *session) nameSnapshot(ctx context.Context, q *sources.Query) error {
	if !n.hasSnapshot(q) {
		return nil
	}
	n.mu.Lock()
	n.bound = true
	named := n.join != ""
	n.mu.Unlock()
	if named {
		return nil
	}
	_, err := n.plan(ctx, q)
	if retryable(err) || sources.KindOf(err) == sources.Canceled {
		return err
	}
	return nil // the scan says what is wrong with the query
}
