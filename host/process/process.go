// Package process runs sources as processes of their own: hashicorp/go-plugin
// executables that speak Arrow Flight, as package serve makes them. A process
// that crashes, hangs or lies is an error of its own streams and of nothing
// else.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
)

// Options are how a process is started and how long it is waited for.
type Options struct {
	// Command is the executable and its arguments. No secret belongs here: other
	// users of the machine can read it.
	Command []string
	// Self is the name of one of the running program's own sources. The program
	// is started once more then, in the place of Command, and must call
	// [serve.Main] first in its main.
	Self string
	// Name is the source's in errors and logs; empty is the executable's.
	Name string
	// Logger takes what the process writes to standard error, line by line; nil
	// discards it.
	Logger *slog.Logger
	// Call is how long the process may take to answer a call, and to start; 0 is
	// [DefaultCall]. Stall is how long a scan waits for the next page; 0 is
	// [DefaultStall]. Time that the consumer of a scan takes does not count.
	Call, Stall time.Duration
}

// The times that a process is waited for.
const (
	DefaultCall  = 30 * time.Second
	DefaultStall = 30 * time.Second
)

// child is a running process.
type child struct {
	name   string
	dir    string // of its socket
	cmd    *exec.Cmd
	client *plugin.Client
	conn   *grpc.ClientConn
	die    context.CancelFunc // kills the process with what it has started
	free   chan struct{}      // closed to end the thread that started it
	once   sync.Once
}

// maxMessage bounds what gRPC takes in before anyone can count it: a page's
// ceiling is far below, but a page of one row may be as large as the row.
const maxMessage = 64 << 20

// start starts a process and connects to it. After an error nothing is left.
func start(ctx context.Context, o Options) (*child, error) {
	c := &child{name: o.Name, free: make(chan struct{})}
	command := o.Command
	if o.Self != "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("this program cannot find itself: %w", err)
		}
		command = []string{self}
	}
	if len(command) == 0 {
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.New("no executable is named")}
	}
	if c.name == "" {
		c.name = filepath.Base(command[0])
	}
	if info, err := os.Stat(command[0]); err == nil && info.IsDir() {
		return nil, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%s is a directory: name the plugin's executable", command[0])}
	}
	dir, err := os.MkdirTemp("", "penstock-")
	if err != nil {
		return nil, err
	}
	c.dir = dir
	life, die := context.WithCancel(context.WithoutCancel(ctx))
	c.die = die
	c.cmd = exec.CommandContext(life, command[0], command[1:]...)
	c.cmd.Cancel = func() error { return killGroup(c.cmd.Process) }
	c.cmd.Env = append(os.Environ(), plugin.EnvUnixSocketDir+"="+dir)
	if o.Self != "" {
		c.cmd.Env = append(c.cmd.Env, serve.SelfVariable+"="+o.Self)
	}
	isolate(c.cmd)
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  serve.Handshake,
		Plugins:          plugin.PluginSet{"source": nobody{}},
		Cmd:              c.cmd,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     o.Call,
		Stderr:           &lines{log: logger.With("plugin", c.name)},
		Logger:           hclog.NewNullLogger(),
		SkipHostEnv:      true,
	})
	target, err := c.launch(ctx)
	if err != nil {
		c.kill()
		return nil, err
	}
	c.conn, err = grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(1<<20),
		grpc.WithIdleTimeout(0), // the socket's file will be gone
		grpc.WithReadBufferSize(256<<10), grpc.WithWriteBufferSize(256<<10),
	)
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// launch starts the process from a thread that lives as long as the process:
// where the kernel kills a child whose parent dies, it means the thread.
func (c *child) launch(ctx context.Context) (target string, err error) {
	type started struct {
		target string
		err    error
	}
	result := make(chan started, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		addr, err := c.client.Start()
		if err != nil {
			result <- started{err: c.explain(err)}
		} else if addr.Network() == "unix" {
			result <- started{target: "unix:" + addr.String()}
		} else {
			result <- started{target: "passthrough:///" + addr.String()}
		}
		<-c.free
	}()
	select {
	case r := <-result:
		return r.target, r.err
	case <-ctx.Done():
		c.die()
		<-result // Start returns once the process is dead
		return "", context.Cause(ctx)
	}
}

// explain puts what go-plugin says of a process that did not start into one
// line.
func (c *child) explain(err error) error {
	unavailable := func(format string, args ...any) error {
		return &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("plugin %q "+format, append([]any{c.name}, args...)...)}
	}
	var path *os.PathError
	var missing *exec.Error
	switch {
	case errors.As(err, &missing), errors.As(err, &path):
		return &sources.Error{Kind: sources.KindOf(err), Err: err}
	}
	text := err.Error()
	switch {
	case contains(text, "timeout while waiting for plugin to start"):
		return unavailable("did not say hello in time: is it a penstock source?")
	case contains(text, "ailed to read any lines", "exited before we could connect") && c.ended(time.Second):
		return unavailable("%s before it said hello: is it a penstock source?", c.how())
	case contains(text, "nrecognized remote plugin message", "unsupported plugin protocol", "rror parsing"):
		return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("plugin %q does not say hello as a penstock source does: is it one?", c.name)}
	case contains(text, "ncompatible"):
		return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("plugin %q says hello in another version: build it against this version of penstock", c.name)}
	}
	return unavailable("did not start: %s", firstLine(text))
}

// how says in what way the process ended.
func (c *child) how() string {
	if state := c.cmd.ProcessState; state != nil {
		return describe(state)
	}
	return "was stopped"
}

// ended waits until the process is gone, no longer than that.
func (c *child) ended(wait time.Duration) bool {
	for deadline := time.Now().Add(wait); !c.client.Exited(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// kill ends the process and removes what is left of it. Only the first call
// does something. It asks nobody: go-plugin's own Kill asks a process to end, and
// a stopped one never answers.
func (c *child) kill() {
	c.once.Do(func() {
		if c.conn != nil {
			_ = c.conn.Close() // the peer is about to die
		}
		c.die()
		if c.cmd.Process != nil {
			c.ended(5 * time.Second)
		}
		close(c.free)
		_ = os.RemoveAll(c.dir) // a socket that is left there hurts nobody
	})
}

// nobody is the plugin that go-plugin's client must be told of. The connection
// to it is our own: we need none of the client's further services.
type nobody struct{ plugin.NetRPCUnsupportedPlugin }
