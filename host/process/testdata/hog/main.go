//go:build unix

// Command hog is a source that allocates memory at a given rate, so that tests can
// watch it being stopped. Its table "hog" yields two rows and then allocates rate
// bytes per second, for ever or until it has allocated as many as the option until.
// Its table "modest" only yields ten rows. With the option at=open, the source
// allocates before it is open.
//
// The option child names a kind of child process; see children_linux.go. With
// childat=open it is started before the source is open, and otherwise by the table "hog"
// instead of allocating memory; the table then waits for ever.
package main

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sys/unix"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
)

func main() {
	actAsChild()
	serve.Serve(open)
}

var schema = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

func open(_ context.Context, c sources.Config) (sources.Source, error) {
	rate, err := strconv.ParseFloat(c.Options["rate"], 64)
	if err != nil {
		return nil, sources.Errorf(sources.Invalid, "", "", "rate: %w", err)
	}
	until := math.Inf(1)
	if text, ok := c.Options["until"]; ok {
		if until, err = strconv.ParseFloat(text, 64); err != nil {
			return nil, sources.Errorf(sources.Invalid, "", "", "until: %w", err)
		}
	}
	if c.Options["at"] == "open" {
		if err := hog(rate, until); err != nil || math.IsInf(until, 1) {
			return nil, err
		}
	}
	child := c.Options["child"]
	if c.Options["childat"] == "open" {
		if err := startChild(child, c.Options); err != nil {
			return nil, err
		}
		child = ""
	}
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "hog", Schema: schema, Rows: -1}, {Name: "modest", Schema: schema, Rows: 10}}}
	return sources.Simple(catalog, func(ctx context.Context, env sources.Env, q *sources.Query) sources.Batches {
		pages := sources.Env{Mem: env.Mem, Page: sources.Limits{Bytes: env.Page.Bytes, Rows: 1}}
		return sources.FromRows(pages, schema, func(yield func(sources.Row, error) bool) {
			for n := range 10 {
				if n == 2 && q.Table == "hog" && child != "" {
					if err := startChild(child, c.Options); err != nil {
						yield(sources.Row{}, err)
						return
					}
					<-ctx.Done()
				}
				if n == 2 && q.Table == "hog" {
					if err := hog(rate, until); err != nil {
						yield(sources.Row{}, err)
						return
					}
				}
				if !yield(sources.Row{Values: []any{n}}, nil) {
					return
				}
			}
		})
	}), nil
}

// hog allocates memory and keeps it.
func hog(rate, until float64) error {
	const piece = 2 << 20
	taken, began := 0.0, time.Now()
	for taken < until {
		if due := rate * time.Since(began).Seconds(); taken > due {
			time.Sleep(time.Duration((taken - due) / rate * float64(time.Second)))
		}
		b, err := unix.Mmap(-1, 0, piece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		hurry(b)
		for i := 0; i < piece; i += 4096 {
			b[i] = 1
		}
		taken += piece
	}
	return nil
}
