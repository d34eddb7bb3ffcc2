package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/sources"
)

var errPooler = &sources.Error{Kind: sources.Unavailable, Err: errors.New("the server is behind a pooler, as pgbouncer, in transaction mode: it hands each transaction to another of the server's connections, " +
	"so neither settings nor a cancel reach the right one, and a snapshot cannot be kept; connect to the server itself, set pool_mode=session, or open with the option snapshot=none")}

// refusePooler returns an error where what answers is not a server but a pooler
// that changes the server's connection from one transaction to the next. A
// pooler gives a process number of its own; one in session mode keeps to a
// connection, which is seen by a setting that stays where another client of the
// pooler uses a connection in between.
func (s *source) refusePooler(ctx context.Context, conn *pgx.Conn) error {
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
		// The transaction takes hold of a connection: of ours, where ours is free
		// to be taken.
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
