//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

type options struct {
	seed                   uint64
	runs, orders           int
	only                   string
	verbose                bool
	patience               time.Duration
	modules, postgres, cli bool
}

// try makes a run, checks its result, and that it leaves nothing behind.
func (p *plan) try(ctx context.Context, patience time.Duration) (o outcome) {
	var err error
	if p.dir, err = os.MkdirTemp(p.world.dir, "run"); err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	if _, err := p.world.answer(ctx, p.question); err != nil { // outside of what is watched
		return outcome{wrong: err, category: isWrong}
	}
	if err := os.Mkdir(p.scratch(), 0o777); err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	p.inventory = takeInventory()
	old, isSet := os.LookupEnv("TMPDIR")
	_ = os.Setenv("TMPDIR", p.scratch()) // for the sockets and temporary files of this run
	p.watch, p.grace = newWatch(patience), patience/3
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan outcome, 1)
	go func() {
		if p.fault.run != nil {
			done <- p.fault.run(p, ctx)
		} else {
			done <- p.readOnce(ctx)
		}
	}()
	for hangs := 0; hangs < 2; {
		select {
		case o = <-done:
			hangs = 2
		case why := <-p.watch.hung:
			if hangs++; hangs == 2 { // also after the cancellation
				o.blame(isHang, "the run hangs: %s\n%s", why, stacks())
			}
			cancel(fmt.Errorf("%w: %s", errHangs, why))
		}
	}
	cancel(nil)
	p.watch.end()
	if isSet {
		_ = os.Setenv("TMPDIR", old)
	} else {
		_ = os.Unsetenv("TMPDIR")
	}
	for _, clean := range p.cleanup {
		if err := clean(); err != nil {
			o.blame(isLeak, "%w", err)
		}
	}
	// Also after another defect: what still ends by itself would hide a leak of the next run.
	switch err := p.inventory.left(p.scratch(), p.pids, p.grace); {
	case errors.Is(err, errOrphan):
		o.blame(isOrphan, "%w", err)
	case err != nil:
		o.blame(isLeak, "%w", err)
	}
	p.inventory.killOrphans()
	if err := os.RemoveAll(p.dir); err != nil {
		o.blame(isLeak, "%w", err)
	}
	return o
}

// scratch returns the directory for temporary files. It is empty after the run.
func (p *plan) scratch() string { return filepath.Join(p.dir, "tmp") }

// tally counts the results of the runs of one fault.
type tally struct {
	runs, whole, recovered, honest, left, hits int
	defects                                    map[string]int // by category
}

func (t *tally) add(o outcome) {
	t.runs++
	t.hits += o.hits
	switch {
	case o.wrong != nil:
		t.defects[o.category]++
	case o.whole && o.retries > 0:
		t.recovered++
	case o.whole:
		t.whole++
	case o.err != nil:
		t.honest++
	default:
		t.left++
	}
}

// run makes the runs one after the other and reports their results. Its error lists the
// runs that found a defect, with their seeds.
func (o options) run(ctx context.Context, out io.Writer) (tallies map[string]*tally, err error) {
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	w, err := build(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	tallies = map[string]*tally{"all": {defects: map[string]int{}}}
	var names []string
	var bad []error
	started := time.Now()
	for i := range o.runs {
		if ctx.Err() != nil {
			break
		}
		p, err := w.draw(o.seed+uint64(i), o.only)
		if err != nil {
			return tallies, err
		}
		begun := time.Now()
		result := p.try(ctx, o.patience)
		if tallies[p.fault.name] == nil {
			tallies[p.fault.name] = &tally{defects: map[string]int{}}
			names = append(names, p.fault.name)
		}
		tallies[p.fault.name].add(result)
		tallies["all"].add(result)
		if result.wrong != nil {
			bad = append(bad, fmt.Errorf("%s: %w", p, result.wrong))
			fmt.Fprintf(out, "%s %s: %v\n", result.category, p, result.wrong)
		}
		if o.verbose {
			fmt.Fprintf(out, "%s: complete %t, %d retries, error %v, %s\n", p, result.whole, result.retries, result.err, time.Since(begun).Round(time.Millisecond))
			for _, f := range result.faults {
				fmt.Fprintf(out, "  %s %s: %s\n", f.At.Round(time.Millisecond), f.Kind, f.Text)
			}
		}
	}
	slices.Sort(names)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "fault\truns\tcomplete\trecovered\tfailed\tleft\tkept\tWRONG\tLEAKS\tORPHANS\tHANGS\t")
	for _, name := range append(names, "all") {
		t := tallies[name]
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, t.runs, t.whole, t.recovered, t.honest, t.left, t.hits,
			t.defects[isWrong], t.defects[isLeak], t.defects[isOrphan], t.defects[isHang])
	}
	_ = table.Flush()
	fmt.Fprintf(out, "%d runs from seed %d in %s\n", tallies["all"].runs, o.seed, time.Since(started).Round(time.Second))
	return tallies, errors.Join(bad...)
}
