// Command streams compares many concurrent streams, under the budget of one host, with
// the same streams one after another: in-process, and with a source in one process that
// all streams share.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

var (
	streams = flag.Int("streams", 200, "number of streams")
	rows    = flag.Int("rows", 50_000, "rows that each stream reads")
	memory  = flag.Int64("memory", 512, "the host's budget, in MiB")
)

var linked = map[string]sources.Open{"csv": csv.Open}

var walls = []wall.Wall{process.Wall()}

const fileVariable = "PENSTOCK_BENCH_STREAMS"

func main() {
	process.Main(linked, walls...)
	trial.Main("many streams at once", []trial.Contestant{
		{Name: "inproc-in-turn", Run: reads(host.InProcess, false)},
		{Name: "inproc-at-once", Run: reads(host.InProcess, true)},
		{Name: "process-in-turn", Run: reads(host.Process, false)},
		{Name: "process-at-once", Run: reads(host.Process, true)},
	}, setup)
}

// setup writes the file that every stream reads.
func setup(context.Context) (env []string, cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "penstock-streams-")
	if err != nil {
		return nil, nil, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	path := filepath.Join(dir, "lines.csv")
	f, err := os.Create(path)
	if err != nil {
		return nil, cleanup, err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "order_id,line,product_id,quantity,price,shipped")
	for i := range *rows {
		fmt.Fprintf(w, "%d,%d,%d,%d,%d.%02d,2026-02-%02d\n", i/4+1, i%4+1, i*7919%20000+1, i%9+1, i%1000, i%100, i%28+1)
	}
	return []string{fileVariable + "=" + path}, cleanup, errors.Join(w.Flush(), f.Close())
}

// reads returns a contestant that opens one host and one source, and reads the file with
// every stream.
func reads(isolation host.Isolation, atOnce bool) func(ctx context.Context) (trial.Outcome, error) {
	return func(ctx context.Context) (out trial.Outcome, err error) {
		h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: isolation, Memory: *memory << 20, Sandboxes: host.SandboxOptions{Share: true}})
		if err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, h.Close()) }()
		source, err := h.Open(ctx, "csv:"+os.Getenv(fileVariable))
		if err != nil {
			return out, err
		}
		if _, err := source.Catalog(ctx); err != nil {
			return out, err
		}
		began := time.Now()
		receipts := make([]core.Receipt, *streams)
		faults := make([]error, *streams)
		var wait sync.WaitGroup
		for i := range *streams {
			one := func() { receipts[i], faults[i] = read(ctx, source) }
			if atOnce {
				wait.Go(one)
			} else {
				one()
			}
		}
		wait.Wait()
		out.Wall = time.Since(began)
		for i, r := range receipts {
			if faults[i] != nil {
				return out, faults[i]
			}
			if !r.Complete || r.Digest != receipts[0].Digest {
				return out, fmt.Errorf("stream %d: %+v", i, r)
			}
			out.Rows += r.Rows
		}
		out.Checksum = receipts[0].Digest.Ordered()
		return out, nil
	}
}

func read(ctx context.Context, source *host.Source) (core.Receipt, error) {
	stream, err := source.Stream(ctx, core.Query{Table: "lines"}, core.Options{Memory: 8 << 20})
	if err != nil {
		return core.Receipt{}, err
	}
	for _, err := range stream.Chunks() {
		if err != nil {
			return core.Receipt{}, err
		}
	}
	return stream.Receipt(), nil
}
