// Command postgres measures how fast the rows of a PostgreSQL table come out of
// it: penstock linked in and behind the process wall, beside psql, pgx,
// database/sql, GORM, bun, and pages by OFFSET. The server is one of its own, on
// this machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

const (
	uriVariable        = "PENSTOCK_BENCH_URI"
	postmasterVariable = "PENSTOCK_BENCH_POSTMASTER"
)

var (
	linked = map[string]sources.Open{"postgres": postgres.Open}
	orders = flag.Int("orders", 1_000_000, "orders in the shop; order_lines has four times as many rows")
	table  = flag.String("table", "order_lines", "the table to read; those that map rows to structs know order_lines alone")
)

func main() {
	host.Main(linked)
	contestants := []trial.Contestant{
		{Name: "psql copy binary", Run: psql},
		{Name: "penstock", Run: inProcess},
		{Name: "penstock process", Run: behindTheWall},
		{Name: "penstock ordered", Run: ordered},
		{Name: "pgx rows.Values", Run: pgxValues},
		{Name: "database/sql structs", Run: sqlStructs},
		{Name: "gorm FindInBatches", Run: gormBatches},
		{Name: "bun", Run: bunRows},
		{Name: "offset pages", Run: offsetPages, Sampled: true},
	}
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
	trial.Main("PostgreSQL, one table out of the server", contestants, setup)
}

// setup starts a server and fills it.
func setup(ctx context.Context) (env []string, cleanup func(), err error) {
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
	shop := testkit.Shop{Seed: 1, Orders: *orders}
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
