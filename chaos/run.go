//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

type options struct {
	seed                   uint64
	runs, orders           int
	only                   string
	verbose                bool
	patience               time.Duration
	modules, postgres, cli bool
}

// memory is the memory limit of a stream, in bytes. It makes pages small, so that there
// are many.
const memory = 2 << 20

var (
	errChaos = errors.New("chaos")
	errLeave = errors.New("the consumer leaves the loop")
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

	dir        string // used by this run alone, and removed after it
	uri        string
	memory     int64
	linked     map[string]sources.Open
	pluginPath []string
	cancel     context.CancelFunc
	cleanup    []func() error
}

// draw returns the plan of a seed. If only is not empty, it is the name of the fault.
func (w *world) draw(seed uint64, only string) (*plan, error) {
	for try := uint64(0); try < 1000; try++ {
		p := &plan{seed: seed, rng: rand.New(rand.NewPCG(seed, try)), world: w, memory: memory, linked: map[string]sources.Open{}}
		for name, open := range linked {
			p.linked[name] = open
		}
		isolations := []host.Isolation{host.InProcess, host.Process, host.Process}
		p.question.source = "csv"
		if w.server != nil && p.rng.IntN(2) == 0 {
			p.question.source = "postgres"
		} else if w.module {
			isolations = append(isolations, host.Module)
		}
		p.wall = isolations[p.rng.IntN(len(isolations))]
		p.pluginPath = []string{w.plugins}
		p.uri = w.uri
		if p.question.source == "csv" {
			p.uri = "csv:" + w.shop
		}
		tables := []struct{ table, loads string }{{"orders", ""}, {"orders", "customer"}, {"orders", "customer,order_lines.product"}, {"order_lines", ""}, {"order_lines", "product"}, {"customers", "orders"}}
		t := tables[p.rng.IntN(len(tables))]
		p.question.query.Table = t.table
		p.question.text = t.table + " " + t.loads
		if t.loads != "" {
			branches, err := query.ParseLoad(t.loads)
			if err != nil {
				return nil, err
			}
			p.question.query.Load.Required = branches
		}
		if p.rng.IntN(2) == 0 {
			p.question.query.OrderBy = []sources.Sort{{Column: map[string]string{"order_lines": "order_id"}[t.table]}}
			if t.table == "order_lines" {
				p.question.query.OrderBy = append(p.question.query.OrderBy, sources.Sort{Column: "line"})
			} else {
				p.question.query.OrderBy[0].Column = "id"
			}
			p.question.text += " in order"
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
	return fmt.Sprintf("seed %d: %s at %v, %s through %s, %s", p.seed, p.fault.name, p.at, p.question.source, p.wall, p.question.text)
}

// outcome is the result of a run.
type outcome struct {
	whole   bool // the stream is complete, with the right rows
	retries int64
	faults  []retry.Fault
	err     error // of the stream, as it should be
	wrong   error // a defect that the run found
}

// try makes a run and compares its result with that of an undisturbed stream.
func (p *plan) try(ctx context.Context, patience time.Duration) (o outcome) {
	truth, err := p.world.answer(ctx, p.question)
	if err != nil {
		return outcome{wrong: fmt.Errorf("the undisturbed stream: %w", err)}
	}
	if p.dir, err = os.MkdirTemp(p.world.dir, "run"); err != nil {
		return outcome{wrong: err}
	}
	scratch := filepath.Join(p.dir, "tmp")
	if err := os.Mkdir(scratch, 0o777); err != nil {
		return outcome{wrong: err}
	}
	before := resources()
	old := os.Getenv("TMPDIR")
	_ = os.Setenv("TMPDIR", scratch) // for the sockets and temporary files of this run
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errHangs)
	done := make(chan struct{})
	pids := map[int]bool{}
	go func() {
		defer close(done)
		if p.fault.name == "disk full" {
			o = p.full(ctx)
		} else {
			o = p.read(ctx, truth, pids)
		}
	}()
	select {
	case <-done:
	case <-time.After(patience + 20*time.Second):
		buf := make([]byte, 1<<20)
		o.wrong = fmt.Errorf("the run hangs:\n%s", buf[:runtime.Stack(buf, true)])
	}
	cancel()
	_ = os.Setenv("TMPDIR", old)
	for _, clean := range p.cleanup {
		if err := clean(); err != nil && o.wrong == nil {
			o.wrong = err
		}
	}
	if o.wrong == nil {
		o.wrong = left(before, scratch, pids)
	}
	if err := os.RemoveAll(p.dir); err != nil && o.wrong == nil {
		o.wrong = err
	}
	return o
}

var errHangs = errors.New("the run hangs")

// read reads the stream while the fault occurs.
func (p *plan) read(ctx context.Context, truth core.Receipt, pids map[int]bool) (o outcome) {
	wrong := func(format string, args ...any) {
		if o.wrong == nil {
			o.wrong = fmt.Errorf(format, args...)
		}
	}
	if p.fault.begin != nil {
		if err := p.fault.begin(p); err != nil {
			return outcome{wrong: err}
		}
	}
	h, err := host.New(host.Options{
		Sources: p.linked, Walls: walls, Isolation: p.wall, PluginPath: p.pluginPath,
		Retry:    retry.Policy{InitialBackoff: 2 * time.Millisecond, MaxBackoff: 20 * time.Millisecond},
		Timeouts: retry.Timeouts{Stall: time.Second, Call: 3 * time.Second},
		Breaker:  retry.BreakerOptions{Failures: 12},
	})
	if err != nil {
		return outcome{wrong: err}
	}
	defer func() {
		if err := h.Close(); err != nil && sources.KindOf(err) != sources.Unavailable {
			wrong("closing the host: %w", err)
		}
		if held := h.Budget().Held(); held != 0 {
			wrong("%d bytes are still in use after the host was closed", held)
		}
	}()
	ctx, p.cancel = context.WithCancel(ctx)
	defer p.cancel()
	judge := func(err error) {
		var typed *sources.Error
		switch {
		case errors.Is(err, errHangs):
			wrong("the stream hangs: %w", err)
		case !errors.As(err, &typed):
			wrong("the error has no kind: %w", err)
		case p.fault.name == "nothing" || p.fault.name == "slow" || p.fault.name == "consumer stalls":
			wrong("the stream failed, but the fault is harmless: %w", err)
		}
		o.err = err
	}
	source, err := h.Open(ctx, p.uri)
	if err != nil {
		judge(err)
		return o
	}
	see := func() {
		for _, sandbox := range source.Sandboxes() {
			pids[sandbox.Pid] = true
		}
	}
	stream, err := source.Stream(ctx, p.question.query, core.Options{Memory: p.memory, ReadAhead: p.rng.IntN(2) == 0})
	if err != nil {
		judge(err)
		return o
	}
	defer func() {
		if err := stream.Close(); err != nil && sources.KindOf(err) != sources.Unavailable {
			wrong("closing the stream: %w", err)
		}
	}()
	left := false
	err = p.consume(ctx, stream, source, see)
	see()
	if errors.Is(err, errLeave) {
		left, err = true, nil
	}
	r := stream.Receipt()
	o.retries, o.faults = r.Retries, r.Faults
	switch {
	case err != nil:
		judge(err)
		if r.Complete {
			wrong("the stream failed, but its receipt says complete: %w", err)
		}
	case left:
		if r.Complete {
			wrong("the consumer left the loop, but the receipt says complete")
		}
	case !r.Complete:
		wrong("the stream ended without an error, but its receipt does not say complete")
	case r.Digest != truth.Digest || r.Rows != truth.Rows:
		wrong("WRONG ROWS: %d rows with digest %s, want %d with %s", r.Rows, r.Digest.Ordered(), truth.Rows, truth.Digest.Ordered())
	default:
		o.whole = true
	}
	if r.Rows > truth.Rows {
		wrong("%d rows, but an undisturbed stream has only %d", r.Rows, truth.Rows)
	}
	return o
}

// consume ranges over the stream. It returns errLeave if the fault makes the consumer
// leave the loop, even by a panic.
func (p *plan) consume(ctx context.Context, stream *core.Stream, source *host.Source, see func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if r != errLeave {
				panic(r)
			}
			err = errLeave
		}
	}()
	chunks := 0
	for _, err := range stream.Chunks() {
		if err != nil {
			return err
		}
		if chunks++; chunks == 1 {
			see()
		}
		if p.fault.chunk != nil && slices.Contains(p.at, chunks) {
			see()
			if err := p.fault.chunk(p, ctx, source); err != nil {
				return err
			}
		}
	}
	return nil
}

