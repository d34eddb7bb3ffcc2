package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/bench/shop"
	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

func inProcess(ctx context.Context) (trial.Outcome, error) {
	return read(ctx, host.InProcess, core.Query{Table: *table}, core.Options{})
}

func behindTheWall(ctx context.Context) (trial.Outcome, error) {
	return read(ctx, host.Process, core.Query{Table: *table}, core.Options{})
}

func ordered(ctx context.Context) (trial.Outcome, error) {
	order := []sources.Sort{{Column: "id"}}
	if *table == "order_lines" {
		order = []sources.Sort{{Column: "order_id"}, {Column: "line"}}
	}
	return read(ctx, host.InProcess, core.Query{Table: *table, OrderBy: order}, core.Options{})
}

// parts reads several partitions at once, each over a connection of its own, and takes
// the rows as they arrive.
func parts(n int) func(context.Context) (trial.Outcome, error) {
	return func(ctx context.Context) (trial.Outcome, error) {
		return read(ctx, host.InProcess, core.Query{Table: *table}, core.Options{Parallel: n, Unordered: true})
	}
}

// read reads a stream with enough memory, and otherwise with the given options. The clock
// starts after the catalog is loaded, as in a program that has been running.
func read(ctx context.Context, wall host.Isolation, q core.Query, o core.Options) (trial.Outcome, error) {
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: wall})
	if err != nil {
		return trial.Outcome{}, err
	}
	source, err := h.Open(ctx, shop.URI())
	if err != nil {
		return trial.Outcome{}, errors.Join(err, h.Close())
	}
	o.Memory = 64 << 20
	out, err := stream(ctx, source, q, o)
	return out, errors.Join(err, h.Close())
}

func stream(ctx context.Context, source *host.Source, q core.Query, o core.Options) (out trial.Outcome, err error) {
	if _, err := source.Catalog(ctx); err != nil {
		return out, err
	}
	started := time.Now()
	s, err := source.Stream(ctx, q, o)
	if err != nil {
		return out, err
	}
	var sum int64
	for chunk, err := range s.Chunks() {
		if err != nil {
			return out, err
		}
		if out.Rows == 0 {
			out.First = time.Since(started)
		}
		out.Rows += chunk.Record.NumRows()
		for _, c := range chunk.Record.Columns() {
			sum += total(c)
		}
	}
	out.Wall = time.Since(started)
	out.Checksum = fmt.Sprint(sum)
	out.Extra = map[string]float64{"held MiB": float64(s.Receipt().PeakBytes) / (1 << 20)}
	return out, s.Close()
}

// total returns the sum of a column. Every contestant visits every value this way.
func total(c arrow.Array) int64 {
	var sum int64
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
	case *array.Boolean:
		for i := range c.Len() {
			if c.Value(i) && c.IsValid(i) {
				sum++
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
