package process

import (
	"context"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// Open starts a process and opens its source. The configuration crosses in the
// open call, so no secret of it is seen in an argument list or an environment.
// Each session leases a process of its own, which was opened by the same
// configuration, unless Options.Share has one serve all; the first session finds
// the one that Open started. Close ends them all. The errors are the source's
// own, or of kind [sources.Unavailable] where a process died or did not answer,
// [sources.Exhausted] where it was killed for what it held, and
// [sources.Invalid] where it is no source of this protocol.
//
// The result is a [*Source].
func Open(ctx context.Context, o Options, c sources.Config) (sources.Source, error) {
	s := &Source{pool: newPool(o.orDefault(), c)}
	i, _, err := s.pool.lease(ctx, s.pool.options.capFor(nil))
	if err != nil {
		return nil, sources.WithOp("open", "", err)
	}
	s.pool.release(i, false)
	return s, nil
}

// Source is the host's end of a source whose sessions run in processes.
type Source struct {
	pool *pool

	mu      sync.Mutex
	catalog *sources.Catalog

	once sync.Once // closes
	err  error     // of the close
}

// Isolates says what the source's processes hold now, also those that wait for a
// session. It asks nobody: the figures are those of the last look.
func (s *Source) Isolates() []Usage { return s.pool.usage() }

// Catalog asks one process, once.
func (s *Source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.catalog == nil {
		reply, i, err := s.first(ctx, s.pool.options.capFor(nil), wire.Request{Op: wire.OpCatalog})
		if err != nil {
			return nil, sources.WithOp("catalog", "", err)
		}
		s.pool.release(i, false)
		s.catalog = reply.Catalog
	}
	return s.catalog, nil
}

// first leases an isolate and asks it the first thing. One that waited, and is
// found to be dead, is nobody's fault: the next is asked.
func (s *Source) first(ctx context.Context, limit int64, r wire.Request) (wire.Reply, *isolate, error) {
	for {
		i, warm, err := s.pool.lease(ctx, limit)
		if err != nil {
			return wire.Reply{}, nil, err
		}
		r.Memory = limit
		reply, err := i.ask(ctx, r)
		if err == nil {
			return reply, i, nil
		}
		again := warm && !i.alive() && gone(err) && ctx.Err() == nil
		s.pool.release(i, false)
		if !again {
			return wire.Reply{}, nil, err
		}
	}
}

// Begin leases a process and begins a session in it.
func (s *Source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	env.Page = env.Page.OrDefault()
	reply, i, err := s.first(ctx, s.pool.options.capFor(env.Mem), wire.Request{Op: wire.OpBegin, Env: &env})
	if err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	i.child.lines.serve(env.Stream)
	return &session{source: s, isolate: i, id: reply.Session, mem: env.Mem}, nil
}

// Close tells the source to close in every process, and ends them whatever they
// say.
func (s *Source) Close() error {
	s.once.Do(func() { s.err = sources.WithOp("close", "", s.pool.close()) })
	return s.err
}

type session struct {
	source  *Source
	isolate *isolate
	id      uint64
	mem     memory.Allocator
	once    sync.Once
	err     error

	mu          sync.Mutex
	closed      bool
	peak, limit int64 // of the isolate, when the session was closed
}

// Isolate says what the session's process holds now, the most that it held in the
// session, and its cap, in bytes of private memory. After the session's Close it
// holds nothing for it, and the others stay. Where sessions share a process the
// figures are those of all.
func (n *session) SandboxMemory() (held, peak, limit int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return 0, n.peak, n.limit
	}
	m := n.isolate.child.meter
	return m.held.Load(), m.peak.Load(), m.limit.Load()
}

// Plan asks the process.
func (n *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	reply, err := n.isolate.ask(ctx, wire.Request{Op: wire.OpPlan, Session: n.id, Query: q})
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	return reply.Plan, nil
}

// Close ends the session in the process and gives the process back. Where the
// process is gone, so is the session.
func (n *session) Close() error {
	n.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		if n.isolate.alive() {
			_, n.err = n.isolate.ask(ctx, wire.Request{Op: wire.OpEnd, Session: n.id})
		}
		spoilt := gone(n.err)
		if spoilt {
			n.err = nil // the scan has told; the process ends
		}
		n.isolate.child.meter.now()
		_, peak, limit := n.SandboxMemory()
		n.mu.Lock()
		n.closed, n.peak, n.limit = true, peak, limit
		n.mu.Unlock()
		n.source.pool.release(n.isolate, spoilt)
		n.err = sources.WithOp("close", "", n.err)
	})
	return n.err
}
