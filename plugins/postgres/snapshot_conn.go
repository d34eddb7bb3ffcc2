package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/penstock-data/penstock/sources"
)

// snapshotConn is a connection with a transaction in the session's snapshot. It is used by
// one scan at a time.
type snapshotConn struct {
	conn *pgxpool.Conn
	// exported is the name under which this connection has exported the snapshot. The name
	// is valid while the connection is open, so each connection exports it again.
	exported string
	// snapshotID identifies the snapshot itself: the transactions that it sees.
	snapshotID string
}

// snapshotGone has the errors of the server about a snapshot that nobody holds any more.
var snapshotGone = []string{
	"22023", // invalid snapshot identifier
	"42704", // the same since PostgreSQL 17
	"55000", // could not import the requested snapshot
}

// openSnapshotConn opens a connection in the snapshot with the exported name, or in a new
// one if the name is empty.
func (s *source) openSnapshotConn(ctx context.Context, snapshot string) (*snapshotConn, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, s.translateError(ctx, err)
	}
	m := &snapshotConn{conn: conn}
	if s.options.snapshot == snapshotNone {
		// Behind a pooler, settings apply only to the transaction.
		_, err := conn.Conn().PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY").ReadAll()
		if err == nil {
			err = s.applySettings(ctx, conn.Conn(), true)
		}
		if err == nil {
			err = s.session.note(ctx, conn.Conn())
		}
		if err != nil {
			m.release()
			return nil, s.translateError(ctx, err)
		}
		return m, nil
	}
	sql := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
	if snapshot != "" {
		sql += "SET TRANSACTION SNAPSHOT '" + snapshot + "';" // letters, digits and dashes
	}
	sql += "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.txid_current_snapshot()::pg_catalog.text;"
	// After an error, rollBack returns to this savepoint and the snapshot survives.
	sql += "SAVEPOINT penstock"
	results, err := conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		m.release()
		var pg *pgconn.PgError
		if snapshot != "" && errors.As(err, &pg) && slices.Contains(snapshotGone, pg.Code) {
			return nil, sources.Errorf(sources.Invalid, "", "", "%w (SQLSTATE %s)", errGone, pg.Code)
		}
		return nil, s.translateError(ctx, err)
	}
	for _, r := range results {
		if len(r.Rows) == 1 && len(r.Rows[0]) == 2 {
			m.exported, m.snapshotID = string(r.Rows[0][0]), string(r.Rows[0][1])
		}
	}
	if m.exported == "" {
		m.release()
		return nil, sources.Errorf(sources.Internal, "", "", "the server did not name its snapshot")
	}
	return m, nil
}

func (m *snapshotConn) isClosed() bool { return m.conn.Conn().IsClosed() }

// release ends the transaction and returns the connection to the pool. If that takes too
// long, it closes the connection.
func (m *snapshotConn) release() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if !m.isClosed() {
		if _, err := m.conn.Conn().PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			// The pool discards a connection that is not idle.
			_ = m.conn.Conn().Close(ctx)
		}
	}
	m.conn.Release()
}

// closeNow closes the connection while it may be in use, so that the user gets an error.
func (m *snapshotConn) closeNow() { _ = m.conn.Conn().PgConn().Conn().Close() }
