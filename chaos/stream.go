//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/digest"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// outcome is the result of a run, or of a part of it.
type outcome struct {
	whole    bool // complete, with the right rows
	retries  int64
	hits     int   // streams whose rows came from a cache, and indexes that were kept
	rows     int64 // rows in all, also before a token
	faults   []retry.Fault
	err      error // the honest error of a stream
	wrong    error // a defect that the run found
	category string
}

// The categories of defects.
const (
	isWrong  = "wrong"
	isLeak   = "leak"
	isOrphan = "orphan"
	isHang   = "hang"
)

// blame notes a defect, unless an earlier one is noted.
func (o *outcome) blame(category, format string, args ...any) {
	if o.wrong == nil {
		o.category, o.wrong = category, fmt.Errorf(format, args...)
	}
}

// blameIf notes a defect if err is not nil.
func (o *outcome) blameIf(category string, err error) {
	if err != nil {
		o.blame(category, "%w", err)
	}
}

// join adds the outcome of another part of the run. The whole is complete if all parts are.
func (o *outcome) join(part outcome) {
	if part.wrong != nil {
		o.blame(part.category, "%w", part.wrong)
	}
	o.whole = o.whole && part.whole
	o.retries += part.retries
	o.hits += part.hits
	o.faults = append(o.faults, part.faults...)
	if o.err == nil {
		o.err = part.err
	}
}

// openHost opens the run's source in a new host. The caller calls the returned function, which
// closes the host and checks that it holds nothing.
func (p *plan) openHost(ctx context.Context, uri string, change func(*host.Options)) (s *host.Source, end func(*outcome), err error) {
	o := host.Options{
		Sources: p.linked, Walls: walls, Isolation: p.wall, PluginPath: p.pluginPath,
		Retry:    retry.Policy{InitialBackoff: 2 * time.Millisecond, MaxBackoff: 20 * time.Millisecond},
		Timeouts: retry.Timeouts{Stall: time.Second, Call: 3 * time.Second},
		Breaker:  retry.BreakerOptions{Failures: 12},
	}
	if p.fault.harmless {
		o.Timeouts = retry.Timeouts{Stall: patient, Call: patient}
	}
	if change != nil {
		change(&o)
	}
	h, err := host.New(o)
	if err != nil {
		return nil, nil, err
	}
	end = func(out *outcome) {
		if s != nil {
			p.see(s)
		}
		if err := h.Close(); err != nil && sources.KindOf(err) != sources.Unavailable {
			out.blame(isLeak, "closing the host: %w", err)
		}
		if held := h.Budget().Held(); held != 0 {
			out.blame(isLeak, "%d bytes are still in use after the host was closed", held)
		}
	}
	s, err = h.Open(ctx, uri)
	return s, end, err
}

// reading is one stream that a run reads and judges.
type reading struct {
	*plan
	question question
	truth    *truth
	options  core.Options
	// each is called with each chunk. The stream is left if it returns errLeave, or panics
	// with it.
	each func(ctx context.Context, number int, chunk *core.Chunk, stream *core.Stream) error
}

