package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
)

// child is a running process. It is go-plugin's runner of it too, for the sampler
// of its memory must begin before the process says hello.
type child struct {
	name   string
	dir    string // of its socket
	cmd    *exec.Cmd
	stdout io.ReadCloser
	stderr io.ReadCloser
	lines  *lines
	client *plugin.Client
	conn   *grpc.ClientConn
	meter  *meter
	die    context.CancelFunc // kills the process with what it has started
	free   chan struct{}      // closed to end the thread that started it
	gone   chan struct{}      // closed when the process has ended; its state can be read then
	once   sync.Once
}

// maxMessage bounds a message that is no page: a page's bound is what its
// session may hold.
const maxMessage = 64 << 20

// window is how much of a scan gRPC takes in before it is asked for, beside the
// session's memory: a small one makes the process wait for the host, and 64 KiB
// cost two thirds of the speed. Where one process serves all sessions there may
// be hundreds of scans, and no need to hurry each.
const (
	window       = 1 << 20
	sharedWindow = 256 << 10
)

// start starts a process and connects to it. After an error nothing is left.
func start(ctx context.Context, o Options) (*child, error) {
	c := &child{name: o.Name, free: make(chan struct{}), gone: make(chan struct{})}
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
	life, die := context.WithCancel(context.WithoutCancel(ctx))
	c.die = die
	c.meter = newMeter(c.name, o.Opening)
	c.cmd = exec.CommandContext(life, command[0], command[1:]...)
	c.cmd.Cancel = func() error { return killGroup(c.cmd.Process) }
	c.cmd.Env = append(os.Environ(), "GOMEMLIMIT="+strconv.FormatInt(serve.SoftLimit(o.Opening), 10))
	if o.Self != "" {
		c.cmd.Env = append(c.cmd.Env, serve.SelfVariable+"="+o.Self)
	}
	isolateProcess(c.cmd)
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c.lines = &lines{log: logger.With("plugin", c.name)}
	c.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  serve.Handshake,
		Plugins:          plugin.PluginSet{"source": nobody{}},
		RunnerFunc:       c.runner,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     o.Call,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: socketBase(os.TempDir())},
		Stderr:           c.lines,
		Logger:           hclog.NewNullLogger(),
		SkipHostEnv:      true,
	})
	target, err := c.launch(ctx)
	if err != nil {
		c.kill()
		return nil, err
	}
	ahead := int32(window)
	if o.Share {
		ahead = sharedWindow
	}
	c.conn, err = grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(ahead), grpc.WithInitialConnWindowSize(window),
		grpc.WithIdleTimeout(0), // the socket's file will be gone
		grpc.WithReadBufferSize(256<<10), grpc.WithWriteBufferSize(256<<10),
	)
	if err != nil {
		c.kill()
		return nil, err
	}
	c.connect(ctx, o.Call)
	return c, nil
}

// connect waits until the connection is up: there is only one. Without its file
// the socket leaves nothing behind then, whatever happens to the host. Where
// there is no connection the first request says why.
func (c *child) connect(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	c.conn.Connect()
	for state := c.conn.GetState(); ; state = c.conn.GetState() {
		switch state {
		case connectivity.Ready:
			_ = os.RemoveAll(c.dir) // kill tries again
			return
		case connectivity.TransientFailure, connectivity.Shutdown:
			return
		}
		if !c.conn.WaitForStateChange(ctx, state) {
			return
		}
	}
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

// longestSocketBase is how long the path of the directory may be in which a
// socket's own directory is made. The system takes 104 bytes for the path of a
// socket (108 on Linux) with the zero behind it, of which go-plugin's names,
// /plugin-dirN and /pluginN with a number of ten digits, need up to 38.
const longestSocketBase = 65

// socketBase is the directory for temporary files, where its path leaves room for
// a socket's, else the system's own.
func socketBase(temp string) string {
	if len(temp) <= longestSocketBase || runtime.GOOS == "windows" {
		return temp
	}
	return "/tmp"
}

// runner is what go-plugin's client asks for: it has made a directory for the
// socket, and the variables that a plugin looks for.
func (c *child) runner(_ hclog.Logger, spec *exec.Cmd, dir string) (runner.Runner, error) {
	c.dir = dir
	c.cmd.Env = append(c.cmd.Env, spec.Env...)
	var err error // standard input is the host's: a plugin has none
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	c.stderr, err = c.cmd.StderrPipe()
	return c, err
}

// The methods of [runner.Runner], which go-plugin calls.

// Start starts the process, and the sampler of its memory.
func (c *child) Start(context.Context) error {
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.meter.start(c.cmd.Process.Pid, func() {
		_ = killGroup(c.cmd.Process) // where it has ended there is nothing to kill
	})
	return nil
}

// Wait waits for the process's end. Only go-plugin calls it, once.
func (c *child) Wait(context.Context) error {
	err := c.cmd.Wait()
	c.meter.stop()
	close(c.gone)
	return err
}

// Kill kills the process with what it has started.
func (c *child) Kill(context.Context) error {
	c.die()
	return nil
}

func (c *child) Stdout() io.ReadCloser           { return c.stdout }
func (c *child) Stderr() io.ReadCloser           { return c.stderr }
func (c *child) Name() string                    { return c.name }
func (c *child) ID() string                      { return c.name }
func (c *child) Diagnose(context.Context) string { return "" }

// PluginToHost and HostToPlugin are for plugins whose addresses are not ours.
func (c *child) PluginToHost(network, addr string) (string, string, error) { return network, addr, nil }
func (c *child) HostToPlugin(network, addr string) (string, string, error) { return network, addr, nil }

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
	if over := c.meter.over(); over != nil {
		return over
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
	if c.exited() && c.cmd.ProcessState != nil {
		return describe(c.cmd.ProcessState)
	}
	return "was stopped"
}

// exited reports whether the process has ended.
func (c *child) exited() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// ended waits until the process is gone, no longer than that.
func (c *child) ended(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-c.gone:
		return true
	case <-timer.C:
		return false
	}
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
		if c.dir != "" {
			_ = os.RemoveAll(c.dir) // a socket that is left there hurts nobody
		}
	})
}

// nobody is the plugin that go-plugin's client must be told of. The connection
// to it is our own: we need none of the client's further services.
type nobody struct{ plugin.NetRPCUnsupportedPlugin }
