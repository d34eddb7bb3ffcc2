package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/penstock-data/penstock/sources"
)

// member is a connection in a transaction of its session's snapshot. One scan
// at a time uses it.
type member struct {
	conn *pgxpool.Conn
	// snapshot is the name under which this member has exported the session's
	// snapshot: it can be joined as long as this member lives. Each exports it
	// anew, since what a lost connection had exported can be joined no more.
	snapshot string
	// moment tells the snapshot from those of other moments.
	moment string
}

// join makes a member of a snapshot, or of a new one where the name is empty.
func (s *source) join(ctx context.Context, snapshot string) (*member, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fault(ctx, err)
	}
	m := &member{conn: conn}
	if s.options.snapshot == none {
		// Behind a pooler settings hold for the transaction alone.
		_, err := conn.Conn().PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY").ReadAll()
		if err == nil {
			err = s.set(ctx, conn.Conn(), true)
		}
		if err != nil {
			m.release()
			return nil, fault(ctx, err)
		}
		return m, nil
	}
	sql := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
	if snapshot != "" {
		sql += "SET TRANSACTION SNAPSHOT '" + snapshot + "';" // letters, digits and dashes
	}
	sql += "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.txid_current_snapshot()::pg_catalog.text;"
	// What a scan breaks is mended by going back here; the snapshot outlives it.
	sql += "SAVEPOINT penstock"
	results, err := conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		m.release()
		err = fault(ctx, err)
		if kind := sources.KindOf(err); snapshot != "" && (kind == sources.Invalid || kind == sources.Internal) {
			err = &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("the snapshot %s cannot be joined: %w", snapshot, err)}
		}
		return nil, err
	}
	for _, r := range results {
		if len(r.Rows) == 1 && len(r.Rows[0]) == 2 {
			m.snapshot, m.moment = string(r.Rows[0][0]), string(r.Rows[0][1])
		}
	}
	if m.snapshot == "" {
		m.release()
		return nil, &sources.Error{Kind: sources.Internal, Err: errors.New("the server did not name its snapshot")}
	}
	return m, nil
}

func (m *member) lost() bool { return m.conn.Conn().IsClosed() }

// release ends the member's transaction and gives its connection back, or
// closes it where that cannot be had quickly.
func (m *member) release() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if !m.lost() {
		if _, err := m.conn.Conn().PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			// The pool discards a connection that is not idle.
			_ = m.conn.Conn().Close(ctx)
		}
	}
	m.conn.Release()
}

// cut closes the connection under whoever uses it: what they do fails.
func (m *member) cut() { _ = m.conn.Conn().PgConn().Conn().Close() }
