//go:build linux

// Command chaos breaks streams in every way that it knows. After each run it checks that
// the stream has yielded the same rows as an undisturbed one, or failed with an error,
// and that no memory, goroutine, process, socket or file is left behind.
//
//	chaos -seed 7 -runs 1000
//
// The seed of a run determines everything but timing, so -seed N -runs 1 repeats a run
// that failed, as far as timing allows.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/penstock-data/penstock/host/process"
)

func main() {
	process.Main(linked, walls...)
	if len(os.Args) > 1 && os.Args[1] == "damage" { // this process wraps a plugin
		os.Exit(damage(os.Args[2:]))
	}
	o := options{}
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the first run; each later run has the next number (default: the time)")
	flag.IntVar(&o.runs, "runs", 100, "number of runs")
	flag.IntVar(&o.orders, "orders", 4000, "number of orders in the shop")
	flag.StringVar(&o.only, "only", "", "inject only this fault")
	flag.BoolVar(&o.verbose, "v", false, "report each run")
	flag.DurationVar(&o.patience, "patience", time.Minute, "maximum duration of a run")
	flag.Parse()
	o.modules, o.postgres, o.cli = true, true, true
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}
