// Command cache measures what the query cache saves and costs: a report read from
// PostgreSQL compared with the same report from the cache, small hits by one and by
// two goroutines, the memory that an entry takes in addition to its rows, and the hit
// rates of a seeded workload, compared with a plain LRU, ristretto and otter.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/bench/shop"
	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
)

var (
	runs   = flag.Int("runs", 9, "runs of the report, alternating between the server and the cache")
	orders = flag.Int("orders", 400_000, "orders in the shop; the report reads 100,000 of them")
	only   = flag.String("only", "", "run only this part: server, memory or rates (default: all)")
)

func main() {
	flag.Parse()
	ctx := context.Background()
	var err error
	if *only == "" || *only == "server" {
		err = server(ctx)
	}
	if err == nil && (*only == "" || *only == "memory") {
		err = bookkeeping(ctx)
	}
	if err == nil && (*only == "" || *only == "rates") {
		err = rates()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// one is the time that a stream took, and its receipt.
type one struct {
	first, last time.Duration
	receipt     core.Receipt
}

func read(ctx context.Context, source *host.Source, q core.Query, o core.Options) (one, error) {
	var r one
	started := time.Now()
	stream, err := source.Stream(ctx, q, o)
	if err != nil {
		return r, err
	}
	for _, err := range stream.Chunks() {
		if err != nil {
			return r, err
		}
		if r.first == 0 {
			r.first = time.Since(started)
		}
	}
	r.last = time.Since(started)
	r.receipt = stream.Receipt()
	if !r.receipt.Complete {
		return r, errors.New("the stream is not complete")
	}
	return r, nil
}

func server(ctx context.Context) error {
	env, cleanup, err := shop.Serve(ctx, *orders)
	if cleanup != nil {
		defer cleanup()
	}
	if err != nil {
		return err
	}
	uri := env[0][len("PENSTOCK_BENCH_URI="):]
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"postgres": postgres.Open}, Cache: &host.Cache{TTL: time.Hour}})
	if err != nil {
		return err
	}
	defer h.Close()
	source, err := h.Open(ctx, uri)
	if err != nil {
		return err
	}
	report := core.Query{Table: "orders", OrderBy: []sources.Sort{{Column: "freight", Desc: true}, {Column: "id"}}, Limit: 100_000}
	bypass, use := core.Options{}, core.Options{}
	bypass.Caching.Mode = cache.ModeBypass
	if _, err := read(ctx, source, report, use); err != nil { // fills the cache, and the server's
		return err
	}
	var asked, found []one
	for range *runs {
		for _, c := range []struct {
			o    core.Options
			to   *[]one
			want string
		}{{bypass, &asked, cache.Bypassed}, {use, &found, cache.Hit}} {
			runtime.GC()
			r, err := read(ctx, source, report, c.o)
			if err != nil {
				return err
			}
			if r.receipt.Cache != c.want || r.receipt.Rows != 100_000 {
				return fmt.Errorf("a %s of %d rows, want a %s", r.receipt.Cache, r.receipt.Rows, c.want)
			}
			*c.to = append(*c.to, r)
		}
	}
	fmt.Printf("\nA report of 100,000 rows (orders by freight, %s): %d alternating runs, median (minimum to maximum)\n\n", budget.FormatBytes(found[0].receipt.Bytes), *runs)
	fmt.Println("| | server | cache hit | times faster, run by run |\n|---|--:|--:|--:|")
	for _, c := range []struct {
		name string
		of   func(one) time.Duration
	}{{"to the first chunk", func(r one) time.Duration { return r.first }}, {"to the last chunk", func(r one) time.Duration { return r.last }}} {
		var ratios []float64
		for i := range asked {
			ratios = append(ratios, float64(c.of(asked[i]))/float64(c.of(found[i])))
		}
		fmt.Printf("| %s | %s | %s | %s |\n", c.name, spread(times(asked, c.of)), spread(times(found, c.of)), spreadOf(ratios, "%.0f"))
	}
	for i := range asked {
		if asked[i].receipt.Digest != found[0].receipt.Digest {
			return errors.New("the digests differ")
		}
	}
	fmt.Printf("\ndigest of all runs %s; a stream with a hit held at most %s\n", found[0].receipt.Digest.Ordered(), budget.FormatBytes(found[0].receipt.PeakBytes))

	small := core.Query{Table: "orders", Limit: 100}
	r, err := read(ctx, source, small, use)
	if err != nil {
		return err
	}
	fmt.Printf("\nA query of 100 rows (%d columns): from the server in %s\n\n", len(columnsOf(ctx, source)), r.last.Round(time.Microsecond))
	for _, goroutines := range []int{1, 2} {
		const each = 20_000
		var latencies [2][]time.Duration
		var all sync.WaitGroup
		var fault error
		started := time.Now()
		for g := range goroutines {
			all.Go(func() {
				for range each {
					r, err := read(ctx, source, small, use)
					if err != nil || r.receipt.Cache != cache.Hit {
						fault = fmt.Errorf("%s: %w", r.receipt.Cache, err)
						return
					}
					latencies[g] = append(latencies[g], r.last)
				}
			})
		}
		all.Wait()
		took := time.Since(started)
		if fault != nil {
			return fault
		}
		l := slices.Concat(latencies[0], latencies[1])
		slices.Sort(l)
		fmt.Printf("%d goroutines: median %s, 99 %% below %s, %.0f hits/s\n", goroutines, l[len(l)/2], l[len(l)*99/100], float64(len(l))/took.Seconds())
	}
	return nil
}

func columnsOf(ctx context.Context, source *host.Source) []string {
	catalog, err := source.Catalog(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range catalog.Table("orders").Schema.Fields() {
		names = append(names, f.Name)
	}
	return names
}

func times(all []one, of func(one) time.Duration) []time.Duration {
	var out []time.Duration
	for _, r := range all {
		out = append(out, of(r))
	}
	return out
}

func spread(all []time.Duration) string {
	slices.Sort(all)
	return fmt.Sprintf("%s (%s to %s)", short(all[len(all)/2]), short(all[0]), short(all[len(all)-1]))
}

func short(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(100 * time.Nanosecond)
}

func spreadOf(all []float64, form string) string {
	slices.Sort(all)
	return fmt.Sprintf(form+" ("+form+" to "+form+")", all[len(all)/2], all[0], all[len(all)-1])
}
