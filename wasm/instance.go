package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// instance is one run of the module: a command on a goroutine of its own, with
// the host at both ends of its pipes. One goroutine at a time uses it.
type instance struct {
	module *module
	ctx    context.Context // of the run; its end stops an interruptible module
	cancel context.CancelFunc
	in     *inbox
	out    *outbox
	err    *stderr
	memory *linear
	frames *wire.FrameReader

	// pending is the kind of the frame that still ends the answer to a question
	// that was given up: everything up to it is passed over before the next.
	pending wire.FrameKind
	dead    bool          // the host has given the instance up
	timer   *time.Timer   // ends it when it was idle for too long; the source's, under its lock
	done    chan struct{} // closed when the command has ended
}

func newInstance(m *module) *instance {
	i := &instance{
		module: m, in: newInbox(), out: newOutbox(),
		err:    &stderr{log: m.options.Logger.With("module", m.name)},
		memory: &linear{most: m.options.Memory},
		done:   make(chan struct{}),
	}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	i.frames = wire.NewFrameReader(i.out)
	return i
}

// ended is called by the command's goroutine, last of all.
func (i *instance) ended(err error) {
	i.memory.Free() // the runtime has, unless the module never got so far
	i.in.close()
	i.out.close(i.fault(err))
	i.cancel()
	close(i.done)
}

// fault says why a command ended, to whoever waits for its answer.
func (i *instance) fault(err error) error {
	if e := i.memory.exhausted(i.module.name); e != nil && err != nil {
		return e
	}
	var exit *sys.ExitError
	what := ""
	switch {
	case err == nil, errors.As(err, &exit) && exit.ExitCode() == 0:
		what = "ended before it had answered"
	case exit != nil:
		what = fmt.Sprintf("exited with code %d", exit.ExitCode())
	default:
		// The runtime's error goes on with the module's stack.
		line, _, _ := strings.Cut(err.Error(), "\n")
		if _, after, ok := strings.Cut(line, "failed: "); ok {
			line = after
		}
		what = "crashed: " + strings.TrimSuffix(line, " (recovered by wazero)")
	}
	if why := i.err.why(); why != "" {
		what += ": " + why
	}
	return &sources.Error{Kind: sources.Unavailable, Err: ended{fmt.Sprintf("module %q %s", i.module.name, what)}}
}

// ended is the cause of an error that a command's end made.
type ended struct{ text string }

func (e ended) Error() string { return e.text }

var errStall = errors.New("stall")

// await waits for the module for as long as a call may, and gives f's reads
// their context. What f could not read it says by its error:
//
//   - the caller's context ended: [sources.Canceled]. The instance lives, and
//     its answer up to the frame of kind last is passed over later;
//   - the deadline passed, or what came is no answer: the instance is given up.
func (i *instance) await(ctx context.Context, last wire.FrameKind, f func() error) error {
	wait, cancel := context.WithTimeoutCause(ctx, i.module.options.Stall, errStall)
	defer cancel()
	i.out.ctx = wait
	err := f()
	i.out.ctx = context.Background()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errStall):
		err = &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("module %q did not answer within %s", i.module.name, i.module.options.Stall)}
		i.kill(err)
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		i.pending = last
		return &sources.Error{Kind: sources.Canceled, Err: err}
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		err = &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("module %q closed its output", i.module.name)}
		i.kill(err)
	default:
		i.kill(err)
	}
	return err
}

// kill gives the instance up: its reads and writes fail from now on.
func (i *instance) kill(err error) {
	i.dead = true
	i.in.close()
	i.out.close(err)
	i.cancel()
}

// alive reports whether the instance can be asked anything.
func (i *instance) alive() bool {
	select {
	case <-i.done:
		return false
	default:
		return !i.dead
	}
}

// send writes one line to the module. Where the module has ended, the read that
// follows says why.
func (i *instance) send(line []byte) {
	_, _ = i.in.Write(append(line, '\n'))
}

// drain passes over the rest of an answer that was given up.
func (i *instance) drain(ctx context.Context) error {
	if i.pending == 0 {
		return nil
	}
	last := i.pending
	return i.await(ctx, last, func() error {
		for {
			kind, _, err := i.frames.Next()
			if err != nil {
				return err
			}
			if kind == last {
				i.pending = 0
				return nil
			}
		}
	})
}

// call asks one thing that has one answer.
func (i *instance) call(ctx context.Context, r wire.Request) (wire.Reply, error) {
	b, err := wire.MarshalRequest(r)
	if err != nil {
		return wire.Reply{}, err
	}
	if err := i.drain(ctx); err != nil {
		return wire.Reply{}, err
	}
	i.send(b)
	var reply wire.Reply
	err = i.await(ctx, wire.FrameReply, func() error {
		kind, _, err := i.frames.Next()
		if err != nil {
			return err
		}
		if kind != wire.FrameReply {
			return i.lie("it answered %s with a frame %q", r.Op, rune(kind))
		}
		b, err := i.frames.Bytes(wire.MaxMessage)
		if err != nil {
			return err
		}
		reply, err = wire.UnmarshalReply(r.Op, b)
		return err
	})
	if err != nil {
		return wire.Reply{}, err
	}
	return reply, reply.Err
}

// lie returns the error of a module that breaks the protocol.
func (i *instance) lie(format string, args ...any) error {
	return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("module %q: %w", i.module.name, fmt.Errorf(format, args...))}
}

// open is the first call of an instance.
func (i *instance) open(ctx context.Context, c sources.Config) error {
	reply, err := i.call(ctx, wire.Request{Op: wire.OpOpen, Memory: i.module.options.Memory, Config: &c})
	switch {
	case err == nil:
		return wire.CheckVersion(i.module.name, reply.Version)
	case reply.Version != 0 && reply.Version != wire.Version:
		return wire.CheckVersion(i.module.name, reply.Version)
	case errors.As(err, new(ended)):
		// A command that ends at once will do so again.
		return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%w; is it a penstock source?", cause(err))}
	}
	return err
}

func cause(err error) error {
	if e, ok := err.(*sources.Error); ok && e.Err != nil {
		return e.Err
	}
	return err
}

// closeGrace is how long a module that computes has to notice that its pipes
// are closed.
const closeGrace = time.Second

// stop ends the instance. It returns when the command's goroutine has ended, or
// an error where the command goes on computing: then what it holds is freed when
// it does end.
func (i *instance) stop() error {
	i.in.close()
	if !i.dead && i.pending == 0 {
		// It reads the end of its input and closes its source.
		if i.wait(closeGrace) {
			return nil
		}
	}
	i.kill(io.ErrClosedPipe)
	if i.wait(closeGrace) {
		return nil
	}
	return &sources.Error{Op: "close", Kind: sources.Unavailable, Err: fmt.Errorf("module %q goes on computing and cannot be stopped in this process", i.module.name)}
}

func (i *instance) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-i.done:
		return true
	case <-timer.C:
		return false
	}
}

// peaked reports whether the instance's memory has grown so much that a new one
// is better: a module's memory never shrinks.
func (i *instance) peaked() bool { return i.memory.size.Load() > i.module.options.Memory/4*3 }
