package postgres

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock-data/penstock/sources"
)

// cancelTimeout is how long the server may take to cancel a statement whose context has
// ended, and leaveTimeout one whose remaining rows nobody wants. After that, the connection
// is closed, with which a snapshot may be lost.
const (
	cancelTimeout = 700 * time.Millisecond
	leaveTimeout  = 5 * time.Second
)

// Scan streams the rows of a statement.
func (n *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return sources.Guard("scan", q.Table, func(yield func(sources.Batch, error) bool) {
		if err := n.scan(ctx, q, yield); err != nil {
			yield(sources.Batch{}, err)
		}
	})
}

// scan yields the rows of a query. It returns nil if the consumer stops.
func (n *session) scan(ctx context.Context, q *sources.Query, yield func(sources.Batch, error) bool) error {
	st, err := n.c.Check(q)
	if err != nil {
		return err
	}
	t := n.c.tables[q.Table]
	if t.denied != "" {
		return sources.NewError(sources.Denied, "", "", errors.New(t.denied))
	}
	if err := ctx.Err(); err != nil {
		return translateError(ctx, err)
	}
	m, err := n.acquire(ctx)
	if err != nil {
		return err
	}
	defer n.release(m)
	b, err := n.chooseStatement(ctx, m, t, st, q)
	if err != nil {
		return err
	}
	cursors, err := n.newCursorWriter(ctx, m, t, q, b)
	if err != nil {
		return err
	}
	p := newPageBuilder(n.env.Mem, st.QuerySchema(q), b.columns, decodeMode{checkUTF8: n.s.ascii, specialNull: n.s.options.special == specialNull})
	defer p.release()
	m.conn.Conn().PgConn().Frontend().SetMaxBodyLen(n.maxRowBytes())
	rows := m.query(ctx, b)
	pages := newPageFeed(n, p, cursors, q.After, rows, yield)
	rows.socket.attach(pages)
	defer pages.end()

	position := int64(1)
	for ; rows.NextRow(); position++ {
		if pages.stopped {
			return pages.err
		}
		raw := rows.Values()
		if position == 1 {
			if err := checkTypes(b, rows.FieldDescriptions()); err != nil {
				return err
			}
		}
		size := p.size(raw)
		if pages.full(size) && !pages.handOn(false) {
			return pages.err
		}
		if i, err := p.append(raw); err != nil {
			return sources.Errorf(sources.Invalid, "", "", "row %d, column %q: %w", position, b.columns[i].name, err)
		}
		p.bytes += size
		if cursors == nil {
			continue
		}
		if err := cursors.addRow(raw[len(b.columns):]); err != nil {
			return err
		}
	}
	if pages.stopped {
		return pages.err
	}
	if err := n.translateError(ctx, b.textError(rows.close(), position)); err != nil {
		// A retry continues after rows with a cursor, and repeats the others.
		if p.rows > 0 && cursors != nil && sources.KindOf(err) == sources.Unavailable && !pages.handOn(false) {
			return pages.err
		}
		return err
	}
	if p.rows > 0 || pages.count == 0 {
		pages.handOn(false)
	}
	return pages.err
}

// textError adds the row, and the columns that may be the cause, to an error of the server
// about text that it cannot convert to UTF-8.
func (b *statement) textError(err error, row int64) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "22P05" && pg.Code != "22021" {
		return err
	}
	var names []string
	for _, c := range b.columns {
		if c.codec.hasText() {
			names = append(names, strconv.Quote(c.name))
		}
	}
	where := "a text of the order"
	switch len(names) {
	case 0:
	case 1:
		where = "column " + names[0]
	default:
		where = "one of the columns " + strings.Join(names, ", ")
	}
	return sources.Errorf(sources.Invalid, "", "", "row %d, %s: %s (SQLSTATE %s); leave the column out, or read a view that replaces the character", row, where, oneLine(pg.Message), pg.Code)
}

// maxRowBytes returns the maximum size of a row: a quarter of the session's memory limit,
// if there is one, since the row is in memory as received and in a builder, which doubles
// when it grows. No value of PostgreSQL is larger than a gigabyte.
func (n *session) maxRowBytes() int {
	if bounded, ok := n.env.Mem.(interface{ Limit() int64 }); ok {
		return int(min(max(bounded.Limit()/4, 64<<10), math.MaxInt32))
	}
	return math.MaxInt32
}

// checkTypes returns an error if the types of the result differ from those of the catalog,
// which may be out of date.
func checkTypes(b *statement, fields []pgconn.FieldDescription) error {
	for i, c := range b.columns {
		if have := fields[i].DataTypeOID; have != c.codec.oid {
			return sources.Errorf(sources.Invalid, "", "", "the type of column %q has changed since the catalog was read (OID %d, was %d): open the source again", c.name, have, c.codec.oid)
		}
	}
	return nil
}

