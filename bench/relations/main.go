// Command relations measures how fast nested rows can be read from a source: orders with
// their customer and their lines, and each line with its product.
//
// From PostgreSQL it compares Penstock with GORM's Preload, bun's relations, JSON made by
// the server, one query for each row, and psql, which only dumps the four tables. From
// CSV files it compares the same query with a scan of the same files. ent is left out: it
// needs code that is generated for the tables, and sends the same queries as bun.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/penstock-data/penstock/bench/shop"
	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/wasm"
)

const dirVariable = "PENSTOCK_BENCH_DIR"

var (
	linked  = map[string]sources.Open{"postgres": postgres.Open, "csv": csv.Open}
	walls   = []wall.Wall{process.Wall(), wasm.Wall()}
	orders  = flag.Int("orders", 1_000_000, "orders in the shop, which has a tenth as many customers, a twentieth as many products and four times as many lines")
	source  = flag.String("source", "postgres", "source to read from: postgres or csv")
	percent = flag.Int("percent", 100, "percentage of the orders to read")
	skewed  = flag.Bool("skewed", false, "read customers with their orders instead; the first customers have many orders")
	chunk   = flag.Int("chunk", 5000, "rows that every contestant reads at once")
	memory  = flag.Int64("memory", 256<<20, "Penstock's memory limit, in bytes")
	isolate = flag.String("isolation", string(host.InProcess), "where Penstock's source runs: inproc, process or wasm")
)

func main() {
	process.Main(linked, walls...)
	trial.Main("Orders with customer and lines, and each line with its product", contestants(), func(ctx context.Context) ([]string, func(), error) {
		if *source == "postgres" {
			return shop.Serve(ctx, *orders)
		}
		dir, err := os.MkdirTemp("", "penstock-relations-")
		if err != nil {
			return nil, nil, err
		}
		err = testkit.Shop{Seed: 1, Orders: *orders}.WriteCSV(ctx, dir)
		return []string{dirVariable + "=" + dir}, func() { _ = os.RemoveAll(dir) }, err
	})
}

// contestants returns the contestants that the flags select. The flags are not parsed
// yet: the trial does that, but needs the contestants before.
func contestants() []trial.Contestant {
	fromCSV, isSkewed := false, false
	for i, arg := range os.Args {
		fromCSV = fromCSV || arg == "-source=csv" || arg == "csv" && os.Args[i-1] == "-source"
		isSkewed = isSkewed || arg == "-skewed" || arg == "-skewed=true"
	}
	switch {
	case fromCSV:
		return []trial.Contestant{
			{Name: "penstock scans", Run: scanFiles},
			{Name: "penstock", Run: penstock},
			{Name: "penstock, two relations", Run: penstockTwo, Sampled: true},
		}
	case isSkewed:
		return shop.Watched([]trial.Contestant{
			{Name: "penstock", Run: penstock},
			{Name: "gorm Preload", Run: gormSkewed},
			{Name: "bun relations", Run: bunSkewed},
		})
	}
	return shop.Watched([]trial.Contestant{
		{Name: "psql ordered dump", Run: dumpOrdered, Sampled: true},
		{Name: "psql dump", Run: dump, Sampled: true},
		{Name: "penstock", Run: penstock},
		{Name: "gorm Preload", Run: gormPreload},
		{Name: "bun relations", Run: bunRelations},
		{Name: "json_agg", Run: jsonAgg},
		{Name: "a query for each row", Run: naive, Sampled: true},
	})
}