// read reads a stream of a source and judges the result.
func (r reading) read(ctx context.Context, s *host.Source) (o outcome) {
	stream, err := s.Stream(ctx, r.truth.query, r.options)
	if err != nil {
		r.judge(&o, err)
		return o
	}
	defer func() {
		if err := stream.Close(); err != nil && sources.KindOf(err) != sources.Unavailable {
			o.blame(isLeak, "closing the stream: %w", err)
		}
	}()
	defer r.follow(stream)()
	related := map[string]digest.Digest{}
	err = r.consume(ctx, s, stream, related)
	left := errors.Is(err, errLeave)
	receipt := stream.Receipt()
	o.retries, o.faults, o.rows = receipt.Retries, receipt.Faults, receipt.TotalRows
	if receipt.Cache == cache.Hit {
		o.hits = 1
	}
	switch {
	case left && receipt.Complete:
		o.blame(isWrong, "the consumer left the loop, but the receipt says complete")
	case left:
	case err != nil:
		r.judge(&o, err)
		if receipt.Complete && len(r.question.optional) == 0 {
			o.blame(isWrong, "the stream failed, but its receipt says complete: %w", err)
		}
	case !receipt.Complete:
		o.blame(isWrong, "the stream ended without an error, but its receipt does not say complete")
	case r.fault.anyRows:
		o.whole = true
	default:
		if err := r.truth.compare(receipt, related, r.inOrder(r.question)); err != nil {
			o.blame(isWrong, "%w", err)
		}
		o.whole = o.wrong == nil
	}
	if receipt.TotalRows > r.truth.receipt.Rows && !r.fault.anyRows {
		o.blame(isWrong, "%d rows, but an undisturbed stream has only %d", receipt.TotalRows, r.truth.receipt.Rows)
	}
	return o
}

// follow reports the progress of a stream to the run's watch, also while no chunk comes out,
// and cancels a stream that has read as many rows as only an endless table has. The caller
// calls the returned function after the stream.
func (r reading) follow(s *core.Stream) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for seen := int64(0); ; {
			select {
			case <-stop:
				return
			case <-time.After(watchStep):
			}
			read := s.Progress().Read
			if read != seen {
				seen = read
				r.watch.progress.Add(1)
			}
			if read > endlessRows {
				s.Cancel(errChaos)
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

// judge checks that an error of a stream is honest.
func (r reading) judge(o *outcome, err error) {
	var typed *sources.Error
	switch {
	case errors.Is(err, errHangs):
		o.blame(isHang, "the stream hangs: %w", err)
	case !errors.As(err, &typed):
		o.blame(isWrong, "the error has no kind: %w", err)
	case r.fault.harmless:
		o.blame(isWrong, "the stream failed, but the fault is harmless: %w", err)
	}
	o.err = err
}

// consume ranges over the stream. It returns errLeave if the consumer leaves the loop,
// even by a panic.
func (r reading) consume(ctx context.Context, s *host.Source, stream *core.Stream, related map[string]digest.Digest) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if v != errLeave {
				panic(v)
			}
			err = errLeave
		}
	}()
	n := 0
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return err
		}
		r.watch.progress.Add(1)
		if n++; n == 1 {
			r.see(s)
		}
		if err := addRelated(ctx, related, stream, chunk, r.question.optional); err != nil {
			return err
		}
		if r.each != nil {
			if err := r.each(ctx, n, chunk, stream); err != nil {
				return err
			}
		}
	}
	return nil
}

// readOnce reads the run's stream while the fault occurs.
func (p *plan) readOnce(ctx context.Context) (o outcome) {
	truth, err := p.world.answer(ctx, p.question)
	if err != nil {
		return outcome{wrong: err, category: isWrong}
	}
	if p.fault.begin != nil {
		if err := p.fault.begin(p); err != nil {
			return outcome{wrong: err, category: isWrong}
		}
	}
	ctx, p.cancel = context.WithCancel(ctx)
	defer p.cancel()
	source, end, err := p.openHost(ctx, p.uri, nil)
	if end != nil {
		defer end(&o)
	}
	r := reading{plan: p, question: p.question, truth: truth, options: p.options()}
	if err != nil {
		r.judge(&o, err)
		return o
	}
	r.each = func(ctx context.Context, n int, chunk *core.Chunk, stream *core.Stream) error {
		if p.fault.chunk == nil || !slices.Contains(p.at, n) && !p.fault.everyChunk {
			return nil
		}
		p.see(source)
		return p.fault.chunk(p, ctx, moment{source, stream, n})
	}
	return r.read(ctx, source)
}

// moment is where a stream is when a fault occurs.
type moment struct {
	source *host.Source
	stream *core.Stream
	chunk  int // counted from 1
}
