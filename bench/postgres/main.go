// Command postgres measures how fast a PostgreSQL table can be read: by Penstock
// in-process and in a process of its own, compared with psql, pgx, database/sql, GORM,
// bun, and pages by OFFSET. It starts its own server on this machine.
package main

import (
	"context"
	"flag"

	"github.com/penstock-data/penstock/bench/shop"
	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

var (
	linked = map[string]sources.Open{"postgres": postgres.Open}
	walls  = []wall.Wall{process.Wall()}
	orders = flag.Int("orders", 1_000_000, "orders in the shop; order_lines has four times as many rows")
	table  = flag.String("table", "order_lines", "table to read; contestants that map rows to structs support only order_lines")
)

func main() {
	process.Main(linked, walls...)
	contestants := []trial.Contestant{
		{Name: "psql copy binary", Run: psql},
		{Name: "penstock", Run: inProcess},
		{Name: "penstock process", Run: behindTheWall},
		{Name: "penstock ordered", Run: ordered},
		{Name: "penstock 2 parts", Run: parts(2)},
		{Name: "penstock 4 parts", Run: parts(4)},
		{Name: "pgx rows.Values", Run: pgxValues},
		{Name: "database/sql structs", Run: sqlStructs},
		{Name: "gorm FindInBatches", Run: gormBatches},
		{Name: "bun", Run: bunRows},
		{Name: "offset pages", Run: offsetPages, Sampled: true},
	}
	trial.Main("PostgreSQL, one table out of the server", shop.Watched(contestants), func(ctx context.Context) ([]string, func(), error) {
		return shop.Serve(ctx, *orders)
	})
}
