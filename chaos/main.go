//go:build linux

// Command chaos breaks streams in every way that it knows: their sources, the walls around
// those, consumers, hosts, what is kept on disks, and exports of the command line. After
// each run it checks that the rows are those of an undisturbed stream, or that there is an
// error, and that no memory, goroutine, process, socket or file is left behind.
//
//	chaos -seed 7 -runs 1000
//
// The seed of a run determines everything but timing, so -seed N -runs 1 repeats a run
// that failed, as far as timing allows. No run fails because the machine is busy: a run
// hangs if it neither makes progress nor uses the processor, see watch.
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

// roles are what this program does as a child of its own, by the first argument: damage
// wraps a plugin, and victim embeds a host that is killed. They return the exit code.
var roles = map[string]func(args []string) int{"damage": damage, "victim": victim}

func main() {
	process.Main(linked, walls...)
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		os.Exit(roles[os.Args[1]](os.Args[2:]))
	}
	o := options{}
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the first run; each later run has the next number (default: the time)")
	flag.IntVar(&o.runs, "runs", 100, "number of runs")
	flag.IntVar(&o.orders, "orders", 4000, "number of orders in the shop")
	flag.StringVar(&o.only, "only", "", "inject only faults whose names contain this text")
	flag.BoolVar(&o.verbose, "v", false, "report each run")
	flag.DurationVar(&o.patience, "patience", 30*time.Second, "how long a run may be without progress, on a machine that does nothing else")
	flag.Parse()
	o.modules, o.postgres, o.cli = true, true, true
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if _, err := o.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}