// full makes the command line write to a full disk.
func (p *plan) full(ctx context.Context) outcome {
	out, err := exec.CommandContext(ctx, p.world.penstock, "read", p.uri, p.question.query.Table, "--memory", "4MiB", "--format", "csv", "-o", "/dev/full").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "no space left") {
		return outcome{wrong: fmt.Errorf("the command line does not report a full disk: %w: %s", err, out)}
	}
	return outcome{err: err}
}

// resources returns the numbers of goroutines and open files.
func resources() [2]int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return [2]int{runtime.NumGoroutine(), 0}
	}
	return [2]int{runtime.NumGoroutine(), len(files)}
}

// left returns an error that lists what a run has left behind. It waits 5 s for what ends
// by itself.
func left(before [2]int, scratch string, pids map[int]bool) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		var faults []error
		now := resources()
		if now[0] > before[0] {
			buf := make([]byte, 1<<20)
			faults = append(faults, fmt.Errorf("%d goroutines, but %d before the run:\n%s", now[0], before[0], buf[:runtime.Stack(buf, true)]))
		}
		if now[1] > before[1] {
			faults = append(faults, fmt.Errorf("%d open files, but %d before the run", now[1], before[1]))
		}
		for pid := range pids {
			if syscall.Kill(pid, 0) == nil {
				faults = append(faults, fmt.Errorf("process %d still runs", pid))
			}
		}
		files, err := os.ReadDir(scratch)
		if err != nil || len(files) > 0 {
			faults = append(faults, fmt.Errorf("files are left behind: %v %w", files, err))
		}
		if len(faults) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(faults...)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tally counts the results of the runs of one fault.
