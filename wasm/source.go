// Package wasm runs WebAssembly modules as sources.
//
// A module is a WASI command that speaks the protocol of package sources/wire. It can
// be written in any language, and can access only what [Options] grants it.
//
// This package runs modules with wazero, within the calling process. If a module
// crashes, violates the protocol, or exceeds its memory limit, only its own streams
// fail. But a module that computes for ever cannot be stopped unless
// Options.Interruptible is set, and compiling one that was made to exhaust memory, for
// example with billions of local variables, ends the process. So modules in the calling
// process must be trusted. Run others in a process of their own, which can be killed: a
// host with the process wall and the wasm wall does so unless told otherwise.
package wasm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// Open runs a module as a source. The configuration is passed to the module
// unchanged; its URI is a path as the module sees it, such as "/data". The context
// bounds the opening alone.
//
// A session can scan each table only once at a time (Scans of its [sources.Table]
// is 1), because a command does one thing at a time. Errors are of kind
// [sources.Invalid] if the module violates the protocol, [sources.Unavailable] if it
// crashed or did not answer, [sources.Exhausted] if it exceeded its memory limit,
// and [sources.Denied] if it needs what it was not granted; other errors are the
// source's own.
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
	// Opening an instance now reports errors early, and the first session reuses the
	// instance.
	i, err := s.lease(ctx)
	if err != nil {
		m.close()
		return nil, sources.WithOp("open", "", err)
	}
	if _, err := s.catalogOf(sources.ForTables(ctx), i); err != nil {
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
	ending  sync.WaitGroup // instances that end after IdleTimeout
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

// release makes an instance whose session has ended idle, or ends it.
func (s *source) release(i *instance) error {
	s.mu.Lock()
	keep := !s.closed && len(s.idle) < s.module.options.MaxIdle && i.alive() && i.pending == 0 && !i.nearLimit()
	if keep {
		s.idle = append(s.idle, i)
		i.timer = time.AfterFunc(s.module.options.IdleTimeout, func() { s.expire(i) })
	}
	s.mu.Unlock()
	if keep {
		return nil
	}
	return i.stop()
}

// expire ends an instance that was idle for IdleTimeout.
func (s *source) expire(i *instance) {
	s.mu.Lock()
	at := slices.Index(s.idle, i)
	if at < 0 {
		s.mu.Unlock()
		return // it has just been leased, or the source is closed
	}
	s.idle = slices.Delete(s.idle, at, at+1)
	s.ending.Add(1)
	s.mu.Unlock()
	defer s.ending.Done()
	if err := i.stop(); err != nil {
		s.module.options.Logger.Warn(err.Error(), "module", s.module.name)
	}
}

// firstError returns the first of joined errors: an operation's own error is more
// important than that of its clean-up.
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
	reply, err := i.call(ctx, wire.CatalogRequest(ctx))
	if err != nil {
		return nil, err
	}
	for t := range reply.Catalog.Tables {
		reply.Catalog.Tables[t].MaxScans = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catalog = reply.Catalog.Update(s.catalog)
	return s.catalog, nil
}

// table returns the table of a scan, whose schema the pages must have.
func (s *source) table(ctx context.Context, i *instance, name string) (*sources.Table, error) {
	s.mu.Lock()
	c := s.catalog
	s.mu.Unlock()
	if t := c.Table(name); t != nil && !t.Pending {
		return t, nil
	}
	c, err := s.catalogOf(sources.ForTables(ctx, name), i) // the table may be new
	if err != nil {
		return nil, err
	}
	if t := c.Table(name); t != nil {
		return t, nil
	}
	return nil, sources.Errorf(sources.NotFound, "", name, "there is no such table")
}

// maxPage limits the size of a page, in bytes. A guest takes a dozen times as long
// as native code to produce one, so larger pages would delay the first row; the
// cost of a frame is small.
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

// session uses one instance, and a second one if a plan is requested during a scan.
type session struct {
	source *source
	env    sources.Env

	mu       sync.Mutex
	free     []*instance
	leased   []*instance // all instances of the session, free or in use
	peak     int64       // bytes of memory, when the session was closed
	scanning bool
	closed   bool
}

// SandboxMemory returns how many bytes of memory the session's instances hold together,
// how many they held at most in the session, and their limit. A module's memory
// never shrinks, so held equals peak until Close. After Close held is 0, and peak
// and limit keep their values.
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

// begin leases an instance and begins the module's session. A module has no
// directory to spill to.
func (s *session) begin(ctx context.Context) (*instance, error) {
	i, err := s.source.lease(ctx)
	if err != nil {
		return nil, err
	}
	i.err.setStream(s.env.Stream)
	env := sources.Env{Page: s.env.Page, Snapshot: s.env.Snapshot, Stream: s.env.Stream}
	if _, err := i.call(ctx, wire.Request{Op: wire.OpBegin, Env: &env}); err != nil {
		return nil, firstError(errors.Join(err, s.source.release(i)))
	}
	return i, nil
}

// acquire returns a free instance of the session, or a new one. With scan, it also
// begins the session's only scan.
func (s *session) acquire(ctx context.Context, scan bool) (*instance, error) {
	s.mu.Lock()
	var i *instance
	switch n := len(s.free); {
	case s.closed:
		s.mu.Unlock()
		return nil, sources.Errorf(sources.Invalid, "", "", "the session is closed")
	case scan && s.scanning:
		s.mu.Unlock()
		return nil, sources.Errorf(sources.Invalid, "", "", "another scan of this session is still running: a module runs one scan at a time")
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
		// The session's snapshot ended with the instance: the caller must begin a new
		// session.
		err = i.endedError()
		s.putBack(i, false)
	}
	if err != nil && scan {
		s.mu.Lock()
		s.scanning = false
		s.mu.Unlock()
	}
	return i, err
}

func (i *instance) endedError() error {
	return sources.Errorf(sources.Unavailable, "", "", "module %q of this session has ended: begin another session", i.module.name)
}

// putBack makes an instance free. With scan, it also ends the session's scan.
func (s *session) putBack(i *instance, scan bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, i)
	if scan {
		s.scanning = false
	}
}

func (s *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	i, err := s.acquire(ctx, false)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	defer s.putBack(i, false)
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

// end ends the module's session, so that another session can use the instance. A
// module that is still busy with an abandoned scan has closeTimeout to finish it;
// otherwise the instance is killed.
func (i *instance) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := i.drain(ctx); err != nil {
		i.kill(err)
		return nil
	}
	_, err := i.call(context.Background(), wire.Request{Op: wire.OpEnd})
	return err
}
