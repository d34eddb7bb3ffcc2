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

// instance is a running module: a command on its own goroutine, whose standard input
// and output are connected to this package. One goroutine at a time may use it.
type instance struct {
	module *module
	ctx    context.Context // its end stops an interruptible module
	cancel context.CancelFunc
	in     *inbox
	out    *outbox
	err    *stderrLog
	memory *linear
	frames *wire.FrameReader

	// pending, if not 0, is the kind of the frame that ends the reply to an abandoned
	// request. Everything up to that frame is skipped before the next request.
	pending wire.FrameKind
	dead    bool          // the instance was killed
	timer   *time.Timer   // ends it after IdleTimeout; guarded by the source's lock
	done    chan struct{} // closed when the command has ended
}

func newInstance(m *module) *instance {
	i := &instance{
		module: m, in: newInbox(), out: newOutbox(),
		err:    &stderrLog{log: m.options.Logger.With("module", m.name)},
		memory: &linear{limit: m.options.Memory},
		done:   make(chan struct{}),
	}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	i.frames = wire.NewFrameReader(i.out)
	return i
}

// ended is the last call of the command's goroutine.
func (i *instance) ended(err error) {
	i.memory.Free() // the runtime frees it only if the module was started
	i.in.close()
	i.out.close(i.fault(err))
	i.cancel()
	close(i.done)
}

// fault returns the error for requests that wait when the command ends.
func (i *instance) fault(err error) error {
	if e := i.memory.exhausted(i.module.name); e != nil && err != nil {
		return e
	}
	var exit *sys.ExitError
	what := ""
	switch {
	case err == nil, errors.As(err, &exit) && exit.ExitCode() == 0:
		what = "ended before it replied"
	case exit != nil:
		what = fmt.Sprintf("exited with code %d", exit.ExitCode())
	default:
		// In the runtime's error the module's stack follows.
		line, _, _ := strings.Cut(err.Error(), "\n")
		if _, after, ok := strings.Cut(line, "failed: "); ok {
			line = after
		}
		what = "crashed: " + strings.TrimSuffix(line, " (recovered by wazero)")
	}
	if reason := i.err.exitReason(); reason != "" {
		what += ": " + reason
	}
	return sources.NewError(sources.Unavailable, "", "", ended{fmt.Sprintf("module %q %s", i.module.name, what)})
}

// ended is the cause of an error that reports the end of a command.
type ended struct{ text string }

func (e ended) Error() string { return e.text }

var errStall = errors.New("stall")

// await calls f, whose reads fail when ctx ends or the stall timeout passes.
//
//   - If ctx has ended, the error is of kind [sources.Canceled]. The instance stays
//     alive, and its reply up to the frame of kind last is skipped later.
//   - If the timeout has passed, or the reply is malformed, the instance is killed.
func (i *instance) await(ctx context.Context, last wire.FrameKind, f func() error) error {
	wait, cancel := context.WithTimeoutCause(ctx, i.module.options.StallTimeout, errStall)
	defer cancel()
	i.out.ctx = wait
	err := f()
	i.out.ctx = context.Background()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errStall):
		err = sources.Errorf(sources.Unavailable, "", "", "module %q did not answer within %s", i.module.name, i.module.options.StallTimeout)
		i.kill(err)
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		i.pending = last
		return sources.NewError(sources.Canceled, "", "", err)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		err = sources.Errorf(sources.Unavailable, "", "", "module %q closed its output", i.module.name)
		i.kill(err)
	default:
		i.kill(err)
	}
	return err
}

// kill abandons the instance: its reads and writes fail from now on.
func (i *instance) kill(err error) {
	i.dead = true
	i.in.close()
	i.out.close(err)
	i.cancel()
}

// alive reports whether the instance accepts requests.
func (i *instance) alive() bool {
	select {
	case <-i.done:
		return false
	default:
		return !i.dead
	}
}

// send writes a line to the module. If the module has ended, the next read returns
// the error.
func (i *instance) send(line []byte) {
	_, _ = i.in.Write(append(line, '\n'))
}

// drain skips the rest of the reply to an abandoned request.
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

// call sends a request and returns its only reply.
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
			return i.violation("the reply to %s is a frame of kind %q", r.Op, rune(kind))
		}
		b, err := i.frames.Bytes(int64(wire.ReplyLimit(r.Op)))
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

// violation returns the error of a module that violates the protocol.
func (i *instance) violation(format string, args ...any) error {
	return sources.Errorf(sources.Invalid, "", "", "module %q: %w", i.module.name, fmt.Errorf(format, args...))
}

// open sends the first request to an instance.
func (i *instance) open(ctx context.Context, c sources.Config) error {
	reply, err := i.call(ctx, wire.Request{Op: wire.OpOpen, Memory: i.module.options.Memory, Config: &c})
	switch {
	case err == nil:
		return wire.CheckVersion(i.module.name, reply.Version)
	case reply.Version != 0 && reply.Version != wire.Version:
		return wire.CheckVersion(i.module.name, reply.Version)
	case errors.As(err, new(ended)):
		// A command that ends at once would do so again, so a retry is useless.
		return sources.Errorf(sources.Invalid, "", "", "%w; is it a Penstock source?", cause(err))
	}
	return err
}

func cause(err error) error {
	if e, ok := err.(*sources.Error); ok && e.Err != nil {
		return e.Err
	}
	return err
}

// closeTimeout is how long a busy module has to notice that its standard input and
// output are closed.
const closeTimeout = time.Second

// stop ends the instance. It returns when the command's goroutine has ended. If the
// command does not stop, it returns an error; the memory of the instance is freed
// when the command ends.
func (i *instance) stop() error {
	i.in.close()
	if !i.dead && i.pending == 0 {
		// The module reads the end of its input and closes its source.
		if i.waitDone(closeTimeout) {
			return nil
		}
	}
	i.kill(io.ErrClosedPipe)
	if i.waitDone(closeTimeout) {
		return nil
	}
	return sources.Errorf(sources.Unavailable, "close", "", "module %q is still computing and cannot be stopped in this process: run it in a process of its own", i.module.name)
}

// waitDone reports whether the command ends within the timeout.
func (i *instance) waitDone(timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-i.done:
		return true
	case <-timer.C:
		return false
	}
}

// nearLimit reports whether the memory of the instance is so close to its limit that
// the next session should have a new one: a module's memory never shrinks.
func (i *instance) nearLimit() bool { return i.memory.size.Load() > i.module.options.Memory/4*3 }
