package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// sandbox is a process whose source is open.
type sandbox struct {
	child       *child
	client      flight.FlightServiceClient
	callTimeout time.Duration

	// The pool's lock guards the fields below.
	sessions int         // sessions that use it now
	unusable bool        // it did not end a session in order
	timer    *time.Timer // ends it after IdleTimeout
}

// call sends a request and waits for the reply, at most for the call timeout.
func (s *sandbox) call(ctx context.Context, r wire.Request) (wire.Reply, error) {
	b, err := wire.MarshalRequest(r)
	if err != nil {
		return wire.Reply{}, err
	}
	late := sources.Errorf(sources.Unavailable, "", "", "plugin %q did not answer within %s", s.child.name, s.callTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, s.callTimeout, late)
	defer cancel()
	results, err := s.client.DoAction(ctx, &flight.Action{Type: string(r.Op), Body: b}, grpc.MaxCallRecvMsgSize(wire.ReplyLimit(r.Op)))
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

// fault returns the error of a failed call: the caller canceled it, the process did
// not answer in time, exceeded its memory cap, or has ended.
func (s *sandbox) fault(ctx context.Context, err error) error {
	// gRPC sends the deadline of a call to the process, whose timer may fire shortly
	// before the one here. Waiting for this one identifies the timeout.
	if code := status.Code(err); code == codes.Canceled || code == codes.DeadlineExceeded {
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Second {
			<-ctx.Done()
		}
	}
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		var e *sources.Error
		if errors.As(cause, &e) {
			if e.Kind == sources.Unavailable {
				// The process hangs and would not respond to a cancellation. Its end also
				// ends all other calls that wait for it.
				s.child.die()
			}
			return e
		}
		return sources.NewError(sources.Canceled, "", "", cause)
	}
	if over := s.child.meter.over(); over != nil {
		return over
	}
	code := status.Code(err)
	if size, limit := tooLarge(err); size > 0 {
		return sources.Errorf(sources.Exhausted, "", "", "plugin %q sent a message of %s, but the limit is %s", s.child.name, mebibytes(size), mebibytes(limit))
	}
	if code == codes.Unimplemented {
		return sources.Errorf(sources.Invalid, "", "", "plugin %q does not know this request: build it against this version of Penstock", s.child.name)
	}
	// The socket closes shortly before the end of the process is known.
	if s.child.ended(time.Second) {
		return sources.NewError(sources.Unavailable, "", "", s.child.crash())
	}
	if code == codes.Unavailable {
		// The connection is broken, and without the socket's file there can be no
		// other. Ending the process makes later calls fail at once.
		s.child.die()
	}
	return sources.Errorf(sources.Unavailable, "", "", "plugin %q: %s", s.child.name, said(firstLine(status.Convert(err).Message())))
}

// tooLarge returns the size of a message that gRPC refused, and the limit, in bytes. They
// are zero if err is something else.
func tooLarge(err error) (size, limit int64) {
	if status.Code(err) != codes.ResourceExhausted {
		return 0, 0
	}
	if _, err := fmt.Sscanf(status.Convert(err).Message(), "grpc: received message larger than max (%d vs. %d)", &size, &limit); err != nil {
		return 0, 0
	}
	return size, limit
}

// open sends the first request.
func (s *sandbox) open(ctx context.Context, limit int64, c sources.Config) error {
	reply, err := s.call(ctx, wire.Request{Op: wire.OpOpen, Version: wire.Version, Memory: limit, Config: &c})
	if err != nil {
		return err
	}
	return wire.CheckVersion(fmt.Sprintf("plugin %q", s.child.name), reply.Version)
}

// alive reports whether the process can be called.
func (s *sandbox) alive() bool { return !s.child.exited() && s.child.meter.over() == nil }

// closeTimeout is how long a source or a session may take to close.
const closeTimeout = 2 * time.Second

// end closes the source, and ends the process whether or not that succeeds.
func (s *sandbox) end() error {
	var err error
	if s.alive() && !s.unusable {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		_, err = s.call(ctx, wire.Request{Op: wire.OpClose})
		cancel()
	}
	s.child.kill()
	if noAnswer(err) {
		return nil // it was to end anyway
	}
	return err
}

// noAnswer reports whether an error means that the process did not answer, rather
// than that the source returned an error.
func noAnswer(err error) bool {
	kind := sources.KindOf(err)
	return err != nil && (kind == sources.Unavailable || kind == sources.Canceled || errors.As(err, new(*Excess)))
}
