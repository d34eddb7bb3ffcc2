package process

import (
	"context"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/sources/wire"
)

// Open starts a process and opens its source. The configuration is sent in the open
// request, so its secrets never appear in an argument list or an environment.
//
// Each session uses a process of its own, opened with the same configuration,
// unless Options.Share is set. The first session uses the process that Open has
// started. Closing the source ends all processes.
//
// Errors are those of the source, or of kind [sources.Unavailable] if a process
// died or did not answer, [sources.Exhausted] if it was killed because it exceeded
// its memory cap, and [sources.Invalid] if it does not speak the source protocol.
//
// The result is a [*Source].
func Open(ctx context.Context, o wall.Options, c sources.Config) (sources.Source, error) {
	s := &Source{pool: newPool(withDefaults(o), c)}
	first, _, err := s.pool.lease(ctx, memoryCap(&s.pool.options, nil))
	if err != nil {
		return nil, sources.WithOp("open", "", err)
	}
	s.pool.release(first, false)
	return s, nil
}

// Source is a source whose sessions run in processes. It is safe for concurrent
// use.
type Source struct {
	pool *pool

	mu      sync.Mutex
	catalog *sources.Catalog

	once sync.Once // for Close
	err  error     // of Close
}

// Sandboxes returns the memory use of the source's processes, including idle ones.
// The figures are those of the last sample.
func (s *Source) Sandboxes() []wall.Usage { return s.pool.usage() }

// Catalog returns the source's catalog, which it requests only once for each table.
func (s *Source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.catalog.Describes(ctx) {
		reply, sandbox, err := s.lease(ctx, memoryCap(&s.pool.options, nil), wire.CatalogRequest(ctx))
		if err != nil {
			return nil, sources.WithOp("catalog", "", err)
		}
		s.pool.release(sandbox, false)
		s.catalog = reply.Catalog.Update(s.catalog)
	}
	return s.catalog, nil
}

// lease leases a sandbox and sends it a request. If an idle process turns out to
// have ended, it tries the next one.
func (s *Source) lease(ctx context.Context, limit int64, r wire.Request) (wire.Reply, *sandbox, error) {
	for {
		leased, reused, err := s.pool.lease(ctx, limit)
		if err != nil {
			return wire.Reply{}, nil, err
		}
		r.Memory = limit
		reply, err := leased.call(ctx, r)
		if err == nil {
			return reply, leased, nil
		}
		retry := reused && !leased.alive() && noAnswer(err) && ctx.Err() == nil
		s.pool.release(leased, false)
		if !retry {
			return wire.Reply{}, nil, err
		}
	}
}

// Begin begins a session in a process of its own, or in the shared one.
func (s *Source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	env.Page = env.Page.OrDefault()
	reply, sandbox, err := s.lease(ctx, memoryCap(&s.pool.options, env.Mem), wire.Request{Op: wire.OpBegin, Env: &env})
	if err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	sandbox.child.log.setStream(env.Stream)
	return &session{source: s, sandbox: sandbox, id: reply.Session, mem: env.Mem}, nil
}

// Close closes the source in every process, and ends the processes whether or not
// that succeeds.
func (s *Source) Close() error {
	s.once.Do(func() { s.err = sources.WithOp("close", "", s.pool.close()) })
	return s.err
}

type session struct {
	source  *Source
	sandbox *sandbox
	id      uint64
	mem     memory.Allocator
	once    sync.Once
	err     error

	mu          sync.Mutex
	closed      bool
	peak, limit int64 // of the process, when the session was closed
}

// SandboxMemory returns how many private bytes the session's process holds, how many it
// held at most in the session, and its cap. After Close held is 0, and peak and
// limit keep their values. If sessions share a process, the figures are those of
// the whole process.
func (n *session) SandboxMemory() (held, peak, limit int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return 0, n.peak, n.limit
	}
	m := n.sandbox.child.meter
	return m.held.Load(), m.peak.Load(), m.limit.Load()
}

// Plan requests a plan from the process.
func (n *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	reply, err := n.sandbox.call(ctx, wire.Request{Op: wire.OpPlan, Session: n.id, Query: q})
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	return reply.Plan, nil
}

// Close ends the session and returns its process to the pool. If the process has
// ended, the session has too.
func (n *session) Close() error {
	n.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if n.sandbox.alive() {
			_, n.err = n.sandbox.call(ctx, wire.Request{Op: wire.OpEnd, Session: n.id})
		}
		unusable := noAnswer(n.err)
		if unusable {
			n.err = nil // the scan has returned the error; the process is ended
		}
		n.sandbox.child.meter.sample()
		_, peak, limit := n.SandboxMemory()
		n.mu.Lock()
		n.closed, n.peak, n.limit = true, peak, limit
		n.mu.Unlock()
		n.source.pool.release(n.sandbox, unusable)
		n.err = sources.WithOp("close", "", n.err)
	})
	return n.err
}
