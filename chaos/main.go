//go:build linux

// Command chaos breaks streams in every way that it knows, and holds what comes
// out against the truth: the same checksum, or an error that says so; nothing
// held, no goroutine, process, socket or file left.
//
//	chaos -seed 7 -runs 1000
//
// A run is a function of its seed: -seed N -runs 1 repeats one that failed, as far
// as the machine's own timing lets it.
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
	if len(os.Args) > 1 && os.Args[1] == "damage" { // this program as a wrapper of a plugin
		os.Exit(damage(os.Args[2:]))
	}
	o := options{}
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "the first run's; each further one has the next number")
	flag.IntVar(&o.runs, "runs", 100, "how many runs")
	flag.IntVar(&o.orders, "orders", 4000, "how many orders the shop has")
	flag.StringVar(&o.only, "only", "", "the only fault to try")
	flag.BoolVar(&o.verbose, "v", false, "tell of each run")
	flag.DurationVar(&o.patience, "patience", time.Minute, "how long a run may take")
	flag.Parse()
	o.modules, o.postgres, o.cli = true, true, true
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}
