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
	"slices"
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
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/sources/wire"
)

// child is a running process. It is also go-plugin's runner of the process, so
// that the memory sampler starts before the handshake.
type child struct {
	name   string
	dir    string // contains its socket
	cmd    *exec.Cmd
	stdout io.ReadCloser
	stderr io.ReadCloser
	log    *stderrLog
	client *plugin.Client
	conn   *grpc.ClientConn
	meter  *meter
	group  group              // the process and its descendants; nil until they run
	die    context.CancelFunc // kills them
	free   chan struct{}      // closed to end the goroutine that started it
	gone   chan struct{}      // closed when the process has ended and reason is known
	reason string             // how it ended, as in "exited with code 1"
	done   chan struct{}      // closed when its descendants have ended too
	once   sync.Once
}

// group is a process and its descendants.
type group interface {
	// pid returns the process's id.
	pid() int
	// root returns the process below which all of the group are, and whether that process
	// itself is one of the group.
	root() (pid int, member bool)
	// wait waits until the group has ended, as far as the system can tell. It is called
	// once, when nothing reads from the process any more.
	wait() error
}

// maxMessage bounds a message that is not a page, in bytes. The memory of the
// session bounds pages.
const maxMessage = wire.MaxMessage

// window is how many bytes of a scan gRPC buffers, beside the session's memory. A
// small window makes the process wait for the host: with 64 KiB a scan has a third
// of the speed. A shared process may serve hundreds of scans, none of which needs
// full speed.
const (
	window       = 1 << 20
	sharedWindow = 256 << 10
)

// start starts a process with an environment and connects to it. If it fails, it leaves no process and
// no file behind.
func start(ctx context.Context, o wall.Options, environ []string) (*child, error) {
	c := &child{name: o.Name, free: make(chan struct{}), gone: make(chan struct{}), done: make(chan struct{})}
	command := o.Command
	if o.Self != "" {
		if !mainCalled.Load() {
			return nil, sources.Errorf(sources.Invalid, "", "", "this program would start itself for ever: call process.Main first in main, so that its child can serve the source")
		}
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cannot find the executable of this program: %w", err)
		}
		command = []string{self}
	}
	if len(command) == 0 {
		return nil, sources.Errorf(sources.Invalid, "", "", "no executable is named: set Command or Self")
	}
	if c.name == "" {
		c.name = filepath.Base(command[0])
	}
	if info, err := os.Stat(command[0]); err == nil && info.IsDir() {
		return nil, sources.Errorf(sources.Invalid, "", "", "%s is a directory: name the plugin's executable", command[0])
	}
	life, die := context.WithCancel(context.WithoutCancel(ctx))
	c.die = die
	c.meter = newMeter(c.name, o.OpenMemory)
	c.cmd = exec.CommandContext(life, command[0], command[1:]...)
	c.cmd.Env = append(slices.Clip(environ), "GOMEMLIMIT="+strconv.FormatInt(serve.SoftLimit(o.OpenMemory), 10))
	if o.Self != "" {
		c.cmd.Env = append(c.cmd.Env, wall.SelfVariable+"="+o.Self)
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c.log = &stderrLog{log: logger.With("plugin", c.name)}
	c.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  serve.Handshake,
		Plugins:          plugin.PluginSet{"source": noPlugin{}},
		RunnerFunc:       c.runner,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     o.CallTimeout,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: socketBase(os.TempDir())},
		Stderr:           c.log,
		Logger:           hclog.NewNullLogger(),
		SkipHostEnv:      true,
	})
	target, err := c.launch(ctx)
	if err != nil {
		c.kill()
		return nil, err
	}
	scanWindow := int32(window)
	if o.Share {
		scanWindow = sharedWindow
	}
	c.conn, err = grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(scanWindow), grpc.WithInitialConnWindowSize(window),
		grpc.WithIdleTimeout(0), // without the socket's file it could not reconnect
		grpc.WithReadBufferSize(256<<10), grpc.WithWriteBufferSize(256<<10),
	)
	if err != nil {
		c.kill()
		return nil, err
	}
	c.connect(ctx, o.CallTimeout)
	return c, nil
}

