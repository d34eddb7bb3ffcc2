//go:build linux

// Command storm opens, reads, pauses, cancels and closes streams of one host from many
// goroutines at once, through each wall in turn: within the program, in processes, in an
// executable, and as a WebAssembly module here and in a child process. Build it with the
// race detector: the processes that it starts then have it, too.
//
//	go build -race -o bin/storm ./chaos/storm && bin/storm -for 60s
//
// It fails if a stream yields wrong rows or an error that nothing caused, if the race
// detector reports a race here or in a child, and if memory, a goroutine, a process, an
// open file or a temporary file is left behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/wasm"
)

var linked = map[string]sources.Open{"csv": csv.Open, "postgres": postgres.Open}

var walls = []wall.Wall{process.Wall(), wasm.Wall()}

func main() {
	process.Main(linked, walls...)
	if len(os.Args) == 4 && os.Args[1] == "precompile" {
		if err := precompile(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "storm:", err)
			os.Exit(1)
		}
		return
	}
	o := options{}
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of what the goroutines do; timing is not determined by it (default: the time)")
	flag.IntVar(&o.goroutines, "goroutines", 50, "number of goroutines")
	flag.DurationVar(&o.duration, "for", time.Minute, "duration in each wall")
	flag.IntVar(&o.orders, "orders", 2000, "number of orders in the shop")
	only := flag.String("walls", "", "the walls to use, separated by commas (default: all)")
	flag.Parse()
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	o.modules, o.postgres = true, true
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
}

// precompile compiles a module into a cache directory.
func precompile(module, cache string) error {
	return wasm.Precompile(context.Background(), wasm.Options{Path: module, CacheDir: cache})
}
