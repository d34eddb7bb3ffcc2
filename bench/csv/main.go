// Command csv measures how fast a CSV file is converted to Arrow batches: by Penstock's
// source on one core and on two, in a process and in a WebAssembly module, compared with
// encoding/csv with Arrow builders, arrow-go's reader and DuckDB. It generates the file.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/wasm"
)

const (
	dirVariable    = "PENSTOCK_BENCH_DIR"
	moduleVariable = "PENSTOCK_BENCH_MODULE"
)

var (
	linked = map[string]sources.Open{"csv": csv.Open}
	walls  = []wall.Wall{process.Wall(), wasm.Wall()}
	size   = flag.Int64("size", 200_000_000, "size of the file, in bytes")
	part   = flag.Bool("part", false, "measure reads of some of the columns or rows, instead of walls and other readers")
)

func main() {
	process.Main(linked, walls...)
	all := func(*sources.Query) {}
	contestants := []trial.Contestant{
		{Name: "penstock", Run: scan(1, all)},
		{Name: "penstock 2 cores", Run: scan(2, all)},
		{Name: "engine", Run: stream(host.InProcess, core.Options{})},
		{Name: "engine without digests", Run: stream(host.InProcess, core.Options{NoDigests: true})},
		{Name: "engine 2 cores", Run: stream(host.InProcess, core.Options{Parallel: 2})},
		{Name: "engine process", Run: stream(host.Process, core.Options{})},
		{Name: "engine wasm", Run: stream(host.Module, core.Options{})},
		{Name: "encoding/csv", Run: builders},
		{Name: "arrow-go csv", Run: arrowReader},
		{Name: "duckdb", Run: duckdb(1)},
		{Name: "duckdb 2 threads", Run: duckdb(2)},
		{Name: "newlines", Run: newlines, Sampled: true},
	}
	// The trial parses the flags, but needs the contestants before that.
	if len(os.Args) > 1 && os.Args[1] == "-part" || len(os.Args) > 1 && os.Args[1] == "-part=true" {
		contestants = []trial.Contestant{
			{Name: "all columns", Run: scan(1, all)},
			{Name: "2 of 10 columns", Run: scan(1, func(q *sources.Query) { q.Columns = []string{"id", "price"} }), Sampled: true},
			{Name: "the predicate's column", Run: scan(1, func(q *sources.Query) { q.Columns = []string{"customer_id"} }), Sampled: true},
			{Name: "1 % of the rows", Run: scan(1, func(q *sources.Query) {
				q.Where = sources.Comparison{Column: "customer_id", Op: sources.OpLe, Value: sources.Int(2000)}
			}), Sampled: true},
		}
	}
	trial.Main("CSV, one file into Arrow batches", contestants, setup)
}

// setup generates the file and compiles the module.
func setup(ctx context.Context) (env []string, cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "penstock-bench")
	if err != nil {
		return nil, nil, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	if err := generate(dir, *size); err != nil {
		return nil, cleanup, err
	}
	plugins := filepath.Join(dir, "plugins")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s", "-o", filepath.Join(plugins, "csv.wasm"), "github.com/penstock-data/penstock/plugins/csv/plugin")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, cleanup, fmt.Errorf("%w: %s", err, out)
	}
	return []string{dirVariable + "=" + dir, moduleVariable + "=" + filepath.Join(plugins, "csv.wasm")}, cleanup, nil
}