// connect waits until the only connection is up, and removes the socket's file: if
// the host dies then, no file is left behind. If the connection fails, the first
// request returns the error.
func (c *child) connect(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
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

// launch starts the process from a thread that lives as long as the process: where the
// kernel kills the children of a dead parent, it means the parent thread.
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

// maxSocketBase bounds the length of the path of the directory that contains a
// socket's own directory. The system limits the path of a socket to 104 bytes (108
// on Linux), including the final zero byte; go-plugin's names, /plugin-dirN and
// /pluginN with a number of ten digits, need up to 38 of them.
const maxSocketBase = 65

// socketBase returns the directory for temporary files if its path is short enough
// for a socket, and /tmp otherwise.
func socketBase(temp string) string {
	if len(temp) <= maxSocketBase || runtime.GOOS == "windows" {
		return temp
	}
	return "/tmp"
}

// runner is called by go-plugin's client, which has made a directory for the socket
// and passes the environment variables that a plugin expects.
func (c *child) runner(_ hclog.Logger, spec *exec.Cmd, dir string) (runner.Runner, error) {
	c.dir = dir
	c.cmd.Env = append(c.cmd.Env, spec.Env...)
	var err error // the plugin gets no standard input: that is the host's
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	c.stderr, err = c.cmd.StderrPipe()
	return c, err
}

// The methods of [runner.Runner], which go-plugin calls.

// Start starts the process and its memory sampler.
func (c *child) Start(context.Context) (err error) {
	c.group, err = startGroup(c.cmd, func(reason string, lost bool) {
		if c.reason = reason; lost {
			c.meter.killAll()
		}
		close(c.gone)
	})
	if err != nil {
		return err
	}
	c.meter.start(c.group, c.die)
	return nil
}

// Wait waits until the process and its descendants have ended. Only go-plugin calls it,
// once.
func (c *child) Wait(context.Context) error {
	err := c.group.wait()
	c.meter.stop()
	close(c.done)
	return err
}

// Kill kills the process and its descendants.
func (c *child) Kill(context.Context) error {
	c.die()
	return nil
}

func (c *child) Stdout() io.ReadCloser           { return c.stdout }
func (c *child) Stderr() io.ReadCloser           { return c.stderr }
func (c *child) Name() string                    { return c.name }
func (c *child) ID() string                      { return c.name }
func (c *child) Diagnose(context.Context) string { return "" }

// PluginToHost and HostToPlugin return addresses unchanged: the plugin runs on this
// machine.
func (c *child) PluginToHost(network, addr string) (string, string, error) { return network, addr, nil }
func (c *child) HostToPlugin(network, addr string) (string, string, error) { return network, addr, nil }

// explain returns a one-line error for go-plugin's error about a process that did
// not start.
func (c *child) explain(err error) error {
	unavailable := func(format string, args ...any) error {
		return sources.Errorf(sources.Unavailable, "", "", "plugin %q "+format, append([]any{c.name}, args...)...)
	}
	var path *os.PathError
	var missing *exec.Error
	switch {
	case errors.As(err, &missing), errors.As(err, &path):
		return sources.NewError(sources.KindOf(err), "", "", err)
	}
	if over := c.meter.over(); over != nil {
		return over
	}
	text := err.Error()
	switch {
	case contains(text, "timeout while waiting for plugin to start"):
		return unavailable("did not complete the handshake in time: is it a Penstock source?")
	case contains(text, "ailed to read any lines", "exited before we could connect") && c.ended(time.Second):
		reason := "is it a Penstock source?"
		if last := c.log.lastWords(); last != "" {
			reason = last
		}
		return unavailable("%s before the handshake: %s", c.exitReason(), reason)
	case contains(text, "nrecognized remote plugin message", "unsupported plugin protocol", "rror parsing"):
		return sources.Errorf(sources.Invalid, "", "", "plugin %q wrote something else than a handshake: is it a Penstock source?", c.name)
	case contains(text, "ncompatible"):
		return sources.Errorf(sources.Invalid, "", "", "plugin %q uses another version of the handshake: build it against this version of Penstock", c.name)
	}
	return unavailable("did not start: %s", said(firstLine(text)))
}

// exitReason describes how the process ended, as in "exited with code 1".
func (c *child) exitReason() string {
	if c.exited() {
		return c.reason
	}
	return "was stopped"
}

// crash returns the cause of the error of a process that has ended.
func (c *child) crash() *Crash {
	return &Crash{Name: c.name, Reason: c.exitReason(), Said: c.log.lastWords(), Stderr: c.log.last()}
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

// ended reports whether the process ends within the timeout. If its descendants do too, all
// that they wrote to standard error has been read.
func (c *child) ended(timeout time.Duration) bool {
	return closedWithin(c.done, timeout) || c.exited()
}

func closedWithin(channel <-chan struct{}, timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-channel:
		return true
	case <-timer.C:
		return false
	}
}

// kill kills the process and its descendants and removes its files. Only the first call has an effect.
// It sends no request, as go-plugin's own Kill does: a stopped process never
// answers.
func (c *child) kill() {
	c.once.Do(func() {
		if c.conn != nil {
			_ = c.conn.Close() // the other end is killed next
		}
		c.die()
		if c.group != nil {
			closedWithin(c.done, 5*time.Second)
		}
		close(c.free)
		if c.dir != "" {
			_ = os.RemoveAll(c.dir) // at worst an unused socket remains
		}
	})
}

// noPlugin is the plugin that go-plugin's client requires. This package makes its
// own connection and uses no other service of that client.
type noPlugin struct{ plugin.NetRPCUnsupportedPlugin }
