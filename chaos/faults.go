//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// fault is one way to break a stream.
type fault struct {
	name string
	on   func(p *plan) bool // reports whether the fault applies to a run
	// begin prepares the run: the options of its host and the URI of its source. It adds
	// what must be closed after the run to the plan's cleanup.
	begin func(p *plan) error
	// chunk is called at some of the chunks, while the consumer has the chunk.
	chunk func(p *plan, ctx context.Context, source *host.Source) error
}

func processes(p *plan) bool { return p.wall != host.InProcess }
func inProcess(p *plan) bool { return p.wall == host.InProcess }
func database(p *plan) bool  { return p.question.source == "postgres" }
func anywhere(*plan) bool    { return true }

var faults = []fault{
	{name: "nothing", on: anywhere},
	{name: "kill", on: processes, chunk: func(p *plan, _ context.Context, s *host.Source) error { return p.signal(s, syscall.SIGKILL) }},
	{name: "crash", on: processes, chunk: func(p *plan, _ context.Context, s *host.Source) error { return p.signal(s, syscall.SIGSEGV) }},
	{name: "stop", on: processes, chunk: func(p *plan, _ context.Context, s *host.Source) error { return p.signal(s, syscall.SIGSTOP) }},
	{name: "unavailable", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source {
		return flaky(s, p.rng, func(yield func(sources.Batch, error) bool) {
			yield(sources.Batch{}, sources.NewError(sources.Unavailable, "", "", errChaos))
		})
	})},
	{name: "error", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source {
		return testkit.FailAfter(s, p.rng.IntN(6), sources.NewError(sources.Internal, "", "", errChaos))
	})},
	{name: "panic", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source { return testkit.PanicAfter(s, p.rng.IntN(6)) })},
	{name: "hang", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source {
		return flakyHang(s, p.rng)
	})},
	{name: "slow", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source {
		return testkit.DelayEach(s, time.Duration(p.rng.IntN(3000))*time.Microsecond)
	})},
	{name: "terminate", on: database, chunk: func(p *plan, ctx context.Context, _ *host.Source) error {
		_, err := p.world.terminate(ctx)
		return err
	}},
	{name: "cut connections", on: database, begin: func(p *plan) error {
		rng := rand.New(rand.NewPCG(p.seed, 1))
		proxy, uri, err := p.world.proxied(func(connection int) testkit.Damage {
			if connection > 6 { // otherwise no connection would ever succeed
				return testkit.Damage{}
			}
			return testkit.Damage{After: rng.Int64N(1 << (13 + rng.IntN(9))), Cut: true}
		})
		if err != nil {
			return err
		}
		p.uri, p.cleanup = uri, append(p.cleanup, proxy.Close)
		return nil
	}},
	{name: "corrupt frames", on: wrappable, begin: damaging(func(p *plan) string { return fmt.Sprint(1 + p.rng.IntN(255)) })},
	{name: "truncated frames", on: wrappable, begin: damaging(func(*plan) string { return "cut" })},
	{name: "consumer stalls", on: anywhere, chunk: func(p *plan, _ context.Context, _ *host.Source) error {
		time.Sleep(time.Duration(p.rng.IntN(400)) * time.Millisecond)
		return nil
	}},
	{name: "consumer breaks", on: anywhere, chunk: func(*plan, context.Context, *host.Source) error { return errLeave }},
	{name: "consumer panics", on: anywhere, chunk: func(*plan, context.Context, *host.Source) error { panic(errLeave) }},
	{name: "canceled", on: anywhere, chunk: func(p *plan, _ context.Context, _ *host.Source) error {
		p.cancel()
		return nil
	}},
	{name: "little memory", on: anywhere, begin: func(p *plan) error {
		p.memory = 16<<10 + p.rng.Int64N(1<<20)
		return nil
	}},
	{name: "disk full", on: func(p *plan) bool { return p.world.penstock != "" && p.wall == host.Process }},
}

// wrappable reports whether the plugin of a run is an executable that a wrapper can
// start.
func wrappable(p *plan) bool { return p.wall == host.Process && p.question.source == "csv" }

// signal sends a signal to the processes that have sessions.
func (p *plan) signal(s *host.Source, signal syscall.Signal) error {
	for _, i := range s.Sandboxes() {
		if i.Sessions > 0 {
			if err := syscall.Kill(i.Pid, signal); err != nil && err != syscall.ESRCH {
				return err
			}
		}
	}
	return nil
}

// wrap returns a begin function that applies change to the run's linked sources.
func wrap(change func(*plan, sources.Source) sources.Source) func(*plan) error {
	return func(p *plan) error {
		for name, open := range linked {
			p.linked[name] = func(ctx context.Context, c sources.Config) (sources.Source, error) {
				s, err := open(ctx, c)
				if err != nil {
					return nil, err
				}
				return change(p, s), nil
			}
		}
		return nil
	}
}

// flaky returns a source some of whose scans call end after a few pages, instead of
// yielding the rest. The choices come from rng.
func flaky(s sources.Source, rng *rand.Rand, end func(yield func(sources.Batch, error) bool)) sources.Source {
	plan := choices(rng)
	return testkit.Wrap(s, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			left := plan()
			for page, err := range scan {
				if left == 0 {
					end(yield)
					return
				}
				left--
				if !yield(page, err) {
					return
				}
			}
		}
	})
}

// flakyHang returns a source some of whose scans hang after a few pages, until their
// context ends.
func flakyHang(s sources.Source, rng *rand.Rand) sources.Source {
	plan := choices(rng)
	return testkit.Wrap(s, func(ctx context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			left := plan()
			for page, err := range scan {
				if left == 0 {
					<-ctx.Done()
					yield(sources.Batch{}, sources.NewError(sources.Canceled, "", "", context.Cause(ctx)))
					return
				}
				left--
				if !yield(page, err) {
					return
				}
			}
		}
	})
}

// choices returns a function that returns, for each scan, the number of pages after which
// it fails; less than 0 means never. Only the first 6 scans may fail. The function is
// safe for concurrent use.
func choices(rng *rand.Rand) func() int {
	after := make(chan int, 6)
	for range 6 {
		after <- rng.IntN(5) - 1
	}
	return func() int {
		select {
		case n := <-after:
			return n
		default:
			return -1
		}
	}
}

// damaging returns a begin function that makes this program start the run's plugin and
// damage what it sends.
func damaging(what func(*plan) string) func(*plan) error {
	return func(p *plan) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		at := 200 + p.rng.Int64N(1<<(10+p.rng.IntN(10)))
		plugin := filepath.Join(p.world.plugins, "penstock-source-csv")
		// Damage only the first few processes; otherwise no stream would ever succeed.
		script := fmt.Sprintf("#!/bin/sh\nfor n in 1 2 3 4; do mkdir '%s/'$n 2>/dev/null && exec '%s' damage %d %s '%s'; done\nexec '%s'\n", p.dir, self, at, what(p), plugin, plugin)
		wrapper := filepath.Join(p.dir, "penstock-source-csv")
		p.pluginPath = []string{p.dir}
		p.linked = map[string]sources.Open{}
		return os.WriteFile(wrapper, []byte(script), 0o777)
	}
}

// fits returns the faults that apply to a run.
func fits(p *plan, only string) []fault {
	return slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !f.on(p) || only != "" && f.name != only })
}
