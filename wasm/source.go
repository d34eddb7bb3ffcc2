// Package wasm runs WebAssembly modules as sources.
//
// A module is a plain WASI command that speaks what package wire describes: it
// can be written in any language, and is run with nothing but what [Options]
// grant it. It is run within this process, by wazero: a module that crashes,
// lies, floods or eats memory hurts its own stream alone, but one that computes
// without end can freeze the whole process (see Options.Interruptible). For
// modules that nobody vouches for, [OpenURI] is meant to be served by a process
// of its own, which can be killed.
package wasm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// Open runs the module as a source. The configuration goes to the module as it
// is; its URI is an address as the module sees it, as in "/data". Cancelling the
// context gives the opening up.
//
// A table of the source has one scan at a time in a session ([sources.Table]'s
// Scans is 1), for a command can do one thing at a time. Errors are [sources.Invalid]
// where the module breaks the protocol, [sources.Unavailable] where it crashed
// or did not answer, [sources.Exhausted] where it wanted more memory than it
// may have, [sources.Denied] where it cannot run with what it was granted, and
// else the source's own.
func Open(ctx context.Context, o Options, c sources.Config) (sources.Source, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	m, err := compile(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &source{module: m, config: c}
	// One instance is opened now: what cannot work fails here, and the first
	// session finds it warm.
	i, err := s.lease(ctx)
	if err != nil {
		m.close()
		return nil, sources.WithOp("open", "", err)
	}
	if _, err := s.catalogOf(ctx, i); err != nil {
		err = errors.Join(err, i.stop())
		m.close()
		return nil, sources.WithOp("open", "", firstError(err))
	}
	if err := s.release(i); err != nil {
		m.close()
		return nil, sources.WithOp("open", "", err)
	}
	return s, nil
}

type source struct {
	module *module
	config sources.Config

	mu      sync.Mutex
	idle    []*instance
	catalog *sources.Catalog // the latest
	closed  bool
	ending  sync.WaitGroup // instances that were idle for too long
}

// lease returns an instance whose source is open.
func (s *source) lease(ctx context.Context) (*instance, error) {
	for {
		i := s.pop()
		if i == nil {
			break
		}
		if i.alive() {
			return i, nil
		}
		if err := i.stop(); err != nil {
			return nil, err
		}
	}
	i, err := s.module.start()
	if err != nil {
		return nil, err
	}
	if err := i.open(ctx, s.config); err != nil {
		return nil, firstError(errors.Join(err, i.stop()))
	}
	return i, nil
}

func (s *source) pop() *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	if n == 0 {
		return nil
	}
	i := s.idle[n-1]
	s.idle = s.idle[:n-1]
	i.timer.Stop()
	return i
}

// release takes an instance back whose session has ended, or ends it.
func (s *source) release(i *instance) error {
	s.mu.Lock()
	keep := !s.closed && len(s.idle) < s.module.options.Warm && i.alive() && i.pending == 0 && !i.peaked()
	if keep {
		s.idle = append(s.idle, i)
		i.timer = time.AfterFunc(s.module.options.Idle, func() { s.expire(i) })
	}
	s.mu.Unlock()
	if keep {
		return nil
	}
	return i.stop()
}

// expire ends an instance that nobody has leased for too long.
func (s *source) expire(i *instance) {
	s.mu.Lock()
	at := slices.Index(s.idle, i)
	if at < 0 {
		s.mu.Unlock()
		return // it was leased at this moment, or the source is closed
	}
	s.idle = slices.Delete(s.idle, at, at+1)
	s.ending.Add(1)
	s.mu.Unlock()
	defer s.ending.Done()
	if err := i.stop(); err != nil {
		s.module.options.Logger.Warn(err.Error(), "module", s.module.name)
	}
}

// firstError is the error that was there first, where errors.Join put another
// beside it: what went wrong counts for more than what the clean-up met.
func firstError(err error) error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()[0]
	}
	return err
}

func (s *source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	i, err := s.lease(ctx)
	if err != nil {
		return nil, sources.WithOp("catalog", "", err)
	}
	c, err := s.catalogOf(ctx, i)
	return c, sources.WithOp("catalog", "", firstError(errors.Join(err, s.release(i))))
}

func (s *source) catalogOf(ctx context.Context, i *instance) (*sources.Catalog, error) {
	reply, err := i.call(ctx, wire.Request{Op: wire.OpCatalog})
	if err != nil {
		return nil, err
	}
	for t := range reply.Catalog.Tables {
		reply.Catalog.Tables[t].MaxScans = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catalog = reply.Catalog
	return reply.Catalog, nil
}

// table finds the table that a scan is of: what comes is held against it.
func (s *source) table(ctx context.Context, i *instance, name string) (*sources.Table, error) {
	s.mu.Lock()
	c := s.catalog
	s.mu.Unlock()
	if t := c.Table(name); t != nil {
		return t, nil
	}
	c, err := s.catalogOf(ctx, i) // it may have come since
	if err != nil {
		return nil, err
	}
	if t := c.Table(name); t != nil {
		return t, nil
	}
	return nil, &sources.Error{Table: name, Kind: sources.NotFound, Err: errors.New("there is no such table")}
}

// maxPage is the ceiling of a page in bytes. A guest takes a dozen times as long as
// native code for one: a megabyte would keep the first row waiting, and a frame
// costs little.
const maxPage = 256 << 10

func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	env.Page = env.Page.OrDefault()
	env.Page.Bytes = min(env.Page.Bytes, maxPage)
	sess := &session{source: s, env: env}
	i, err := sess.begin(ctx)
	if err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	sess.free = append(sess.free, i)
	sess.leased = append(sess.leased, i)
	return sess, nil
}

