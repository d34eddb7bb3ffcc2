package wasm

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// Options configures a module and what it can access: by default only its own
// memory and the system's random numbers.
type Options struct {
	// Path is the module's file. If Module is set, it is the module itself, and Path
	// only names it in errors and logs.
	Path   string
	Module []byte

	// Dirs are the directories that the module can read. It can write nothing, and
	// follow no link out of them.
	Dirs []Dir

	// Clock lets the module read the real time, and sleep. Without it the time of
	// day is a fixed date, which advances a little at each reading, and the module
	// can measure elapsed time only in whole milliseconds since its start.
	Clock bool

	// Args are the module's command-line arguments, after its name.
	Args []string

	// Memory limits the memory of each instance, in bytes; 0 means
	// [DefaultMemory].
	Memory int64

	// MaxIdle is how many instances are kept for later sessions; 0 means
	// [DefaultMaxIdle], and a negative number keeps none. An instance whose memory
	// is close to its limit is not kept.
	MaxIdle int
	// IdleTimeout is how long an unused instance is kept; 0 means
	// [DefaultIdleTimeout].
	IdleTimeout time.Duration

	// CacheDir is a directory that keeps compiled modules. Compiling a large module
	// takes seconds and hundreds of megabytes; loading it from the directory takes
	// a tenth of a second. If empty, each Open compiles the module. The directory
	// must be trusted: whoever can write to it can run code in this process.
	CacheDir string

	// StallTimeout bounds the wait for the module in each call; 0 means
	// [DefaultStallTimeout]. Time that a consumer spends in its loop does not count.
	StallTimeout time.Duration

	// Interruptible lets a deadline stop a module that computes for ever. It makes
	// modules 5 to 13 times slower, so it is for tests and very small jobs. To stop
	// other modules, run them in a process of their own.
	Interruptible bool

	// Logger receives what the module writes to standard error. If nil, it is
	// discarded.
	Logger *slog.Logger
}

// Dir is a directory of the host, and the path by which the module sees it.
type Dir struct {
	Host  string
	Guest string // as in "/data"
}

// The defaults of [Options].
const (
	// DefaultMemory suits a guest written in Go, which needs about 100 MiB before it
	// has read much.
	DefaultMemory       = 192 << 20
	DefaultStallTimeout = 30 * time.Second
	DefaultMaxIdle      = 2 // a stream with relations uses two instances
	DefaultIdleTimeout  = 30 * time.Second
)

const (
	pageSize  = 64 << 10
	maxMemory = 4 << 30
)

// validate returns the options with their defaults filled in, or an error that
// lists everything that is wrong with them.
func (o Options) validate() (Options, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.Path == "" && o.Module == nil {
		fault("no module is given: set Path or Module")
	}
	switch {
	case o.Memory == 0:
		o.Memory = DefaultMemory
	case o.Memory < pageSize || o.Memory > maxMemory:
		fault("Memory must be from %d to %d bytes (got %d)", pageSize, int64(maxMemory), o.Memory)
	}
	if o.StallTimeout < 0 {
		fault("StallTimeout must not be negative (got %s)", o.StallTimeout)
	}
	o.StallTimeout = cmp.Or(o.StallTimeout, DefaultStallTimeout)
	if o.IdleTimeout < 0 {
		fault("IdleTimeout must not be negative (got %s)", o.IdleTimeout)
	}
	o.IdleTimeout = cmp.Or(o.IdleTimeout, DefaultIdleTimeout)
	o.MaxIdle = max(cmp.Or(o.MaxIdle, DefaultMaxIdle), 0)
	seen := make(map[string]bool)
	for _, d := range o.Dirs {
		switch {
		case !strings.HasPrefix(d.Guest, "/") || path.Clean(d.Guest) != d.Guest || d.Guest == "/":
			fault("directory %q: its path in the module, %q, must be absolute, clean and not the root", d.Host, d.Guest)
		case seen[d.Guest]:
			fault("two directories have the path %q in the module", d.Guest)
		}
		seen[d.Guest] = true
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(faults) > 0 {
		return o, sources.NewError(sources.Invalid, "open", "", errors.Join(faults...))
	}
	return o, nil
}

// name returns the module's name in errors and logs.
func (o *Options) name() string {
	if o.Path == "" {
		return "module"
	}
	return filepath.Base(o.Path)
}

func (o *Options) read() ([]byte, error) {
	if o.Module != nil {
		return o.Module, nil
	}
	b, err := os.ReadFile(o.Path)
	if err != nil {
		return nil, sources.WithOp("open", "", err)
	}
	return b, nil
}
