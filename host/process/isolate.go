package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// isolate is a process whose source is open. The fields at the end are the
// pool's, under its lock.
type isolate struct {
	child  *child
	client flight.FlightServiceClient
	call   time.Duration

	sessions int         // that lease it now
	spoilt   bool        // it did not end a session as it should
	timer    *time.Timer // ends it when it was idle for too long
}

// ask sends a request and waits for the reply, no longer than a call may take.
func (i *isolate) ask(ctx context.Context, r wire.Request) (wire.Reply, error) {
	b, err := wire.MarshalRequest(r)
	if err != nil {
		return wire.Reply{}, err
	}
	late := &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("plugin %q did not answer within %s", i.child.name, i.call)}
	ctx, cancel := context.WithTimeoutCause(ctx, i.call, late)
	defer cancel()
	results, err := i.client.DoAction(ctx, &flight.Action{Type: string(r.Op), Body: b})
	if err != nil {
		return wire.Reply{}, i.fault(ctx, err)
	}
	result, err := results.Recv()
	if err != nil {
		return wire.Reply{}, i.fault(ctx, err)
	}
	reply, err := wire.UnmarshalReply(r.Op, result.GetBody())
	if err != nil {
		return wire.Reply{}, err
	}
	return reply, reply.Err
}

// fault says what a failed call means: that the caller gave up, that the process
// was too slow, that it held too much, or that it is gone.
func (i *isolate) fault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		var e *sources.Error
		if errors.As(cause, &e) {
			if e.Kind == sources.Unavailable {
				// It hangs, and would not hear that it should stop: what waits for it
				// is told by its end.
				i.child.die()
			}
			return e
		}
		return &sources.Error{Kind: sources.Canceled, Err: cause}
	}
	if over := i.child.meter.over(); over != nil {
		return over
	}
	code := status.Code(err)
	if code == codes.ResourceExhausted {
		return &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("plugin %q sent a message of more than %d MiB", i.child.name, maxMessage>>20)}
	}
	if code == codes.Unimplemented {
		return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("plugin %q does not know this request: build it against this version of penstock", i.child.name)}
	}
	// The socket closes a moment before the process is known to be dead.
	if i.child.ended(time.Second) {
		return &sources.Error{Kind: sources.Unavailable, Err: &Crash{Name: i.child.name, How: i.child.how(), Stderr: i.child.lines.last()}}
	}
	if code == codes.Unavailable {
		// The connection is broken, and its socket has no file by which another
		// could be made: whoever asks the process next is told at once.
		i.child.die()
	}
	return &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("plugin %q: %s", i.child.name, firstLine(status.Convert(err).Message()))}
}

// open is the first request.
func (i *isolate) open(ctx context.Context, limit int64, c sources.Config) error {
	reply, err := i.ask(ctx, wire.Request{Op: wire.OpOpen, Version: wire.Version, Memory: limit, Config: &c})
	if err != nil {
		return err
	}
	return wire.CheckVersion(fmt.Sprintf("plugin %q", i.child.name), reply.Version)
}

// alive reports whether the process can be asked anything.
func (i *isolate) alive() bool { return !i.child.exited() && i.child.meter.over() == nil }

// closeWait is how long a source, or a session, may take to close by itself.
const closeWait = 2 * time.Second

// end tells the source to close, and ends the process whatever it says.
func (i *isolate) end() error {
	var err error
	if i.alive() && !i.spoilt {
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		_, err = i.ask(ctx, wire.Request{Op: wire.OpClose})
		cancel()
	}
	i.child.kill()
	if gone(err) {
		return nil // as was asked
	}
	return err
}

// gone reports whether an error says that the process did not answer: where it
// was to end, it is nothing to tell.
func gone(err error) bool {
	kind := sources.KindOf(err)
	return err != nil && (kind == sources.Unavailable || kind == sources.Canceled || errors.As(err, new(*Excess)))
}
