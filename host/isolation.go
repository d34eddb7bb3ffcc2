package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
	"github.com/penstock-data/penstock/wasm"
)

// Isolation is the wall between the application and its sources.
type Isolation string

// The walls.
const (
	// Default runs what is linked in within the application, and everything else
	// in a process of its own: plugins, and WebAssembly modules in a child of the
	// application, which needs [Main].
	Default Isolation = ""
	// InProcess runs also modules within the application: for those that it
	// trusts. A module that never comes back stops the application.
	InProcess Isolation = "inproc"
	// Process runs also what is linked in in a process of its own: the application
	// started once more, which needs [Main].
	Process Isolation = "process"
	// Module runs every source as a WebAssembly module, NAME.wasm on the plugin
	// path, in a child of the application, which needs [Main]. The module sees the
	// directory that the URI names, and nothing else.
	Module Isolation = "wasm"
)

// mainCalled is of the process, as its main function is.
var mainCalled atomic.Bool

// Main makes an application able to start itself as its own sources: call it
// first in main, and in TestMain, with the sources of [Options.Sources]. In a
// child that was started for a source it serves that and never returns; else it
// returns at once.
func Main(linked map[string]sources.Open) {
	all := maps.Clone(linked)
	if all == nil {
		all = map[string]sources.Open{}
	}
	all["wasm"] = runModule
	mainCalled.Store(true)
	serve.Main(all)
}

// runModule opens a module in a child of the application, whose memory counts.
func runModule(ctx context.Context, c sources.Config) (sources.Source, error) {
	source, err := wasm.OpenURI(ctx, c)
	// What compiling the module took, or loading it, is not needed any more. What
	// is left is the module's own bytes, which live as long: the heap need not grow
	// to twice them before it is looked through.
	debug.SetGCPercent(40)
	debug.FreeOSMemory()
	return source, err
}

func (i Isolation) check() error {
	switch i {
	case Default, InProcess, Process, Module:
		return nil
	}
	return &sources.Error{Op: "host", Kind: sources.Invalid, Err: fmt.Errorf("there is no isolation %q: it is %s, %s or %s", string(i), InProcess, Process, Module)}
}

// resolve finds the function that opens a source, and what it is called with.
func (h *Host) resolve(name string, c sources.Config) (sources.Open, sources.Config, error) {
	isolation := h.options.Isolation
	linked, isLinked := h.options.Sources[name]
	switch {
	case name == "plugin" && !isLinked:
		return h.plugin(c)
	case name == "wasm" && !isLinked:
		return h.module(), c, nil
	case isolation == Module:
		module := h.find(moduleName(name))
		if module == "" {
			return nil, c, notFound("there is no module %s on the plugin path %q", moduleName(name), h.options.PluginPath)
		}
		c, err := grant(module, c)
		return h.module(), c, err
	case isLinked && isolation == Process:
		return h.child(name), c, nil
	case isLinked:
		return linked, c, nil
	}
	if file := h.find(executableName(name)); file != "" {
		return h.process(name, file), c, nil
	}
	if module := h.find(moduleName(name)); module != "" {
		c, err := grant(module, c)
		return h.module(), c, err
	}
	return nil, c, notFound("there is no source %q%s", name, sources.Suggest(name, h.known()))
}

func notFound(format string, args ...any) error {
	return &sources.Error{Op: "open", Kind: sources.NotFound, Err: fmt.Errorf(format, args...)}
}

// plugin opens plugin:PATH?uri=URI&...: what the source is opened with are the
// options, of which uri is its own URI.
func (h *Host) plugin(c sources.Config) (sources.Open, sources.Config, error) {
	path := c.URI
	if path == "" {
		return nil, c, &sources.Error{Op: "open", Kind: sources.Invalid, Err: errors.New("no executable is named: write plugin:PATH?uri=URI")}
	}
	inner := sources.Config{URI: c.Options["uri"], Options: maps.Clone(c.Options)}
	delete(inner.Options, "uri")
	return h.process("", path), inner, nil
}

// process opens a source that is an executable.
func (h *Host) process(name, file string) sources.Open {
	return func(ctx context.Context, c sources.Config) (sources.Source, error) {
		o := h.processes(name)
		o.Command = []string{file}
		return process.Open(ctx, o, c)
	}
}

// child opens a source of the application's own in another process of it.
func (h *Host) child(name string) sources.Open {
	return func(ctx context.Context, c sources.Config) (sources.Source, error) {
		if !mainCalled.Load() {
			return nil, &sources.Error{Op: "open", Kind: sources.Invalid, Err: errors.New("a source in a process of its own is this program started once more: call host.Main first in main, or it would start itself for ever")}
		}
		o := h.processes(name)
		o.Self = name
		if name == "wasm" {
			o.Call, o.Least, o.Opening = compileTime, wasmLeast, max(wasmOpening, o.Isolate)
		}
		o.Isolate, o.Opening = o.Isolate*ownFactor, o.Opening*ownFactor
		o.Least = max(o.Least, process.DefaultIsolate) * ownFactor
		return process.Open(ctx, o, c)
	}
}

// compileTime is how long a call to a module may take: the first one compiles
// it, for seconds on a fast machine, unless that is kept from an earlier run.
const compileTime = 5 * time.Minute

// module opens a WebAssembly module.
func (h *Host) module() sources.Open {
	open, limit := sources.Open(wasm.OpenURI), int64(0)
	if h.options.Isolation != InProcess {
		open, limit = h.child("wasm"), h.options.Isolates.Memory
	}
	return func(ctx context.Context, c sources.Config) (sources.Source, error) {
		options := map[string]string{"stall": patience.String()}
		if limit > 0 {
			// The module is told that there is no more, before its child is ended.
			options["memory"] = strconv.FormatInt(min(max(limit-runnerShare, limit/4), wasmMost), 10)
		}
		maps.Copy(options, c.Options) // what is given stands
		c.Options = options
		return open(ctx, c)
	}
}
