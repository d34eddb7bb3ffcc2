//go:build !wasip1 && !js

package serve

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// maxRequest is the maximum size of a request; the largest ones have the keys of a
// lookup.
const maxRequest = wire.MaxMessage + 1<<20

// server is a Flight server that handles requests as actions and scans as DoGet. It
// serves any number of sessions concurrently.
type server struct {
	flight.BaseFlightServer
	open   sources.Open
	stderr *os.File // the original standard error, which go-plugin replaces

	mu       sync.Mutex
	source   sources.Source
	sessions map[uint64]*session
	last     uint64 // the last session id
}

// session is a session of the source and its running scans. A host that stops a scan
// does not wait for its end. But the contract promises the source that a scan has
// ended before the session is closed, and before MaxScans would be exceeded, so session
// waits for it.
type session struct {
	sources.Session
	mu    sync.Mutex
	scans map[chan struct{}]context.Context // the context of each scan, by a channel that is closed at its end
}

// enter registers a scan after waiting for the scans that the host has stopped. The
// caller must call leave at the end of the scan.
func (n *session) enter(ctx context.Context) (leave func(), err error) {
	end := make(chan struct{})
	var left []chan struct{}
	n.mu.Lock()
	for other, c := range n.scans {
		if c.Err() != nil {
			left = append(left, other)
		}
	}
	n.scans[end] = ctx
	n.mu.Unlock()
	leave = func() {
		n.mu.Lock()
		delete(n.scans, end)
		n.mu.Unlock()
		close(end)
	}
	for _, other := range left {
		select {
		case <-other:
		case <-ctx.Done():
			leave()
			return nil, context.Cause(ctx)
		}
	}
	return leave, nil
}

// Close waits for all scans and closes the session.
func (n *session) Close() error {
	n.mu.Lock()
	ends := slices.Collect(maps.Keys(n.scans))
	n.mu.Unlock()
	for _, end := range ends {
		<-end
	}
	return n.Session.Close()
}

// DoAction handles any request except scan. The action's type is the op, its body is
// the request, and its only result is the reply.
func (s *server) DoAction(action *flight.Action, to flight.FlightService_DoActionServer) error {
	reply := s.answer(to.Context(), action.GetBody())
	b, err := wire.MarshalReply(reply)
	if err != nil {
		if b, err = wire.MarshalReply(wire.Reply{Version: reply.Version, Err: err}); err != nil {
			return err
		}
	}
	return to.Send(&flight.Result{Body: b})
}

func (s *server) answer(ctx context.Context, request []byte) wire.Reply {
	r, err := wire.UnmarshalRequest(request, memory.DefaultAllocator)
	if err != nil {
		return wire.Reply{Err: err}
	}
	defer r.Release()
	table := ""
	if r.Query != nil {
		table = r.Query.Table
	}
	reply, err := sources.GuardCall(string(r.Op), table, func() (wire.Reply, error) { return s.call(ctx, r) })
	reply.Err = err
	return reply
}

func (s *server) call(ctx context.Context, r wire.Request) (wire.Reply, error) {
	switch r.Op {
	case wire.OpOpen:
		return s.start(ctx, r)
	case wire.OpCatalog:
		source, err := s.opened()
		if err != nil {
			return wire.Reply{}, err
		}
		catalog, err := source.Catalog(r.Context(ctx))
		return wire.Reply{Catalog: catalog}, err
	case wire.OpBegin:
		keepTo(r.Memory)
		return s.begin(ctx, *r.Env)
	case wire.OpPlan:
		session, err := s.session(r.Session)
		if err != nil {
			return wire.Reply{}, err
		}
		plan, err := session.Plan(ctx, r.Query)
		return wire.Reply{Plan: plan}, err
	case wire.OpEnd:
		s.mu.Lock()
		session := s.sessions[r.Session]
		delete(s.sessions, r.Session)
		s.mu.Unlock()
		if session == nil {
			return wire.Reply{}, nil
		}
		return wire.Reply{}, session.Close()
	case wire.OpClose:
		return wire.Reply{}, s.close()
	}
	return wire.Reply{}, sources.Errorf(sources.Invalid, "", "", "%s is not an action", r.Op)
}

