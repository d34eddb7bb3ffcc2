package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/sources"
)

var errPooler = sources.Errorf(sources.Unavailable, "", "", "the server is behind a connection pooler such as pgbouncer in transaction mode, which assigns each transaction another connection, "+
	"so that settings, cancel requests and snapshots do not work; connect to the server directly, set pool_mode=session, or open with the option snapshot=none")

// rejectPooler returns an error if conn leads to a pooler in transaction mode. A pooler
// reports a process id of its own. A pooler in session mode stays on one backend, even if
// another client uses the pooler in the meantime.
func (s *source) rejectPooler(ctx context.Context, conn *pgx.Conn) error {
	var backend uint32
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&backend); err != nil {
		return err
	}
	if backend == conn.PgConn().PID() {
		return nil
	}
	other, err := pgx.ConnectConfig(ctx, conn.Config())
	if err != nil {
		return err
	}
	defer func() { _ = other.Close(ctx) }()
	return pgx.BeginFunc(ctx, other, func(tx pgx.Tx) error {
		// The transaction occupies a backend: the one that conn has used, if the pooler
		// considers that idle.
		var its, ours uint32
		if err := tx.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&its); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&ours); err != nil {
			return err
		}
		if its == backend || ours != backend {
			return errPooler
		}
		return nil
	})
}