type tally struct{ runs, whole, recovered, honest, left, wrong int }

// run makes the runs one after the other and reports their results. Its error lists the
// runs that found a defect, with their seeds.
func (o options) run(ctx context.Context, out io.Writer) error {
	w, err := build(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = w.close() }() // the results are complete
	tallies := map[string]*tally{}
	var names []string
	var bad []error
	started := time.Now()
	for i := range o.runs {
		if ctx.Err() != nil {
			break
		}
		p, err := w.draw(o.seed+uint64(i), o.only)
		if err != nil {
			return err
		}
		begun := time.Now()
		result := p.try(ctx, o.patience)
		t := tallies[p.fault.name]
		if t == nil {
			t = &tally{}
			tallies[p.fault.name] = t
			names = append(names, p.fault.name)
		}
		t.runs++
		switch {
		case result.wrong != nil:
			t.wrong++
			bad = append(bad, fmt.Errorf("%s: %w", p, result.wrong))
			fmt.Fprintf(out, "WRONG %s: %v\n", p, result.wrong)
		case result.whole && result.retries > 0:
			t.recovered++
		case result.whole:
			t.whole++
		case result.err != nil:
			t.honest++
		default:
			t.left++
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
	fmt.Fprintln(table, "fault\truns\tcomplete\trecovered\tfailed\tleft\tWRONG\t")
	sum := tally{}
	row := func(name string, t tally) {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, t.runs, t.whole, t.recovered, t.honest, t.left, t.wrong)
	}
	for _, name := range names {
		t := *tallies[name]
		row(name, t)
		sum = tally{sum.runs + t.runs, sum.whole + t.whole, sum.recovered + t.recovered, sum.honest + t.honest, sum.left + t.left, sum.wrong + t.wrong}
	}
	row("all", sum)
	_ = table.Flush()
	fmt.Fprintf(out, "%d runs from seed %d in %s\n", sum.runs, o.seed, time.Since(started).Round(time.Second))
	return errors.Join(bad...)
}
