package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/penstock-data/penstock/bench/shop"
	"github.com/penstock-data/penstock/bench/trial"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

func penstock(ctx context.Context) (trial.Outcome, error) {
	if *skewed {
		return stream(ctx, "customers", "orders.order_lines")
	}
	return stream(ctx, "orders", "customer,order_lines.product")
}

// penstockTwo reads orders with only two relations.
func penstockTwo(ctx context.Context) (trial.Outcome, error) {
	return stream(ctx, "orders", "customer,order_lines")
}

// opened opens the source, loads its catalog and calls use, so that use measures a
// program that has been running.
func opened(ctx context.Context, use func(*host.Source) error) error {
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: host.Isolation(*isolate)})
	if err != nil {
		return err
	}
	uri := shop.URI()
	if *source == "csv" {
		uri = "csv:" + os.Getenv(dirVariable)
	}
	s, err := h.Open(ctx, uri)
	if err == nil {
		if _, err = s.Catalog(ctx); err == nil {
			err = use(s)
		}
	}
	return errors.Join(err, h.Close())
}

// stream reads the nested rows, and visits every value.
func stream(ctx context.Context, table, load string) (out trial.Outcome, err error) {
	branches, err := query.ParseLoad(load)
	if err != nil {
		return out, err
	}
	q := core.Query{Table: table, Load: query.Load{Required: branches}}
	if *percent < 100 {
		q.Where = sources.Comparison{Column: "freight", Op: sources.OpLt, Value: sources.Decimal(decimal128.FromI64(int64(*percent)*200), 2)}
	}
	err = opened(ctx, func(s *host.Source) error {
		started := time.Now()
		stream, err := s.Stream(ctx, q, core.Options{Memory: *memory, ChunkRows: int64(*chunk), ReadAhead: true})
		if err != nil {
			return err
		}
		var sum int64
		for chunk, err := range stream.Chunks() {
			if err != nil {
				return err
			}
			if out.Rows == 0 {
				out.First = time.Since(started)
			}
			out.Rows += chunk.Record.NumRows()
			for _, c := range chunk.Record.Columns() {
				sum += total(c)
			}
		}
		out.Wall, out.Checksum = time.Since(started), fmt.Sprint(sum)
		receipt := stream.Receipt()
		out.Extra = map[string]float64{"queries": float64(1 + receipt.Lookups), "held MiB": float64(receipt.PeakBytes) / (1 << 20)}
		return stream.Close()
	})
	return out, err
}

// scanFiles reads the four tables one after the other, and counts the orders.
func scanFiles(ctx context.Context) (out trial.Outcome, err error) {
	err = opened(ctx, func(s *host.Source) error {
		started := time.Now()
		for _, table := range []string{"orders", "customers", "order_lines", "products"} {
			stream, err := s.Stream(ctx, core.Query{Table: table}, core.Options{Memory: *memory, ChunkRows: int64(*chunk), ReadAhead: true})
			if err != nil {
				return err
			}
			var sum int64
			for chunk, err := range stream.Chunks() {
				if err != nil {
					return err
				}
				for _, c := range chunk.Record.Columns() {
					sum += total(c)
				}
			}
			if table == "orders" {
				out.Rows = stream.Receipt().Rows
			}
			if err := stream.Close(); err != nil {
				return err
			}
		}
		out.Wall = time.Since(started)
		return nil
	})
	return out, err
}

// total returns the sum of a column: of integers, unscaled decimals and lengths of
// texts. Every contestant visits every value this way.
func total(c arrow.Array) int64 {
	var sum int64
	switch c := c.(type) {
	case *array.Struct:
		for i := range c.NumField() {
			sum += total(c.Field(i)) // the fields of a NULL struct are NULL or zero
		}
	case *array.List:
		if c.Len() == 0 {
			return 0
		}
		from, _ := c.ValueOffsets(0)
		_, to := c.ValueOffsets(c.Len() - 1)
		rows := array.NewSlice(c.ListValues(), from, to)
		defer rows.Release()
		return total(rows)
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
	}
	return sum
}
