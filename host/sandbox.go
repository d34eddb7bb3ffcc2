package host

import (
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/penstock-data/penstock/sources/wall"
)

// SandboxOptions limits the processes that sources run in: executables, copies of
// the application, and its children that run modules. The zero value is ready to
// use.
type SandboxOptions struct {
	// Memory caps the private memory of each process, in bytes. A process that
	// exceeds it is killed, and its stream fails with a [sources.Exhausted] error.
	// 0 means the memory limit of the stream that uses the process, or with Share that
	// of the host. The minimum is [wall.DefaultMinMemory]; for a module, which needs
	// some 100 MiB before it reads a row, it is 192 MiB. See [wall.Options] for what
	// each system can enforce.
	Memory int64
	// MaxIdle is how many processes of each source are kept for later streams; 0
	// means [wall.DefaultMaxIdle], and a negative number keeps none.
	MaxIdle int
	// IdleTimeout is how long an unused process is kept; 0 means
	// [wall.DefaultIdleTimeout].
	IdleTimeout time.Duration
	// Share runs all streams of a source in one process. This saves processes, but
	// if one stream gets the process killed, all of them fail.
	Share bool
	// Environment names the environment variables of the application that a source's
	// processes get, by the name of the source; "plugin" is any source opened by
	// plugin:PATH. A name may end in *; [wall.Options] lists the
	// variables that every process gets. A source named postgres or postgresql,
	// or an executable penstock-source-postgres, also gets PG*, SSL_CERT_FILE and
	// SSL_CERT_DIR. No other variable is passed, as it may hold a secret. It does not apply
	// to sources that run within the application, which see all variables, or to
	// WebAssembly modules, which see none.
	Environment map[string][]string
}

func (o SandboxOptions) check() error {
	if o.Memory < 0 {
		return invalid("host", "Sandboxes.Memory must not be negative (got %d)", o.Memory)
	}
	if o.IdleTimeout < 0 {
		return invalid("host", "Sandboxes.IdleTimeout must not be negative (got %s)", o.IdleTimeout)
	}
	for source, names := range o.Environment {
		for _, name := range names {
			if bare := strings.TrimSuffix(name, "*"); name == "" || strings.ContainsAny(bare, "=*\x00") {
				return invalid("host", "Sandboxes.Environment[%q]: %q is not the name of a variable: write NAME, or PREFIX* for all that begin with PREFIX", source, name)
			}
		}
	}
	return nil
}

// postgresEnvironment are the variables that a PostgreSQL client reads by itself.
var postgresEnvironment = []string{"PG*", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// environment returns the names of the variables that are granted to sources of these
// names.
func (h *Host) environment(names ...string) (granted []string) {
	for _, name := range names {
		granted = append(granted, h.options.Sandboxes.Environment[name]...)
		if name == "postgres" || name == "postgresql" {
			granted = append(granted, postgresEnvironment...)
		}
	}
	return granted
}

// sourceName returns the name of a source that is an executable, given its file, or "" if
// the file has another name.
func sourceName(file string) string {
	name, ok := strings.CutPrefix(filepath.Base(file), pluginPrefix)
	if !ok {
		return ""
	}
	if runtime.GOOS == "windows" {
		name = strings.TrimSuffix(name, ".exe")
	}
	return name
}

// wallStallTimeout is how long a wall waits for a page. Each stream has its own
// stall timeout ([retry.Timeouts]), which must be the one that fires.
const wallStallTimeout = 24 * time.Hour

// sandbox returns the options of a source's processes.
func (h *Host) sandbox(name string) wall.Options {
	o := h.options.Sandboxes
	if o.Share && o.Memory == 0 {
		o.Memory = max(h.options.Memory, wall.DefaultMinMemory)
	}
	return wall.Options{
		Name: name, Logger: h.options.Logger, CallTimeout: max(h.options.Timeouts.Call, 0), StallTimeout: wallStallTimeout,
		Memory: o.Memory, MaxIdle: o.MaxIdle, IdleTimeout: o.IdleTimeout, Share: o.Share, Environment: h.environment(name),
	}
}

// selfSandbox returns the options of processes that are copies of the application
// and serve one of its sources.
func (h *Host) selfSandbox(name string) wall.Options {
	o := h.sandbox(name)
	o.Self = name
	if name == "wasm" {
		o.CallTimeout, o.MinMemory, o.OpenMemory = moduleCallTimeout, moduleMinMemory, max(moduleOpenMemory, o.Memory)
	}
	o.Memory, o.OpenMemory = o.Memory*raceMemoryFactor, o.OpenMemory*raceMemoryFactor
	o.MinMemory = max(o.MinMemory, wall.DefaultMinMemory) * raceMemoryFactor
	return o
}

// Sandbox is a process that runs a source, and its memory use.
type Sandbox struct {
	Source string `json:"source"` // the name that precedes the colon in the source's URI
	wall.Usage
}

// sandboxed is implemented by sources that run in processes of their own.
type sandboxed interface{ Sandboxes() []wall.Usage }

// Sandboxes returns the source's processes and their memory use. It is empty if
// the source runs within the application.
func (s *Source) Sandboxes() []Sandbox {
	source, ok := s.Source.(sandboxed)
	if !ok {
		return nil
	}
	var all []Sandbox
	for _, u := range source.Sandboxes() {
		all = append(all, Sandbox{Source: s.name, Usage: u})
	}
	return all
}

// Sandboxes returns the processes of all sources and their memory use.
func (h *Host) Sandboxes() []Sandbox {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Sandbox
	for s := range h.open {
		all = append(all, s.Sandboxes()...)
	}
	return all
}
