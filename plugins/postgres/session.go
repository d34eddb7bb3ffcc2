package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/penstock-data/penstock/sources"
)

// session is one snapshot, held by the transactions of its members.
type session struct {
	s        *source
	c        *catalog
	env      sources.Env
	snapshot string // exported by the first member

	mu     sync.Mutex
	idle   []*member
	made   int
	closed bool
}

// member is a connection in a transaction of the session's snapshot. One scan
// at a time uses it.
type member struct {
	conn *pgxpool.Conn
}

var errLost = &sources.Error{Kind: sources.Unavailable, Err: errors.New("the snapshot is lost: the connection that held it is gone")}

var snapshotName = regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{8}-[0-9]{1,10}$`)

// Begin takes all the connections that the session may need, and opens the
// first. It waits for other sessions where there are none.
func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	if env.Join != "" && !snapshotName.MatchString(env.Join) {
		return nil, &sources.Error{Op: "begin", Kind: sources.Invalid, Err: fmt.Errorf("%q names no snapshot of this source", env.Join)}
	}
	if err := s.take(ctx, s.members()); err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	n := &session{s: s, c: c, env: env}
	first, err := n.open(ctx, env.Join)
	if err != nil {
		s.give(s.members())
		return nil, sources.WithOp("begin", "", err)
	}
	n.idle, n.made = []*member{first}, 1
	return n, nil
}

// open makes a member of a snapshot, or of a new one.
func (n *session) open(ctx context.Context, snapshot string) (*member, error) {
	conn, err := n.s.pool.Acquire(ctx)
	if err != nil {
		return nil, fault(ctx, err)
	}
	sql := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
	if snapshot != "" {
		sql += "SET TRANSACTION SNAPSHOT '" + snapshot + "';" // letters, digits and dashes
	}
	if n.snapshot == "" {
		sql += "SELECT pg_catalog.pg_export_snapshot();"
	}
	// What a scan breaks is mended by going back here; the snapshot outlives it.
	sql += "SAVEPOINT penstock"
	results, err := conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		m := &member{conn}
		m.release()
		err = fault(ctx, err)
		if kind := sources.KindOf(err); snapshot != "" && (kind == sources.Invalid || kind == sources.Internal) {
			err = &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("the snapshot %s cannot be joined: %w", snapshot, err)}
		}
		return nil, err
	}
	for _, r := range results {
		if len(r.Rows) == 1 {
			n.snapshot = string(r.Rows[0][0])
		}
	}
	return &member{conn}, nil
}

// release ends the member's transaction and gives its connection back, or
// closes it where that cannot be had quickly.
func (m *member) release() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if !m.conn.Conn().IsClosed() {
		if _, err := m.conn.Conn().PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			// The pool discards a connection that is not idle.
			_ = m.conn.Conn().Close(ctx)
		}
	}
	m.conn.Release()
}

// acquire hands out a member for one scan.
func (n *session) acquire(ctx context.Context) (*member, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := len(n.idle); k > 0 {
		m := n.idle[k-1]
		n.idle = n.idle[:k-1]
		return m, nil
	}
	switch {
	case n.closed:
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.New("the session is closed")}
	case n.made == 0:
		return nil, errLost
	case n.made >= n.s.members():
		return nil, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("more than %d scans at once in a session", n.s.members())}
	}
	m, err := n.open(ctx, n.snapshot)
	if err == nil {
		n.made++
	}
	return m, err
}

// giveBack takes a member after its scan. One whose connection is gone is lost,
// and with the last one the snapshot.
func (n *session) giveBack(m *member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.conn.Conn().IsClosed() {
		m.conn.Release()
		n.made--
		return
	}
	n.idle = append(n.idle, m)
}

// Plan tells the statement. Its estimate is the table's, where nothing is asked
// that would make it another.
func (n *session) Plan(_ context.Context, q *sources.Query) (*sources.Plan, error) {
	st, err := n.c.Check(q)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	statement, err := build(n.c.tables[q.Table], st, q)
	if err != nil {
		return nil, &sources.Error{Op: "plan", Table: q.Table, Kind: sources.Invalid, Err: err}
	}
	plan := &sources.Plan{Rows: -1, Bytes: -1, Snapshot: n.snapshot, Detail: statement.sql}
	if q.Where == nil && q.Keys == nil && q.After == nil && st.Rows >= 0 {
		plan.Rows = st.Rows
		if q.Limit > 0 {
			plan.Rows = min(plan.Rows, q.Limit)
		}
	}
	return plan, nil
}

// Close ends the snapshot.
func (n *session) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	for _, m := range n.idle {
		m.release()
	}
	n.idle, n.made = nil, 0
	n.s.give(n.s.members())
	return nil
}
