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

// Options say which module to run, and what it may touch: by default nothing but
// its own memory and true randomness.
type Options struct {
	// Path is the module's file; or Module its bytes, where Path is then a name
	// for errors and logs.
	Path   string
	Module []byte

	// Dirs are the directories that the module can read. Nothing can be written,
	// and no link leads out of them.
	Dirs []Dir

	// Clock gives the module the real time, and lets it sleep. Without it the time
	// of day stands still at a made-up moment, but for a tick at each look, and of
	// the time that passes the module sees whole milliseconds since its start.
	Clock bool

	// Args are the module's command line, after its name.
	Args []string

	// Memory caps each instance's memory, in bytes; 0 is [DefaultMemory].
	Memory int64

	// Warm is how many instances are kept for the next session when theirs has
	// ended; 0 is [DefaultWarm], and less than 0 keeps none. Idle is how long one
	// of them waits before it is ended; 0 is [DefaultIdle]. One whose memory has
	// grown near to its cap is not kept.
	Warm int
	Idle time.Duration

	// CacheDir keeps compiled modules. Compiling a large module takes seconds and
	// hundreds of megabytes; loading it from here a tenth of a second. Empty
	// compiles anew at each Open. The directory is trusted: who can write there
	// can run code in this process.
	CacheDir string

	// Stall is how long a call may wait for the module; 0 is [DefaultStall]. The
	// time that a consumer spends in the loop does not count.
	Stall time.Duration

	// Interruptible lets a deadline stop a module that computes without end. It
	// makes every module 5 to 13 times slower, so it is for tests and for the
	// smallest of jobs; the wall against such modules is a process.
	Interruptible bool

	// Logger gets what the module writes to standard error; nil discards it.
	Logger *slog.Logger
}

// Dir is a directory of the host and the path under which a module sees it.
type Dir struct {
	Host  string
	Guest string // as in "/data"
}

// Defaults of [Options].
const (
	// DefaultMemory is room for a guest written in Go, which wants some 100 MiB
	// before it has read much.
	DefaultMemory = 192 << 20
	DefaultStall  = 30 * time.Second
	DefaultWarm   = 2 // a stream with relations takes two
	DefaultIdle   = 30 * time.Second
)

const (
	pageSize  = 64 << 10
	maxMemory = 4 << 30
)

// validate returns the options with their defaults filled in, or every fault
// that they have.
func (o Options) validate() (Options, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.Path == "" && o.Module == nil {
		fault("no module: set Path or Module")
	}
	switch {
	case o.Memory == 0:
		o.Memory = DefaultMemory
	case o.Memory < pageSize || o.Memory > maxMemory:
		fault("Memory is %d bytes; a module has from %d to %d", o.Memory, pageSize, int64(maxMemory))
	}
	if o.Stall < 0 {
		fault("Stall is %s; it cannot be negative", o.Stall)
	}
	if o.Stall == 0 {
		o.Stall = DefaultStall
	}
	if o.Idle < 0 {
		fault("Idle is %s; it cannot be negative", o.Idle)
	}
	o.Warm = max(cmp.Or(o.Warm, DefaultWarm), 0)
	o.Idle = cmp.Or(o.Idle, DefaultIdle)
	seen := make(map[string]bool)
	for _, d := range o.Dirs {
		switch {
		case !strings.HasPrefix(d.Guest, "/") || path.Clean(d.Guest) != d.Guest || d.Guest == "/":
			fault("directory %q: the module's path for it, %q, must be absolute, clean, and not the root", d.Host, d.Guest)
		case seen[d.Guest]:
			fault("two directories are granted as %q", d.Guest)
		}
		seen[d.Guest] = true
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(faults) > 0 {
		return o, &sources.Error{Op: "open", Kind: sources.Invalid, Err: errors.Join(faults...)}
	}
	return o, nil
}

// name is how errors and logs call the module.
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
