//go:build linux

// Command isolate measures by how much a plugin exceeds its memory cap before it is
// killed. Runs alternate between a plugin that allocates 200 MB a second and one that
// allocates 2 GB a second. The memory of a plugin is the peak that the kernel reports,
// without shared files.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

var (
	runs  = flag.Int("runs", 100, "runs of each plugin")
	limit = flag.Int64("cap", 256, "memory cap of each plugin, in MiB")
)

// figures are the results of one plugin's runs.
type figures struct {
	rate string
	over []float64 // percent of the cap
	took []float64 // GB per second, from the first row to the end
}

func main() {
	flag.Parse()
	if err := measure(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func measure(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "isolate-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	hog := filepath.Join(dir, "hog")
	build := exec.CommandContext(ctx, "go", "build", "-o", hog, "github.com/penstock-data/penstock/host/process/testdata/hog")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	all := []*figures{{rate: "200e6"}, {rate: "2e9"}}
	for i := range *runs {
		for _, f := range all {
			if err := one(ctx, hog, f); err != nil {
				return fmt.Errorf("run %d at %s: %w", i+1, f.rate, err)
			}
		}
		fmt.Fprintf(os.Stderr, "\rrun %d of %d", i+1, *runs)
	}
	fmt.Fprintln(os.Stderr)
	fmt.Printf("by how much a plugin exceeds its cap of %d MiB before it is killed, in %d runs\n\n", *limit, *runs)
	fmt.Print("| requested bytes/s | reached GB/s | median overshoot | 90 % below | maximum |\n|--:|--:|--:|--:|--:|\n")
	for _, f := range all {
		slices.Sort(f.over)
		slices.Sort(f.took)
		n := len(f.over)
		fmt.Printf("| %s | %.2f | %.2f %% | %.2f %% | %.2f %% |\n", f.rate, f.took[n/2], f.over[n/2], f.over[n*9/10], f.over[n-1])
	}
	return nil
}

// one lets a plugin allocate memory until it is killed. Then it reads the source again,
// because the next session must work.
func one(ctx context.Context, hog string, f *figures) error {
	bytes := *limit << 20
	source, err := process.Open(ctx, wall.Options{Command: []string{hog}, Memory: bytes}, sources.Config{Options: map[string]string{"rate": f.rate}})
	if err != nil {
		return err
	}
	session, err := source.Begin(ctx, sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		return errors.Join(err, source.Close())
	}
	var began time.Time
	var excess *process.Excess
	for _, err := range session.Scan(ctx, &sources.Query{Table: "hog"}) {
		if began.IsZero() {
			began = time.Now()
		}
		if err != nil && !errors.As(err, &excess) {
			return errors.Join(err, session.Close(), source.Close())
		}
	}
	if excess == nil {
		return errors.Join(errors.New("the plugin was not killed"), session.Close(), source.Close())
	}
	took := time.Since(began)
	_, peak, _ := session.(interface {
		SandboxMemory() (held, peak, limit int64)
	}).SandboxMemory()
	f.over = append(f.over, 100*float64(peak-bytes)/float64(bytes))
	f.took = append(f.took, float64(peak)/1e9/took.Seconds())
	next, err := source.Begin(ctx, sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		return errors.Join(err, session.Close(), source.Close())
	}
	rows := int64(0)
	for batch, err := range next.Scan(ctx, &sources.Query{Table: "modest"}) {
		if err != nil {
			return errors.Join(err, next.Close(), session.Close(), source.Close())
		}
		rows += batch.Record.NumRows()
	}
	if rows != 10 {
		return fmt.Errorf("the next session read %d rows, want 10", rows)
	}
	return errors.Join(next.Close(), session.Close(), source.Close())
}
