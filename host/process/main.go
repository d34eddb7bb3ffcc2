package process

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"sync/atomic"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
	"github.com/penstock-data/penstock/sources/wall"
)

// mainCalled reports whether Main was called in this process.
var mainCalled atomic.Bool

// Main lets a program run its own sources in child processes, which are copies of
// the program. Call it first in main, and first in TestMain, with the Sources and
// Walls of the program's host.Options. In such a child Main serves one source and
// does not return; otherwise it returns at once.
func Main(linked map[string]sources.Open, walls ...wall.Wall) {
	mainCalled.Store(true)
	name, ok := os.LookupEnv(wall.SelfVariable)
	if !ok {
		return
	}
	// Programs that this process starts are not copies that serve a source.
	if err := os.Unsetenv(wall.SelfVariable); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	all := maps.Clone(linked)
	if all == nil {
		all = map[string]sources.Open{}
	}
	for _, w := range walls {
		if w.Name() != wall.Process {
			all[w.Name()] = openInChild(w)
		}
	}
	open := all[name]
	if open == nil {
		fmt.Fprintf(os.Stderr, "this program has no source %q to serve: pass process.Main the Sources and Walls of host.Options\n", name)
		os.Exit(1)
	}
	serve.Serve(open)
}

// openInChild returns the function that opens a module in a child process, whose
// memory is capped.
func openInChild(w wall.Wall) sources.Open {
	return func(ctx context.Context, c sources.Config) (sources.Source, error) {
		source, err := w.Open(ctx, wall.Options{Logger: slog.Default()}, c)
		// The memory that compiling or loading the module took is free again. What
		// remains is mostly the module's own bytes, which live as long as the process:
		// without a lower GC percentage the heap would grow to twice their size.
		debug.SetGCPercent(40)
		debug.FreeOSMemory()
		return source, err
	}
}
