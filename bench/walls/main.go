// Command walls measures the cost of each wall: the time to the first chunk of a source
// that was read before, and the throughput of a whole scan. With -carrier N, the source
// yields the same record of N rows over and over, so that only the transport is measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/wasm"
)

var linked = map[string]sources.Open{"csv": csv.Open, "carrier": openCarrier}

var walls = []wall.Wall{process.Wall(), wasm.Wall()}

var (
	orders  = flag.Int("orders", 200_000, "number of orders to read")
	carrier = flag.Int("carrier", 0, "measure only the transport, with a record of this many rows; 0 reads CSV")
	bytes   = flag.Int64("bytes", 2<<30, "bytes to transport with -carrier")
	modules = flag.String("modules", "../bin", "directory of csv.wasm")
	memoryM = flag.Int64("memory", 64, "memory limit of each stream, in MiB")
	opens   = flag.Int("opens", 21, "number of streams whose time to the first chunk is measured; their median is reported")
)

func main() {
	process.Main(linked, walls...)
	contestants := []trial.Contestant{
		{Name: "inproc", Run: func(ctx context.Context) (trial.Outcome, error) { return run(ctx, host.InProcess) }},
		{Name: "process", Run: func(ctx context.Context) (trial.Outcome, error) { return run(ctx, host.Process) }},
	}
	if !slices.ContainsFunc(os.Args, func(a string) bool { return len(a) > 8 && a[:9] == "-carrier=" }) {
		contestants = append(contestants, trial.Contestant{Name: "wasm", Run: func(ctx context.Context) (trial.Outcome, error) { return run(ctx, host.Module) }})
	}
	trial.Main("walls (first ms: the median time to the first chunk of a warm source)", contestants, setup)
}

func setup(ctx context.Context) ([]string, func(), error) {
	dir, err := os.MkdirTemp("", "walls-")
	if err != nil {
		return nil, nil, err
	}
	cleanup := func() { _ = os.RemoveAll(dir) }
	if *carrier > 0 {
		return nil, cleanup, nil
	}
	return []string{"WALLS_SHOP=" + dir}, cleanup, testkit.Shop{Seed: 5, Orders: *orders}.WriteCSV(ctx, dir)
}

func run(ctx context.Context, isolation host.Isolation) (out trial.Outcome, err error) {
	path, err := filepath.Abs(*modules)
	if err != nil {
		return out, err
	}
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: isolation, PluginPath: []string{path}})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	uri, table := "csv:"+os.Getenv("WALLS_SHOP"), "orders"
	if *carrier > 0 {
		uri, table = fmt.Sprintf("carrier:%d?bytes=%d", *carrier, *bytes), "carrier"
	}
	source, err := h.Open(ctx, uri)
	if err != nil {
		return out, err
	}
	var firsts []time.Duration
	for i := range *opens + 1 {
		first, err := firstChunk(ctx, source, table)
		if err != nil {
			return out, err
		}
		if i > 0 { // the source is warm
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	started := time.Now()
	stream, err := source.Stream(ctx, core.Query{Table: table}, core.Options{Memory: *memoryM << 20})
	if err != nil {
		return out, err
	}
	for _, err := range stream.Chunks() {
		if err != nil {
			return out, err
		}
	}
	r := stream.Receipt()
	wallTime := time.Since(started)
	fmt.Fprintf(os.Stderr, "  %s: first chunk %s (%s to %s), %.0f MB/s\n", isolation,
		firsts[len(firsts)/2].Round(10*time.Microsecond), firsts[0].Round(10*time.Microsecond), firsts[len(firsts)-1].Round(10*time.Microsecond), float64(r.Bytes)/1e6/wallTime.Seconds())
	return trial.Outcome{Rows: r.Rows, Checksum: r.Digest.Ordered(), First: firsts[len(firsts)/2], Wall: wallTime}, nil
}

func firstChunk(ctx context.Context, source *host.Source, table string) (time.Duration, error) {
	started := time.Now()
	stream, err := source.Stream(ctx, core.Query{Table: table}, core.Options{Memory: *memoryM << 20})
	if err != nil {
		return 0, err
	}
	first := time.Duration(-1)
	for _, err := range stream.Chunks() {
		if err != nil {
			return 0, err
		}
		first = time.Since(started)
		break
	}
	return first, stream.Close()
}

var carried = arrow.NewSchema([]arrow.Field{
	{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.PrimitiveTypes.Float64}, {Name: "c", Type: arrow.PrimitiveTypes.Int64},
}, nil)

// openCarrier returns a source whose pages cost nothing to make. The URI is the number of
// rows of a page, and the option bytes the total size.
func openCarrier(_ context.Context, c sources.Config) (sources.Source, error) {
	rows, err := strconv.Atoi(c.URI)
	total, e := strconv.ParseInt(c.Options["bytes"], 10, 64)
	if err := errors.Join(err, e); err != nil {
		return nil, sources.NewError(sources.Invalid, "", "", err)
	}
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "carrier", Schema: carried, Rows: -1}}}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			rows := min(rows, int(env.Page.Rows), int(env.Page.Bytes/24)-8)
			b := array.NewRecordBuilder(memory.DefaultAllocator, carried)
			defer b.Release()
			for i := range rows {
				b.Field(0).(*array.Int64Builder).Append(int64(i))
				b.Field(1).(*array.Float64Builder).Append(float64(i) / 3)
				b.Field(2).(*array.Int64Builder).Append(int64(i) << 20)
			}
			record := b.NewRecordBatch()
			defer record.Release()
			for sent := int64(0); sent < total; sent += int64(rows) * 24 {
				if !yield(sources.Batch{Record: record}, nil) {
					return
				}
			}
		}
	}), nil
}
