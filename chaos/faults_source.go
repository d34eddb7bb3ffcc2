//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/penstock-data/penstock/chaos/unruly"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// sourceFaults happen within a source that runs in this process.
var sourceFaults = []fault{
	{name: "unavailable", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source {
		return flaky(s, p.rng, func(_ context.Context, yield func(sources.Batch, error) bool) {
			yield(sources.Batch{}, sources.NewError(sources.Unavailable, "", "", errChaos))
		})
	})},
	{name: "error", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source {
		return testkit.FailAfter(s, p.rng.IntN(6), sources.NewError(sources.Internal, "", "", errChaos))
	})},
	{name: "panic", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source { return testkit.PanicAfter(s, p.rng.IntN(6)) })},
	{name: "hang", on: inProcess, begin: wrap(func(p *plan, s sources.Source) sources.Source {
		return flaky(s, p.rng, func(ctx context.Context, yield func(sources.Batch, error) bool) {
			<-ctx.Done()
			yield(sources.Batch{}, sources.NewError(sources.Canceled, "", "", context.Cause(ctx)))
		})
	})},
	{name: "slow", on: inProcess, harmless: true, begin: wrap(func(p *plan, s sources.Source) sources.Source {
		return testkit.DelayEach(s, time.Duration(p.rng.IntN(3000))*time.Microsecond)
	})},
}

// unrulyFaults are those of a source that misbehaves, in each wall.
var unrulyFaults = slices.Concat(
	[]fault{
		{name: "endless rows", on: files, chunk: func(_ *plan, _ context.Context, m moment) error {
			if m.chunk < endlessChunks {
				return nil
			}
			return errLeave
		}, everyChunk: true, anyRows: true, begin: misbehaving("endless")},
		{name: "forking plugin", on: func(p *plan) bool { return files(p) && p.wall == host.Process }, harmless: true, begin: misbehaving("fork")},
	},
	each([]string{"trap", "exit"}, func(name string) fault {
		return fault{name: name, on: func(p *plan) bool { return files(p) && sandboxed(p) }}
	}),
	each([]string{"stderr", "estimates", "drops"}, func(name string) fault { return fault{name: name, on: files, harmless: true} }),
	each([]string{"huge", "schema", "type"}, func(name string) fault { return fault{name: name, on: files} }),
	each([]string{"unordered"}, func(name string) fault { return fault{name: name, on: files, anyRows: true} }),
	each([]string{"drip"}, func(name string) fault { return fault{name: name, on: files} }),
)

// An endless stream is left after endlessChunks, or canceled after endlessRows that were
// read: the engine may filter or sort them, so that no chunk comes out.
const (
	endlessChunks = 60
	endlessRows   = 300_000
)

// files reports whether the source unruly can stand for that of a run.
func files(p *plan) bool { return p.question.source == "csv" }

// each returns a fault of the source unruly for each name.
func each(names []string, f func(name string) fault) (out []fault) {
	for _, name := range names {
		one := f(name)
		one.begin = misbehaving(name)
		one.name = "source: " + name
		out = append(out, one)
	}
	return out
}

// misbehaving returns a begin function that makes the source unruly stand for that of the run.
func misbehaving(name string) func(*plan) error {
	if !slices.Contains(unruly.Faults, name) {
		panic("chaos: there is no fault " + name)
	}
	return func(p *plan) error {
		p.uri = fmt.Sprintf("unruly:%s?fault=%s&after=%d", p.world.shop, name, p.rng.IntN(4))
		return nil
	}
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
func flaky(s sources.Source, rng *rand.Rand, end func(ctx context.Context, yield func(sources.Batch, error) bool)) sources.Source {
	plan := choices(rng)
	return testkit.Wrap(s, func(ctx context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			left := plan()
			for page, err := range scan {
				if left == 0 {
					end(ctx, yield)
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
