//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// memory is the memory limit of most streams, in bytes. It makes pages small, so that there
// are many.
const memory = 2 << 20

var (
	errChaos = errors.New("chaos")
	errLeave = errors.New("the consumer leaves the loop")
	errHangs = errors.New("the run hangs")
)

// plan describes one run. Its seed determines everything in it.
type plan struct {
	seed     uint64
	rng      *rand.Rand
	world    *world
	wall     host.Isolation
	question question
	fault    fault
	at       []int // the chunks at which the fault occurs, counted from 1

	parallel                         int
	unordered, noPushdown, readAhead bool

	dir        string // used by this run alone, and removed after it
	uri        string
	memory     int64
	linked     map[string]sources.Open
	pluginPath []string
	inventory  inventory     // before the run
	grace      time.Duration // how long what ends by itself may take to do so
	watch      *watch
	cancel     context.CancelFunc // ends the stream
	cleanup    []func() error

	mu   sync.Mutex
	pids map[int]bool // the processes that hosts of this run started
}

// draw returns the plan of a seed, with a fault whose name contains only.
func (w *world) draw(seed uint64, only string) (*plan, error) {
	for try := uint64(0); try < 1000; try++ {
		p := &plan{seed: seed, rng: rand.New(rand.NewPCG(seed, try)), world: w, memory: memory, linked: map[string]sources.Open{}, pids: map[int]bool{}}
		for name, open := range linked {
			p.linked[name] = open
		}
		isolations := []host.Isolation{host.InProcess, host.Process, host.Process}
		source := "csv"
		if w.server != nil && p.rng.IntN(2) == 0 {
			source = "postgres"
		} else if w.module {
			isolations = append(isolations, host.Module)
		}
		p.wall = isolations[p.rng.IntN(len(isolations))]
		p.pluginPath = []string{w.plugins}
		p.uri = w.uri
		if source == "csv" {
			p.uri = "csv:" + w.shop
		}
		p.question = ask(p.rng, source)
		p.parallel = max(p.rng.IntN(7)-3, 0)
		p.unordered = p.parallel > 1 && p.rng.IntN(2) == 0
		p.noPushdown = p.rng.IntN(8) == 0
		p.readAhead = p.rng.IntN(2) == 0
		if len(p.question.order) > 0 && (source == "csv" || p.noPushdown) {
			p.memory *= 4 // the engine sorts in memory, which has to hold all rows
		}
		all := fits(p, only)
		if len(all) == 0 {
			continue
		}
		p.fault = all[p.rng.IntN(len(all))]
		for range 1 + p.rng.IntN(3) {
			p.at = append(p.at, 1+p.rng.IntN(12))
		}
		return p, nil
	}
	return nil, fmt.Errorf("no run with the fault %q is possible; check its name", only)
}

func (p *plan) String() string {
	how := ""
	if p.parallel > 1 {
		how += fmt.Sprintf(", %d scans at once", p.parallel)
	}
	for _, o := range []struct {
		on   bool
		name string
	}{{p.unordered, "unordered"}, {p.noPushdown, "no push-down"}, {p.readAhead, "read ahead"}} {
		if o.on {
			how += ", " + o.name
		}
	}
	return fmt.Sprintf("seed %d: %s at %v, %s through %s, %s%s", p.seed, p.fault.name, p.at, p.question.source, p.wall, p.question, how)
}

// inOrder reports whether the order of a question's rows is known. The engine chooses the
// order of an unordered read, and the table that of a selection.
func (p *plan) inOrder(q question) bool {
	return len(q.order) > 0 || q.where == "" && !p.unordered
}

// options returns the options of the run's streams.
func (p *plan) options() core.Options {
	return core.Options{Memory: p.memory, ReadAhead: p.readAhead, Parallel: p.parallel, Unordered: p.unordered, NoPushdown: p.noPushdown}
}

// patient are the timeouts for a stream that must not fail: a busy machine must not
// make it.
const patient = 10 * time.Minute

// see notes the processes of a source.
func (p *plan) see(s *host.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, sandbox := range s.Sandboxes() {
		p.pids[sandbox.Pid] = true
	}
}
