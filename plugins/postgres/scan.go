package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock-data/penstock/sources"
)

// grace is how long the server has to answer a cancel request. After it the
// connection is closed.
const grace = 700 * time.Millisecond

// Scan streams the rows of one statement.
func (n *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return sources.Guard("scan", q.Table, func(yield func(sources.Batch, error) bool) {
		if err := n.scan(ctx, q, yield); err != nil {
			yield(sources.Batch{}, err)
		}
	})
}

// firstPage is what a scan's first page holds at most, in bytes: whoever waits
// for the first rows need not wait for a whole page. Each one after it may be
// twice as large, up to the ceiling.
const firstPage = 64 << 10

// scan returns the error that ends the scan; nil also where the loop was left.
func (n *session) scan(ctx context.Context, q *sources.Query, yield func(sources.Batch, error) bool) error {
	st, err := n.c.Check(q)
	if err != nil {
		return err
	}
	t := n.c.tables[q.Table]
	if t.denied != "" {
		return &sources.Error{Kind: sources.Denied, Err: errors.New(t.denied)}
	}
	if err := ctx.Err(); err != nil {
		return fault(ctx, err)
	}
	m, err := n.acquire(ctx)
	if err != nil {
		return err
	}
	defer n.giveBack(m)
	b, err := n.choose(ctx, m, t, st, q)
	if err != nil {
		return err
	}
	cursors, err := n.cursors(ctx, m, t, q, b)
	if err != nil {
		return err
	}
	p := newPage(n.env.Mem, st.ScanSchema(q.Columns), b.columns, reading{ascii: n.s.ascii, null: n.s.options.special == makeNull})
	defer p.release()
	m.conn.Conn().PgConn().Frontend().SetMaxBodyLen(n.largest())
	rows := m.query(ctx, b)
	defer func() { _ = rows.end() }() // its error was looked at where the rows ended

	limits := n.env.Page.OrDefault()
	bytes := min(limits.Bytes, firstPage)
	position, pages := int64(0), 0
	flush := func() bool {
		batch := sources.Batch{}
		switch {
		case cursors == nil:
		case p.rows > 0:
			batch.Cursor = cursors.write()
		default:
			batch.Cursor = q.After // an empty page ends where the scan began
		}
		batch.Record = p.record(n.env.Mem)
		defer batch.Record.Release()
		if pages++; pages == 1 {
			n.keep()
		}
		bytes = min(2*bytes, limits.Bytes)
		return yield(batch, nil)
	}
	for rows.NextRow() {
		raw := rows.Values()
		if position == 0 {
			if err := checkTypes(b, rows.FieldDescriptions()); err != nil {
				return err
			}
		}
		position++
		size := p.size(raw)
		if p.rows > 0 && (p.rows >= limits.Rows || p.bytes+size > bytes) && !flush() {
			return nil
		}
		if i, err := p.append(raw); err != nil {
			return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("row %d, column %q: %w", position, b.columns[i].name, err)}
		}
		p.bytes += size
		if cursors == nil {
			continue
		}
		if err := cursors.pass(raw[len(b.columns):]); err != nil {
			return err
		}
	}
	if err := rows.end(); err != nil {
		return n.fault(ctx, err)
	}
	if p.rows > 0 || pages == 0 {
		flush()
	}
	return nil
}

// largest is the largest row that a scan takes, in bytes. While it becomes a page
// it is there as it came, and in a builder that grows, which has it twice: so it
// is a quarter of what the session's memory holds, where that has a limit. No
// value of PostgreSQL's is larger than a gigabyte.
func (n *session) largest() int {
	if bounded, ok := n.env.Mem.(interface{ Limit() int64 }); ok {
		return int(min(max(bounded.Limit()/4, 64<<10), math.MaxInt32))
	}
	return math.MaxInt32
}

// checkTypes holds what the server sends against the catalogue, which may be
// older.
func checkTypes(b *statement, fields []pgconn.FieldDescription) error {
	for i, c := range b.columns {
		if have := fields[i].DataTypeOID; have != c.form.oid {
			return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("column %q has changed its type (OID %d, was %d) since the catalogue was read; open the source again", c.name, have, c.form.oid)}
		}
	}
	return nil
}

// rows is a statement that runs.
type rows struct {
	*pgconn.ResultReader
	m     *member
	kill  context.CancelFunc
	stop  func() bool   // of the watch over the scan's context
	asked chan struct{} // closed when the watch has done its work
	ended bool
	err   error

	finished bool // there are no more rows
}

// NextRow reads the next row, and notes the end.
func (r *rows) NextRow() bool {
	r.finished = !r.ResultReader.NextRow()
	return !r.finished
}

var binaryForm = []int16{1}

// query sends a statement. The end of the context asks the server to cancel it,
// which leaves the connection and its snapshot whole; only where the server
// does not comply the connection is closed.
func (m *member) query(ctx context.Context, b *statement) *rows {
	run, kill := context.WithCancel(context.WithoutCancel(ctx))
	r := &rows{m: m, kill: kill, asked: make(chan struct{})}
	r.stop = context.AfterFunc(ctx, func() {
		defer close(r.asked)
		r.cancel()
	})
	formats := make([]int16, len(b.values))
	for i := range formats {
		formats[i] = 1
	}
	r.ResultReader = m.conn.Conn().PgConn().ExecParams(run, b.sql, b.values, b.oids, formats, binaryForm)
	return r
}

// cancel asks the server to stop the statement, and closes the connection where
// it does not within the grace.
func (r *rows) cancel() {
	ctx, done := context.WithTimeout(context.Background(), grace)
	defer done()
	time.AfterFunc(grace, r.kill)
	if err := r.m.conn.Conn().PgConn().CancelRequest(ctx); err != nil {
		r.kill()
	}
}

// end brings the connection back to where the next scan can begin, and returns
// the statement's error. Rows that are still to come are not waited for.
func (r *rows) end() error {
	if r.ended {
		return r.err
	}
	r.ended = true
	defer r.kill()
	// A result that is read to its end needs no cancel.
	complete := r.finished
	if !complete {
		if r.stop() {
			r.cancel()
		} else {
			<-r.asked
		}
		for r.NextRow() {
		}
	}
	_, r.err = r.Close()
	r.m.conn.Conn().PgConn().Frontend().SetMaxBodyLen(math.MaxInt32) // for what is not rows
	if complete && !r.stop() {
		<-r.asked
	}
	if r.err != nil || r.m.altered() {
		r.m.mend()
	}
	return r.err
}

// altered reports whether a statement has changed the settings that values are
// written by, as a function within a view can.
func (m *member) altered() bool {
	conn := m.conn.Conn().PgConn()
	for _, name := range []string{"TimeZone", "DateStyle", "IntervalStyle"} {
		if now := conn.ParameterStatus(name); now != "" && now != settings[name] {
			return true
		}
	}
	return conn.ParameterStatus("client_encoding") != "UTF8"
}

// mend brings a transaction that an error has broken back to where its snapshot
// was taken. Without a snapshot there is nothing to keep.
func (m *member) mend() {
	conn := m.conn.Conn().PgConn()
	if m.snapshot == "" || conn.IsClosed() {
		return
	}
	ctx, done := context.WithTimeout(context.Background(), grace)
	defer done()
	_, err := conn.Exec(ctx, "ROLLBACK TO SAVEPOINT penstock").ReadAll()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "57014" { // a cancel that came late
		_, err = conn.Exec(ctx, "ROLLBACK TO SAVEPOINT penstock").ReadAll()
	}
	if err != nil {
		_ = m.conn.Conn().Close(ctx)
	}
}
