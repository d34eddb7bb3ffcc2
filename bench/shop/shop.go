// Package shop provides the data that benchmarks read: testkit's made-up shop, in a
// PostgreSQL server of its own.
package shop

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

const (
	uriVariable        = "PENSTOCK_BENCH_URI"
	postmasterVariable = "PENSTOCK_BENCH_POSTMASTER"
)

// Serve starts a server on this machine and fills it with a shop. It returns the
// environment from which contestants learn the server's address, and a function that
// stops the server, which may be nil after an error.
func Serve(ctx context.Context, orders int) (env []string, cleanup func(), err error) {
	server, err := pgtest.Launch(ctx)
	if err != nil {
		return nil, nil, err
	}
	cleanup = func() {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	uri := server.URI("postgres")
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return nil, cleanup, err
	}
	defer func() { _ = conn.Close(ctx) }()
	shop := testkit.Shop{Seed: 1, Orders: orders}
	create, finish := shop.SQL()
	if _, err := conn.Exec(ctx, create); err != nil {
		return nil, cleanup, err
	}
	for _, name := range shop.Tables() {
		read, write := io.Pipe()
		go func() { write.CloseWithError(shop.WriteCopy(ctx, write, name)) }()
		if _, err := conn.PgConn().CopyFrom(ctx, read, "COPY "+name+" FROM stdin"); err != nil {
			return nil, cleanup, err
		}
	}
	for _, sql := range []string{finish, "VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, cleanup, err
		}
	}
	postmaster, err := trial.Parent(int(conn.PgConn().PID()))
	return []string{uriVariable + "=" + uri, fmt.Sprintf("%s=%d", postmasterVariable, postmaster)}, cleanup, err
}

// URI returns the server's address. It works in the process of a contestant.
func URI() string { return os.Getenv(uriVariable) }

// Watched returns the contestants with [trial.Outcome.Server] set to the processor time
// that the server uses. It modifies the slice.
func Watched(contestants []trial.Contestant) []trial.Contestant {
	for i, c := range contestants {
		contestants[i].Run = func(ctx context.Context) (trial.Outcome, error) {
			postmaster, err := strconv.Atoi(os.Getenv(postmasterVariable))
			if err != nil {
				return trial.Outcome{}, fmt.Errorf("%s: %w", postmasterVariable, err)
			}
			server := trial.WatchChildren(postmaster)
			o, err := c.Run(ctx)
			o.Server = server.Stop()
			return o, err
		}
	}
	return contestants
}
