package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// Open starts a process and opens its source. The configuration crosses in the
// open call, so no secret of it is seen in an argument list or an environment.
// One process serves every session of the source; it is killed by Close. The
// errors are the source's own, or of kind [sources.Unavailable] where the process
// died or did not answer, and [sources.Invalid] where it is no source of this
// protocol.
func Open(ctx context.Context, o Options, c sources.Config) (sources.Source, error) {
	if o.Call <= 0 {
		o.Call = DefaultCall
	}
	if o.Stall <= 0 {
		o.Stall = DefaultStall
	}
	child, err := start(ctx, o)
	if err != nil {
		return nil, sources.WithOp("open", "", err)
	}
	s := &source{child: child, client: flight.NewFlightServiceClient(child.conn), call: o.Call, stall: o.Stall}
	reply, err := s.ask(ctx, wire.Request{Op: wire.OpOpen, Version: wire.Version, Config: &c})
	if err == nil {
		err = wire.CheckVersion(fmt.Sprintf("plugin %q", child.name), reply.Version)
	}
	if err != nil {
		child.kill()
		return nil, sources.WithOp("open", "", err)
	}
	// The connection is up, and there is only one. Without its file the socket
	// leaves nothing behind, whatever happens to the host.
	_ = os.RemoveAll(child.dir) // kill tries again
	return s, nil
}

// source is the host's end of a process's source.
type source struct {
	child       *child
	client      flight.FlightServiceClient
	call, stall time.Duration

	mu      sync.Mutex
	catalog *sources.Catalog

	once sync.Once // closes
	err  error     // of the close
}

// ask sends a request and waits for the reply, no longer than a call may take.
func (s *source) ask(ctx context.Context, r wire.Request) (wire.Reply, error) {
	b, err := wire.MarshalRequest(r)
	if err != nil {
		return wire.Reply{}, err
	}
	late := &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("plugin %q did not answer within %s", s.child.name, s.call)}
	ctx, cancel := context.WithTimeoutCause(ctx, s.call, late)
	defer cancel()
	results, err := s.client.DoAction(ctx, &flight.Action{Type: string(r.Op), Body: b})
	if err != nil {
		return wire.Reply{}, s.fault(ctx, err)
	}
	result, err := results.Recv()
	if err != nil {
		return wire.Reply{}, s.fault(ctx, err)
	}
	reply, err := wire.UnmarshalReply(r.Op, result.GetBody())
	if err != nil {
		return wire.Reply{}, err
	}
	return reply, reply.Err
}

// fault says what a failed call means: that the caller gave up, that the process
// was too slow, or that it is gone.
func (s *source) fault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		var e *sources.Error
		if errors.As(cause, &e) {
			return e
		}
		return &sources.Error{Kind: sources.Canceled, Err: cause}
	}
	code := status.Code(err)
	if code == codes.ResourceExhausted {
		return &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("plugin %q sent a message of more than %d MiB", s.child.name, maxMessage>>20)}
	}
	if code == codes.Unimplemented {
		return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("plugin %q does not know this request: build it against this version of penstock", s.child.name)}
	}
	// The socket closes a moment before the process is known to be dead.
	if s.child.ended(time.Second) {
		return &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("plugin %q %s", s.child.name, s.child.how())}
	}
	return &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("plugin %q: %s", s.child.name, firstLine(status.Convert(err).Message()))}
}

// Catalog asks once.
func (s *source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.catalog == nil {
		reply, err := s.ask(ctx, wire.Request{Op: wire.OpCatalog})
		if err != nil {
			return nil, sources.WithOp("catalog", "", err)
		}
		s.catalog = reply.Catalog
	}
	return s.catalog, nil
}

// Begin begins a session in the process.
func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	env.Page = env.Page.OrDefault()
	reply, err := s.ask(ctx, wire.Request{Op: wire.OpBegin, Env: &env})
	if err != nil {
		return nil, sources.WithOp("begin", "", err)
	}
	return &session{source: s, id: reply.Session, mem: env.Mem}, nil
}

// Close tells the source to close, and ends the process whatever it says.
func (s *source) Close() error {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		if !s.child.client.Exited() {
			_, s.err = s.ask(ctx, wire.Request{Op: wire.OpClose})
		}
		s.child.kill()
		if kind := sources.KindOf(s.err); kind == sources.Unavailable || kind == sources.Canceled {
			s.err = nil // it is gone now, as was asked
		}
		s.err = sources.WithOp("close", "", s.err)
	})
	return s.err
}

// closeWait is how long a source, or a session, may take to close by itself.
const closeWait = 2 * time.Second

type session struct {
	source *source
	id     uint64
	mem    memory.Allocator
	once   sync.Once
	err    error
}

// Plan asks the process.
func (n *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	reply, err := n.source.ask(ctx, wire.Request{Op: wire.OpPlan, Session: n.id, Query: q})
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	return reply.Plan, nil
}

// Close ends the session in the process. Where the process is gone, so is the
// session.
func (n *session) Close() error {
	n.once.Do(func() {
		if n.source.child.client.Exited() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		_, n.err = n.source.ask(ctx, wire.Request{Op: wire.OpEnd, Session: n.id})
		if kind := sources.KindOf(n.err); kind == sources.Unavailable || kind == sources.Canceled {
			n.err = nil // the scan has told; the source's Close ends what is left
		}
		n.err = sources.WithOp("close", "", n.err)
	})
	return n.err
}
