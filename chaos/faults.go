//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-data/penstock/core"
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
	// chunk is called at some of the chunks, or at every one, while the consumer has it.
	chunk      func(p *plan, ctx context.Context, m moment) error
	everyChunk bool
	// run makes the whole run. If it is nil, the run reads one stream.
	run func(p *plan, ctx context.Context) outcome

	harmless bool // the stream must be complete
	anyRows  bool // the source may return any rows
}

func sandboxed(p *plan) bool { return p.wall != host.InProcess }
func inProcess(p *plan) bool { return p.wall == host.InProcess }
func database(p *plan) bool  { return p.question.source == "postgres" }
func anywhere(*plan) bool    { return true }

var faults = slices.Concat(streamFaults, sourceFaults, unrulyFaults, moduleFaults, hostFaults, storeFaults, exportFaults)

// streamFaults happen to one stream.
var streamFaults = []fault{
	{name: "nothing", on: anywhere, harmless: true},
	{name: "kill", on: sandboxed, chunk: func(p *plan, _ context.Context, m moment) error { return p.signal(m.source, syscall.SIGKILL) }},
	{name: "crash", on: sandboxed, chunk: func(p *plan, _ context.Context, m moment) error { return p.signal(m.source, syscall.SIGSEGV) }},
	{name: "stop", on: sandboxed, chunk: func(p *plan, _ context.Context, m moment) error { return p.signal(m.source, syscall.SIGSTOP) }},
	{name: "terminate", on: database, chunk: func(p *plan, ctx context.Context, _ moment) error {
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
	{name: "consumer stalls", on: anywhere, harmless: true, chunk: func(p *plan, _ context.Context, _ moment) error {
		time.Sleep(time.Duration(p.rng.IntN(400)) * time.Millisecond)
		return nil
	}},
	{name: "consumer breaks", on: anywhere, chunk: func(*plan, context.Context, moment) error { return errLeave }},
	{name: "consumer panics", on: anywhere, chunk: func(*plan, context.Context, moment) error { panic(errLeave) }},
	{name: "canceled", on: anywhere, chunk: func(p *plan, _ context.Context, _ moment) error {
		p.cancel()
		return nil
	}},
	{name: "paused", on: anywhere, harmless: true, chunk: func(p *plan, _ context.Context, m moment) error {
		return p.pause(m.stream)
	}},
	{name: "paused and canceled", on: anywhere, chunk: func(p *plan, _ context.Context, m moment) error {
		m.stream.Pause()
		time.AfterFunc(time.Duration(p.rng.IntN(20))*time.Millisecond, p.cancel)
		return nil
	}},
	{name: "resumed", on: anywhere, run: (*plan).resume},
	{name: "little memory", on: anywhere, begin: func(p *plan) error {
		p.memory = 16<<10 + p.rng.Int64N(1<<20)
		return nil
	}},
}

// pause pauses a stream, and resumes it from another goroutine after a while.
func (p *plan) pause(s *core.Stream) error {
	if !s.Pause() || s.Status() != core.StatusPaused {
		return fmt.Errorf("the stream was told to pause, but its status is %s", s.Status())
	}
	chunks := s.Receipt().Chunks
	time.AfterFunc(time.Duration(p.rng.IntN(30))*time.Millisecond, func() {
		if now := s.Receipt().Chunks; now != chunks {
			s.Cancel(fmt.Errorf("the stream went on while it was paused, from chunk %d to %d", chunks, now))
		}
		s.Resume()
	})
	return nil
}

// resume reads the rows by several streams, each of which begins at the token of the one
// before.
func (p *plan) resume(ctx context.Context) (o outcome) {
	truth, err := p.world.answer(ctx, p.question)
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	source, end, err := p.openHost(ctx, p.uri, nil)
	if end != nil {
		defer end(&o)
	}
	rest := *truth
	r := reading{plan: p, question: p.question, truth: &rest, options: p.options()}
	if err != nil {
		r.judge(&o, err)
		return o
	}
	r.options.Tokens = true
	r.question.optional = nil // their digests would not cover the rows before the token
	var token core.Token
	leaveAt := 1 + p.rng.IntN(4)
	r.each = func(_ context.Context, n int, chunk *core.Chunk, _ *core.Stream) error {
		if token = chunk.Token; n == leaveAt && token != "" {
			return errLeave
		}
		return nil
	}
	for range 4 {
		token = ""
		o = r.read(ctx, source)
		if o.wrong != nil || o.err != nil || o.whole || token == "" {
			return o
		}
		rest.query.After = token
		if limit := truth.query.Limit; limit > 0 {
			if rest.query.Limit = limit - o.rows; rest.query.Limit == 0 {
				return o
			}
		}
		leaveAt += p.rng.IntN(8)
	}
	return o
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

// fits returns the faults that apply to a run, and whose names contain only.
func fits(p *plan, only string) []fault {
	return slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !f.on(p) || !strings.Contains(f.name, only) })
}