func (s *source) Close() error {
	s.mu.Lock()
	idle := s.idle
	s.idle, s.closed = nil, true
	s.mu.Unlock()
	s.ending.Wait()
	var faults []error
	for _, i := range idle {
		i.timer.Stop()
		faults = append(faults, i.stop())
	}
	s.module.close()
	return sources.WithOp("close", "", errors.Join(faults...))
}

// session is one stream's reading: an instance, and where a plan is asked for
// in the middle of a scan, another.
type session struct {
	source *source
	env    sources.Env

	mu       sync.Mutex
	free     []*instance
	leased   []*instance // all: the free ones, and those that are in use
	peak     int64       // bytes of their memory, when the session was closed
	scanning bool
	closed   bool
}

// Isolate says what the memories of the session's instances have together now, at
// most in the session, and may have, in bytes. A module's memory never shrinks, so
// the first two are the same until the session's Close: after it nothing is held,
// and the others stay.
func (s *session) SandboxMemory() (held, peak, limit int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit = int64(len(s.leased)) * s.source.module.options.Memory
	if s.closed {
		return 0, s.peak, limit
	}
	for _, i := range s.leased {
		held += i.memory.size.Load()
	}
	return held, held, limit
}

// begin leases an instance and begins the module's session. There is no
// directory that a module could spill to.
func (s *session) begin(ctx context.Context) (*instance, error) {
	i, err := s.source.lease(ctx)
	if err != nil {
		return nil, err
	}
	i.err.serve(s.env.Stream)
	env := sources.Env{Page: s.env.Page, Snapshot: s.env.Snapshot, Stream: s.env.Stream}
	if _, err := i.call(ctx, wire.Request{Op: wire.OpBegin, Env: &env}); err != nil {
		return nil, firstError(errors.Join(err, s.source.release(i)))
	}
	return i, nil
}

// take returns a free instance of the session, or one more.
func (s *session) take(ctx context.Context, scan bool) (*instance, error) {
	s.mu.Lock()
	var i *instance
	switch n := len(s.free); {
	case s.closed:
		s.mu.Unlock()
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.New("the session is closed")}
	case scan && s.scanning:
		s.mu.Unlock()
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.New("a scan of this session is not done yet; a module has one at a time, as its tables' Scans says")}
	case n > 0:
		i = s.free[n-1]
		s.free = s.free[:n-1]
	}
	s.scanning = s.scanning || scan
	s.mu.Unlock()
	var err error
	switch {
	case i == nil:
		if i, err = s.begin(ctx); err == nil {
			s.mu.Lock()
			s.leased = append(s.leased, i)
			s.mu.Unlock()
		}
	case !i.alive():
		// What the session had seen went with the instance: a reader that goes on
		// must begin again.
		err = i.fallen()
		s.give(i, false)
	}
	if err != nil && scan {
		s.mu.Lock()
		s.scanning = false
		s.mu.Unlock()
	}
	return i, err
}

func (i *instance) fallen() error {
	return &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("module %q of this session has ended; begin another", i.module.name)}
}

func (s *session) give(i *instance, scan bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, i)
	if scan {
		s.scanning = false
	}
}

func (s *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	i, err := s.take(ctx, false)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	defer s.give(i, false)
	reply, err := i.call(ctx, wire.Request{Op: wire.OpPlan, Query: q})
	return reply.Plan, sources.WithOp("plan", q.Table, err)
}

func (s *session) Close() error {
	_, peak, _ := s.SandboxMemory()
	s.mu.Lock()
	free := s.free
	s.free, s.closed, s.peak = nil, true, max(s.peak, peak)
	s.mu.Unlock()
	var faults []error
	for _, i := range free {
		if i.alive() {
			faults = append(faults, i.end())
		}
		faults = append(faults, s.source.release(i))
	}
	return sources.WithOp("close", "", errors.Join(faults...))
}

// end ends the module's session, so that another can use the instance. A module
// that is still busy with a scan that was given up has a moment to come to its
// end; what it answers after that nobody needs.
func (i *instance) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if err := i.drain(ctx); err != nil {
		i.kill(err)
		return nil
	}
	_, err := i.call(context.Background(), wire.Request{Op: wire.OpEnd})
	return err
}