// resultRows is the result of a running statement.
type resultRows struct {
	*pgconn.ResultReader
	conn      *snapshotConn
	socket    *dueConn // of conn
	kill      context.CancelFunc
	stopWatch func() bool   // stops watching the scan's context
	canceled  chan struct{} // closed when the end of the scan's context has canceled the statement
	ended     bool
	err       error

	interrupted bool // interrupt was called
	exhausted   bool // all rows were read
}

// NextRow reads the next row and reports whether there was one.
func (r *resultRows) NextRow() bool {
	r.exhausted = !r.ResultReader.NextRow()
	return !r.exhausted
}

var binaryForm = []int16{1}

// query sends a statement. When the context is canceled, it asks the server to cancel the
// statement, which keeps the connection and its snapshot. If the server does not comply,
// the connection is closed.
func (m *snapshotConn) query(ctx context.Context, b *statement) *resultRows {
	run, kill := context.WithCancel(context.WithoutCancel(ctx))
	r := &resultRows{conn: m, socket: dueConnOf(m.conn.Conn().PgConn().Conn()), kill: kill, canceled: make(chan struct{})}
	r.stopWatch = context.AfterFunc(ctx, func() {
		defer close(r.canceled)
		r.cancel(cancelTimeout)
	})
	r.ResultReader = m.conn.Conn().PgConn().ExecParams(run, b.sql, b.values, b.oids, b.formats(), binaryForm)
	return r
}

// cancel asks the server to cancel the statement, and closes the connection if it does not
// do so within the timeout.
func (r *resultRows) cancel(timeout time.Duration) {
	ctx, done := context.WithTimeout(context.Background(), timeout)
	defer done()
	time.AfterFunc(timeout, r.kill)
	if err := r.conn.conn.Conn().PgConn().CancelRequest(ctx); err != nil {
		r.kill()
	}
}

// interrupt cancels the statement because no more rows are wanted. The first call waits
// until the server has been asked.
func (r *resultRows) interrupt() {
	if r.interrupted {
		return
	}
	r.interrupted = true
	if r.stopWatch() {
		r.cancel(leaveTimeout)
	} else {
		<-r.canceled
	}
}

// close makes the connection ready for the next scan and returns the statement's error. It
// cancels the statement if rows are left.
func (r *resultRows) close() error {
	if r.ended {
		return r.err
	}
	r.ended = true
	defer r.kill()
	r.socket.attach(nil)
	// A complete result need not be canceled.
	complete := r.exhausted
	if !complete {
		r.interrupt()
		for r.NextRow() {
		}
	}
	_, r.err = r.Close()
	r.conn.conn.Conn().PgConn().Frontend().SetMaxBodyLen(math.MaxInt32) // no limit for other messages
	if !r.interrupted && !r.stopWatch() {
		<-r.canceled
	}
	// A request to cancel that came after the end of the statement hits the rollback.
	if r.err != nil || r.interrupted || r.conn.settingsChanged() {
		r.conn.rollBack()
	}
	return r.err
}

// abandon closes the connection in the middle of a Read, whose state is lost.
func (r *resultRows) abandon() {
	r.ended = true
	defer r.kill()
	r.interrupt()
	r.socket.attach(nil)
	r.conn.closeNow()
	ctx, done := context.WithTimeout(context.Background(), cancelTimeout)
	defer done()
	_ = r.conn.conn.Conn().Close(ctx) // so that it is not used again
}

// settingsChanged reports whether a statement has changed settings that affect the format
// of values, as a function in a view can.
func (m *snapshotConn) settingsChanged() bool {
	conn := m.conn.Conn().PgConn()
	for _, name := range []string{"TimeZone", "DateStyle", "IntervalStyle"} {
		if now := conn.ParameterStatus(name); now != "" && now != sessionSettings[name] {
			return true
		}
	}
	return conn.ParameterStatus("client_encoding") != clientEncoding(conn)
}

// rollBack rolls a failed transaction back to its savepoint, which keeps the snapshot. It
// does nothing if there is no snapshot.
func (m *snapshotConn) rollBack() {
	conn := m.conn.Conn().PgConn()
	if m.exported == "" || conn.IsClosed() {
		return
	}
	ctx, done := context.WithTimeout(context.Background(), cancelTimeout)
	defer done()
	_, err := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT penstock").ReadAll()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "57014" { // a cancel request that arrived late
		_, err = conn.Exec(ctx, "ROLLBACK TO SAVEPOINT penstock").ReadAll()
	}
	if err != nil {
		_ = m.conn.Conn().Close(ctx)
	}
}
