// Package wall is the contract between a host and the packages that run its
// sources in isolation: host/process and wasm. A host takes walls as it takes
// sources, so an application carries the code of only those that it names.
package wall

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// The names of walls, which [Wall.Name] returns.
const (
	Process = "process"
	Module  = "wasm"
)

// Wall opens sources that run in isolation. It is safe for concurrent use.
type Wall interface {
	// Name returns [Process] for a wall that starts processes, and [Module] for
	// one that runs WebAssembly modules within the calling process.
	Name() string
	// Open opens a source behind the wall; the caller closes it. A wall of
	// processes starts what the options name and passes it the configuration. A
	// wall of modules runs the module that the configuration's URI names, and uses
	// only the options' Logger.
	Open(ctx context.Context, o Options, c sources.Config) (sources.Source, error)
}

// Options configures the processes that a source runs in: how they are started,
// how long a caller waits for them, and how much memory they may use.
type Options struct {
	// Command is the executable and its arguments. It must not contain secrets:
	// other users of the machine can read it.
	Command []string
	// Self is the name of one of the running program's own sources. If set, the
	// program starts another copy of itself instead of Command; it must call
	// process.Main first in its main.
	Self string
	// Name is the source's name in errors and logs. If empty, the executable's file
	// name is used.
	Name string
	// Environment names the environment variables of the calling process that the
	// source's processes get, beside those that every process gets: PATH, HOME, USER,
	// LOGNAME, TMPDIR, XDG_CACHE_HOME, TZ, LANG, LANGUAGE and LC_*, and on Windows what
	// programs need to start. A name that ends in * names all variables that begin with
	// what precedes it.
	Environment []string
	// Logger receives what the source writes to standard error, line by line. If
	// nil, it is discarded.
	Logger *slog.Logger
	// CallTimeout bounds the start of a process and each call to it; 0 means
	// [DefaultCallTimeout].
	CallTimeout time.Duration
	// StallTimeout bounds the wait for the next page of a scan; 0 means
	// [DefaultStallTimeout]. Time that the consumer spends in its loop does not
	// count.
	StallTimeout time.Duration

	// Memory caps the private memory of each process and its descendants together, in
	// bytes. If they exceed it, they are killed, and the streams fail with a
	// [sources.Exhausted] error.
	// 0 means the limit of the session's own allocator, if that has a method
	// Limit() int64 as a stream's budget has, but at least MinMemory.
	//
	// On Linux a sampler reads the memory of each process, the more often the
	// closer it is to the cap. Other systems offer no cheap way to read it: there
	// the cap is only the soft limit of the process's own garbage collector, which
	// stops no process that allocates memory in another way.
	Memory int64
	// MinMemory is the smallest cap that is used when Memory is 0; 0 means
	// [DefaultMinMemory].
	MinMemory int64
	// OpenMemory is the cap until the source is open, for a source that needs more
	// memory to open than to read; 0 means Memory, or MinMemory.
	OpenMemory int64
	// MaxIdle is how many processes are kept for later sessions; 0 means
	// [DefaultMaxIdle], and a negative number keeps none.
	MaxIdle int
	// IdleTimeout is how long an unused process is kept; 0 means
	// [DefaultIdleTimeout].
	IdleTimeout time.Duration
	// Share runs all sessions of the source in one process instead of one process
	// each. This is cheaper, but all sessions share one memory cap, and if the
	// process is killed all of them fail.
	Share bool
}

// The defaults of [Options].
const (
	DefaultCallTimeout  = 30 * time.Second
	DefaultStallTimeout = 30 * time.Second
	DefaultMinMemory    = 128 << 20
	DefaultMaxIdle      = 2
	DefaultIdleTimeout  = 30 * time.Second
)

// Usage is the memory use of one process that runs a source. Its JSON names are
// stable.
type Usage struct {
	Name     string `json:"name"`     // of the source, as in errors and logs
	Pid      int    `json:"pid"`      // the process's id
	Sessions int    `json:"sessions"` // sessions that use it now; 0 if it is idle
	Held     int64  `json:"held"`     // private bytes of it and its descendants when last sampled, at most 100 ms ago
	Peak     int64  `json:"peak"`     // highest sample since its current session began
	Limit    int64  `json:"limit"`    // memory cap in bytes
}

// SelfVariable is the environment variable by which a program that starts a copy
// of itself as a source tells the copy which source to serve. Its value is the
// source's name and nothing else.
const SelfVariable = "PENSTOCK_SERVE"

// InChild reports whether the running program was started by a copy of itself to
// serve a source, and has not called process.Main yet.
func InChild() bool {
	_, ok := os.LookupEnv(SelfVariable)
	return ok
}
