// Command relations measures how fast nested rows come out of a source: orders
// with their customer and their lines, and each line with its product.
//
// From PostgreSQL it measures penstock beside GORM's Preload, bun's relations,
// JSON made by the server, one query for each row, and psql that does no more
// than dump the four tables. From CSV files it measures the same question beside
// a scan of the same files. ent is not here: it needs code that is generated for
// the tables, and asks the questions that bun asks.
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
	orders  = flag.Int("orders", 1_000_000, "orders in the shop: a tenth as many customers, a twentieth products, four times as many lines")
	source  = flag.String("source", "postgres", "what to read from: postgres or csv")
	percent = flag.Int("percent", 100, "how many percent of the orders to read")
	skewed  = flag.Bool("skewed", false, "read customers with their orders instead, of which early ones have many")
	chunk   = flag.Int("chunk", 5000, "rows that every contestant handles at once")
	memory  = flag.Int64("memory", 256<<20, "what penstock may hold, in bytes")
	isolate = flag.String("isolation", string(host.InProcess), "where penstock's source runs")
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

// contestants are those of what the flags ask for, which are not parsed yet.
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
