//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// hostFaults happen to a whole host.
var hostFaults = []fault{
	{name: "several streams", on: anywhere, run: (*plan).crowd},
	{name: "host killed", on: anywhere, run: (*plan).killHost},
}

// crowd reads several streams of one host at once, under one budget. Each is held against
// its own right answer. Some are paused, canceled or left, and some keep chunks.
func (p *plan) crowd(ctx context.Context) (o outcome) {
	n := 2 + p.rng.IntN(4)
	var readings []reading
	for range n {
		q := ask(p.rng, p.question.source)
		truth, err := p.world.answer(ctx, q)
		if err != nil {
			return outcome{wrong: err, category: isWrong}
		}
		readings = append(readings, reading{plan: p, question: q, truth: truth, options: p.options()})
	}
	tight := p.rng.IntN(2) == 0
	source, end, err := p.openHost(ctx, p.uri, func(o *host.Options) {
		o.Memory = int64(n) * p.memory
		if tight {
			o.Memory /= 2
		}
	})
	if end != nil {
		defer end(&o)
	}
	if err != nil {
		readings[0].judge(&o, err)
		return o
	}
	o.whole = true
	outcomes := make([]outcome, n)
	var work sync.WaitGroup
	for i, r := range readings {
		rng := rand.New(rand.NewPCG(p.seed, uint64(i)))
		work.Go(func() {
			var kept []func()
			defer func() {
				for _, release := range kept {
					release()
				}
			}()
			r.each = mischief(rng, &kept)
			outcomes[i] = r.read(ctx, source)
		})
	}
	work.Wait()
	for _, part := range outcomes {
		o.join(part)
	}
	return o
}

// mischief returns what the consumer of one of several streams does at each chunk.
func mischief(rng *rand.Rand, kept *[]func()) func(context.Context, int, *core.Chunk, *core.Stream) error {
	what, at := rng.IntN(6), 1+rng.IntN(8)
	return func(_ context.Context, n int, chunk *core.Chunk, stream *core.Stream) error {
		if n != at {
			return nil
		}
		switch what {
		case 0:
			return errLeave
		case 1:
			panic(errLeave)
		case 2:
			stream.Cancel(errChaos)
		case 3:
			stream.Pause()
			time.AfterFunc(time.Duration(rng.IntN(20))*time.Millisecond, func() { stream.Resume() })
		case 4: // until the stream has ended
			chunk.Record.Retain()
			*kept = append(*kept, chunk.Record.Release)
		}
		return nil
	}
}

// killHost starts a program that embeds a host, and kills it while its streams read. No
// process may be left, and no connection of the database.
func (p *plan) killHost(ctx context.Context) (o outcome) {
	uri := p.uri
	if p.question.source == "csv" && p.wall == host.Process && p.rng.IntN(2) == 0 {
		uri = "unruly:" + p.world.shop + "?fault=fork&after=0"
	}
	exe, err := os.Executable()
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	c := exec.CommandContext(ctx, exe, append([]string{"victim", string(p.wall), uri, p.world.plugins}, p.question.table, p.question.load)...)
	c.Stderr = os.Stderr
	lines, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	chunks, last := 0, p.rng.IntN(6)
	for in := bufio.NewScanner(lines); chunks <= last && in.Scan(); chunks++ {
		p.watch.progress.Add(1)
	}
	time.Sleep(time.Duration(p.rng.IntN(20)) * time.Millisecond)
	if err := c.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return outcome{wrong: err, category: isWrong}
	}
	_ = c.Wait() // it was killed
	if chunks == 0 {
		o.blame(isWrong, "the host ended before its stream had a chunk")
	}
	if p.question.source == "postgres" {
		o.blameIf(isOrphan, eventually(p.grace, func() error {
			n, err := p.world.backends(ctx)
			if err == nil && n > 0 {
				err = fmt.Errorf("the database still has %d connections of the host that was killed", n)
			}
			return err
		}))
	}
	// A killed host cannot remove its sockets and temporary files, but its processes must end.
	o.blameIf(isOrphan, eventually(p.grace, func() error {
		for _, left := range below(processes()) {
			if !left.zombie && !p.before(left) {
				return fmt.Errorf("%w: %s, pid %d", errOrphan, left.name, left.pid)
			}
		}
		return nil
	}))
	p.emptyScratch(&o)
	return o
}

// emptyScratch removes what a killed program has left in the directory for temporary files.
func (p *plan) emptyScratch(o *outcome) {
	o.blameIf(isWrong, errors.Join(os.RemoveAll(p.scratch()), os.Mkdir(p.scratch(), 0o777)))
}

// before reports whether a process is older than the run.
func (p *plan) before(x proc) bool {
	_, old := p.inventory.processes[x.pid]
	return old
}

// victim reads the table again and again until it is killed, and prints a line for each
// chunk. The arguments are the isolation, the address, the directory of plugins, the table and
// the relations. It returns the exit code.
func victim(args []string) int {
	if len(args) != 5 {
		return 2
	}
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: host.Isolation(args[0]), PluginPath: []string{args[2]}})
	if err != nil {
		return complain(err)
	}
	ctx := context.Background()
	s, err := h.Open(ctx, args[1])
	if err != nil {
		return complain(err)
	}
	catalog, err := s.Catalog(ctx)
	if err != nil {
		return complain(err)
	}
	q, err := question{table: args[3], load: args[4]}.query(catalog)
	if err != nil {
		return complain(err)
	}
	for {
		stream, err := s.Stream(ctx, q, core.Options{Memory: memory, ReadAhead: true})
		if err != nil {
			return complain(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				return complain(err)
			}
			if _, err := fmt.Println("chunk"); err != nil {
				return 1 // the parent has gone
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "chaos victim:", err)
	return 1
}

// moduleFaults are lies of a module about what it sends.
var moduleFaults = []fault{{name: "lying module", on: func(p *plan) bool { return p.world.module && p.wall == host.Module }, run: (*plan).lie}}

// lies is the number of lies of the module liar.
const lies = 15

// lie reads a table about which the module liar lies, and then the honest one in the same
// host. The first stream must fail and the second must not.
func (p *plan) lie(ctx context.Context) (o outcome) {
	source, end, err := p.openHost(ctx, "liar:"+p.world.shop, nil)
	if end != nil {
		defer end(&o)
	}
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	lying := reading{plan: p, truth: &truth{query: core.Query{Table: fmt.Sprintf("t%d", 1+p.rng.IntN(lies))}}, options: core.Options{Memory: memory}}
	first := lying.read(ctx, source)
	if first.whole || first.err == nil {
		o.blame(isWrong, "the module lied about the table %s, and the stream did not fail", lying.truth.query.Table)
	}
	if first.category != isWrong {
		o.join(first)
	}
	stream, err := source.Stream(ctx, core.Query{Table: "t0"}, core.Options{Memory: memory})
	if err != nil {
		o.blame(isWrong, "the stream after the lie: %w", err)
		return o
	}
	next := int64(0)
	for chunk, err := range stream.Chunks() {
		if err != nil {
			o.blame(isWrong, "the stream after the lie: %w", err)
			return o
		}
		for i := range int(chunk.Record.NumRows()) {
			if v := sources.ValueAt(chunk.Record.Column(0), i).V; v != next {
				o.blame(isWrong, "WRONG ROWS after the lie: %v instead of %d", v, next)
			}
			next++
		}
	}
	return o
}