func (s *server) start(ctx context.Context, r wire.Request) (wire.Reply, error) {
	reply := wire.Reply{Version: wire.Version}
	if r.Version != wire.Version {
		return reply, nil // the host compares the versions and knows both names
	}
	// go-plugin has replaced these by pipes that nothing reads.
	os.Stdout, os.Stderr = s.stderr, s.stderr
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source != nil {
		return reply, sources.Errorf(sources.Invalid, "", "", "the source is open already")
	}
	source, err := s.open(context.WithoutCancel(ctx), *r.Config)
	if err == nil {
		s.source, s.sessions = source, map[uint64]*session{}
	}
	return reply, err
}

func (s *server) opened() (sources.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source == nil {
		return nil, sources.Errorf(sources.Invalid, "", "", "the source is not open")
	}
	return s.source, nil
}

func (s *server) begin(ctx context.Context, env sources.Env) (wire.Reply, error) {
	source, err := s.opened()
	if err != nil {
		return wire.Reply{}, err
	}
	env.Mem = memory.DefaultAllocator
	begun, err := source.Begin(ctx, env)
	if err != nil {
		return wire.Reply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source == nil || ctx.Err() != nil { // the host cannot end the session
		gone := sources.Errorf(sources.Canceled, "", "", "the host canceled the request or closed the source")
		return wire.Reply{}, errors.Join(gone, begun.Close())
	}
	s.last++
	s.sessions[s.last] = &session{Session: begun, scans: map[chan struct{}]context.Context{}}
	return wire.Reply{Session: s.last}, nil
}

func (s *server) session(id uint64) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session := s.sessions[id]; session != nil {
		return session, nil
	}
	return nil, sources.Errorf(sources.Invalid, "", "", "there is no session %d", id)
}

func (s *server) close() error {
	s.mu.Lock()
	source, sessions := s.source, s.sessions
	s.source, s.sessions = nil, nil
	s.mu.Unlock()
	var faults []error
	for _, session := range sessions {
		faults = append(faults, session.Close())
	}
	if source != nil {
		faults = append(faults, source.Close())
	}
	return errors.Join(faults...)
}

// DoGet handles a scan. The ticket is the request. The app_metadata of a message is that
// of the page; the last message has no record, and its app_metadata is the trailer.
func (s *server) DoGet(ticket *flight.Ticket, to flight.FlightService_DoGetServer) error {
	out := &sender{to: to}
	err := s.scan(to.Context(), ticket.GetTicket(), out)
	if out.gone != nil {
		return out.gone
	}
	return out.trailer(err)
}

func (s *server) scan(ctx context.Context, request []byte, out *sender) (err error) {
	r, err := wire.UnmarshalRequest(request, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	defer r.Release()
	if r.Op != wire.OpScan {
		return sources.Errorf(sources.Invalid, "", "", "the ticket must be a scan request (got %s)", r.Op)
	}
	session, err := s.session(r.Session)
	if err != nil {
		return sources.WithOp("scan", r.Query.Table, err)
	}
	// The scan ends before its trailer is sent.
	leave, err := session.enter(ctx)
	if err != nil {
		return sources.WithOp("scan", r.Query.Table, err)
	}
	defer leave()
	defer out.close()
	// The guard covers the call of Scan itself too.
	scan := func(yield func(sources.Batch, error) bool) { session.Scan(ctx, r.Query)(yield) }
	for batch, err := range sources.Guard("scan", r.Query.Table, scan) {
		if err != nil {
			return err
		}
		meta := wire.Meta{Page: &wire.Page{Rows: batch.Record.NumRows(), Cursor: batch.Cursor, Due: batch.Due, Skipped: batch.Skipped}}
		if err := out.send(batch.Record, wire.MarshalMeta(meta)); err != nil {
			return sources.WithOp("scan", r.Query.Table, sources.NewError(sources.Invalid, "", "", err))
		}
		out.tally.AddPage(batch.Record.NumRows())
	}
	return nil
}
