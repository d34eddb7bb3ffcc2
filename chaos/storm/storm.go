//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
)

type options struct {
	seed              uint64
	goroutines        int
	duration          time.Duration // of the storm in each wall
	orders            int
	only              []string // names of settings; empty means all
	modules, postgres bool
}

// patience is how long a storm may go on without one of its goroutines finishing anything.
// It is no measure of speed: it tells a hang from a slow machine.
const patience = 2 * time.Minute

// maxWait is how long a stream waits for memory. Streams that sort wait for each other's
// memory: the first one that has waited for so long fails, and so frees its own.
const maxWait = time.Second

// callTimeout is longer than patience, so that a call that hangs is found as a hang.
const callTimeout = 2 * patience

// maxFaults limits the faults that a storm reports.
const maxFaults = 10

// storm is one host while many goroutines use it.
type storm struct {
	setting setting
	host    *host.Host
	source  *host.Source
	log     *raceLog

	done    [outcomes]atomic.Int64
	pids    sync.Map   // the ids of all processes that were seen
	opening sync.Mutex // held while another source is open: in some walls it is a large process

	mu     sync.Mutex
	faults []error
}

// run makes a storm in each wall, one after the other, and reports what the streams did.
func (o options) run(ctx context.Context, out io.Writer) (err error) {
	w, err := build(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	old, had := os.LookupEnv("TMPDIR")
	if err := os.Setenv("TMPDIR", w.scratch()); err != nil { // for sockets and temporary files
		return err
	}
	defer func() {
		if had {
			_ = os.Setenv("TMPDIR", old)
		} else {
			_ = os.Unsetenv("TMPDIR")
		}
	}()
	if !raced {
		fmt.Fprintln(out, "built without the race detector: races will not be found")
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "wall\t")
	for i := range outcomes {
		fmt.Fprintf(table, "%s\t", i)
	}
	fmt.Fprintln(table, "FAULTS\t")
	var faults []error
	for i, setting := range w.settings {
		if ctx.Err() != nil {
			break
		}
		s := &storm{setting: setting, log: &raceLog{}}
		s.blow(ctx, o, o.seed+uint64(i), w.scratch())
		fmt.Fprintf(table, "%s\t", setting.name)
		for i := range s.done {
			fmt.Fprintf(table, "%d\t", s.done[i].Load())
		}
		fmt.Fprintf(table, "%d\t\n", len(s.faults))
		for _, fault := range s.faults {
			faults = append(faults, fmt.Errorf("%s: %w", setting.name, fault))
		}
	}
	_ = table.Flush()
	fmt.Fprintf(out, "%d goroutines for %s in each wall, from seed %d\n", o.goroutines, o.duration, o.seed)
	return errors.Join(faults...)
}

// fault records a defect.
func (s *storm) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) < maxFaults {
		s.faults = append(s.faults, fmt.Errorf(format, args...))
	}
}

// blow makes the storm, and checks what is left after it.
func (s *storm) blow(ctx context.Context, o options, seed uint64, scratch string) {
	before := resources()
	s.within(ctx, o, seed)
	if hung := s.hung(); hung {
		return // what is left says nothing
	}
	for _, line := range s.log.found() {
		s.fault("a child reports: %s", line)
	}
	if err := left(before, scratch, &s.pids); err != nil {
		s.fault("%w", err)
	}
	if s.done[complete].Load() == 0 {
		s.fault("no stream was complete")
	}
}

// within opens the host and the source, lets the goroutines use them, and closes them.
func (s *storm) within(ctx context.Context, o options, seed uint64) {
	s.setting.options.Logger = slog.New(s.log)
	s.setting.options.Timeouts = retry.Timeouts{Call: callTimeout, Stall: callTimeout}
	s.setting.options.Pressure = budget.Pressure{MaxWait: maxWait}
	var err error
	if s.host, err = host.New(s.setting.options); err != nil {
		s.fault("%w", err)
		return
	}
	defer func() {
		if s.hung() {
			return
		}
		if err := s.host.Close(); err != nil {
			s.fault("closing the host: %w", err)
		}
		if held := s.host.Budget().Held(); held != 0 {
			s.fault("%d bytes are still in use after the host was closed", held)
		}
	}()
	if s.source, err = s.host.Open(ctx, s.setting.uri); err != nil {
		s.fault("%w", err)
		return
	}
	ctx, stop := context.WithTimeout(ctx, o.duration)
	defer stop()
	var all sync.WaitGroup
	for i := range o.goroutines {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				s.act(rng)
			}
		})
	}
	all.Go(func() { s.watch(ctx) })
	s.await(&all)
}

// await waits for the goroutines of the storm. If none of them finishes anything for
// patience, it reports a hang, with the stacks.
func (s *storm) await(all *sync.WaitGroup) {
	ended := make(chan struct{})
	go func() {
		all.Wait()
		close(ended)
	}()
	finished := int64(-1)
	for {
		select {
		case <-ended:
			return
		case <-time.After(patience):
		}
		now := int64(0)
		for i := range s.done {
			now += s.done[i].Load()
		}
		if now == finished {
			s.fault("%w:\n%s", errHangs, stacks())
			return
		}
		finished = now
	}
}

var errHangs = errors.New("nothing has ended for a long time")

func (s *storm) hung() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.faults, func(err error) bool { return errors.Is(err, errHangs) })
}

// watch observes the host until the context ends, as a monitor does.
func (s *storm) watch(ctx context.Context) {
	for ctx.Err() == nil {
		for _, sandbox := range s.host.Sandboxes() {
			s.pids.Store(sandbox.Pid, true)
		}
		s.host.Health()
		s.host.MemoryByOwner()
		for _, r := range s.host.Streams() {
			r.Receipt()
		}
		time.Sleep(5 * time.Millisecond)
	}
}
