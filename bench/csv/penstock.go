package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// memoryLimit is the memory limit of each of Penstock's contestants, in bytes.
const memoryLimit = 64 << 20

// scan reads the source on the given number of cores without the engine, like the other
// CSV readers.
func scan(cores int, ask func(q *sources.Query)) func(ctx context.Context) (trial.Outcome, error) {
	return func(ctx context.Context) (out trial.Outcome, err error) {
		runtime.GOMAXPROCS(cores)
		source, err := csv.Open(ctx, sources.Config{URI: os.Getenv(dirVariable)})
		if err != nil {
			return out, err
		}
		budget, err := budget.New("bench", memoryLimit, nil)
		if err != nil {
			return out, err
		}
		session, err := source.Begin(ctx, sources.Env{Mem: budget, MaxScans: cores})
		if err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, session.Close(), source.Close()) }()
		started := time.Now()
		q := &sources.Query{Table: "sales"}
		ask(q)
		plan, err := session.Plan(ctx, q)
		if err != nil {
			return out, err
		}
		parts := make(chan sources.Part, len(plan.Parts)+1)
		if cores == 1 {
			parts <- nil
		} else {
			for _, p := range plan.Parts {
				parts <- p
			}
		}
		close(parts)
		var mu sync.Mutex
		var group sync.WaitGroup
		var sum int64
		for range cores {
			group.Go(func() {
				for part := range parts {
					p := *q
					p.Part = part
					rows, part, fault := drain(session.Scan(ctx, &p))
					mu.Lock()
					out.Rows, sum, err = out.Rows+rows, sum+part, errors.Join(err, fault)
					mu.Unlock()
				}
			})
		}
		group.Wait()
		out.Wall, out.Checksum = time.Since(started), fmt.Sprint(sum)
		return out, err
	}
}

func drain(batches sources.Batches) (rows, sum int64, err error) {
	for batch, err := range batches {
		if err != nil {
			return rows, sum, err
		}
		rows += batch.Record.NumRows()
		sum += record(batch.Record)
	}
	return rows, sum, nil
}

// stream reads with the engine behind a wall, with the given options beside the memory
// limit and the size of chunks.
func stream(wall host.Isolation, options core.Options) func(ctx context.Context) (trial.Outcome, error) {
	return func(ctx context.Context) (out trial.Outcome, err error) {
		o := host.Options{Sources: linked, Walls: walls, Isolation: wall}
		if wall == host.Module {
			o.PluginPath, o.Sources = []string{filepath.Dir(os.Getenv(moduleVariable))}, nil
		}
		h, err := host.New(o)
		if err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, h.Close()) }()
		source, err := h.Open(ctx, "csv:"+os.Getenv(dirVariable))
		if err != nil {
			return out, err
		}
		if _, err := source.Catalog(ctx); err != nil {
			return out, err
		}
		started := time.Now()
		options.Memory, options.ChunkRows = memoryLimit, 16<<10
		s, err := source.Stream(ctx, core.Query{Table: "sales"}, options)
		if err != nil {
			return out, err
		}
		var sum int64
		for chunk, err := range s.Chunks() {
			if err != nil {
				return out, err
			}
			out.Rows += chunk.Record.NumRows()
			sum += record(chunk.Record)
		}
		out.Wall, out.Checksum = time.Since(started), fmt.Sprint(sum)
		return out, s.Close()
	}
}

func record(r arrow.RecordBatch) (sum int64) {
	for _, c := range r.Columns() {
		sum += total(c)
	}
	return sum
}

// total returns the sum of a column. Every contestant visits every value this way.
func total(c arrow.Array) (sum int64) {
	switch c := c.(type) {
	case *array.Int64:
		for i, v := range c.Int64Values() {
			if c.IsValid(i) {
				sum += v
			}
		}
	case *array.Decimal128:
		for i, v := range c.Values() {
			if c.IsValid(i) {
				sum += int64(v.LowBits())
			}
		}
	case *array.String:
		for i := range c.Len() {
			if c.IsValid(i) {
				sum += int64(c.ValueLen(i))
			}
		}
	case *array.Timestamp:
		for i, v := range c.TimestampValues() {
			if c.IsValid(i) {
				sum += int64(v)
			}
		}
	case *array.Date32:
		for i, v := range c.Date32Values() {
			if c.IsValid(i) {
				sum += int64(v)
			}
		}
	}
	return sum
}
