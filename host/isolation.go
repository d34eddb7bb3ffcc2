package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"strings"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// Isolation is where a source runs: within the application, in a process of its
// own, or as a WebAssembly module. In [Options] it selects where sources run; in
// [Running], [Event] and the like it reports where one does.
type Isolation string

// The values of [Isolation].
const (
	// Default runs linked sources within the application, executables as
	// processes, and WebAssembly modules in a child process of the application. It
	// is a value of [Options] only.
	Default Isolation = ""
	// InProcess differs from Default in that it runs modules within the application
	// too. Use it only for modules that you trust: one that computes for ever cannot be
	// stopped, and compiling one that was made to exhaust memory ends the application.
	InProcess Isolation = "inproc"
	// Process runs linked sources too in processes of their own, which are copies
	// of the application. It needs the process wall.
	Process Isolation = wall.Process
	// Module runs every source as a WebAssembly module, NAME.wasm on the plugin
	// path, in a child process of the application. The module sees the directory
	// that the URI names, and no other file. It needs the process wall and the wasm
	// wall.
	Module Isolation = wall.Module
)

// wallPackages are the import paths of the packages that provide the walls.
var wallPackages = map[Isolation]string{
	Process: "github.com/penstock-data/penstock/host/process",
	Module:  "github.com/penstock-data/penstock/wasm",
}

// check returns an error for an unknown isolation, and for one whose walls are
// missing.
func (i Isolation) check(walls map[Isolation]wall.Wall) error {
	switch i {
	case Default, InProcess:
		return nil
	case Process:
		return missingWalls("host", fmt.Sprintf("isolation %q", i), walls, Process)
	case Module:
		return missingWalls("host", fmt.Sprintf("isolation %q", i), walls, Process, Module)
	}
	return invalid("host", "unknown isolation %q: use %s, %s or %s", string(i), InProcess, Process, Module)
}

// wallsByIsolation returns the walls by the isolation that each provides, and an
// error that names all that are not valid.
func wallsByIsolation(list []wall.Wall) (map[Isolation]wall.Wall, error) {
	walls := map[Isolation]wall.Wall{}
	var faults []error
	for _, w := range list {
		if w == nil {
			faults = append(faults, invalid("host", "Walls must not contain nil"))
			continue
		}
		name := Isolation(w.Name())
		switch {
		case wallPackages[name] == "":
			faults = append(faults, invalid("host", "Walls: unknown wall %q: use process.Wall() and wasm.Wall()", name))
		case walls[name] != nil:
			faults = append(faults, invalid("host", "Walls contains the %s wall twice", name))
		}
		walls[name] = w
	}
	return walls, errors.Join(faults...)
}

// missingWalls returns nil if all needed walls are there, else an error that says
// what to import and what to write.
func missingWalls(op, what string, walls map[Isolation]wall.Wall, needed ...Isolation) error {
	var names, imports, calls []string
	for _, i := range needed {
		if walls[i] == nil {
			path := wallPackages[i]
			names = append(names, string(i))
			imports = append(imports, path)
			calls = append(calls, path[strings.LastIndexByte(path, '/')+1:]+".Wall()")
		}
	}
	if len(names) == 0 {
		return nil
	}
	noun := "wall"
	if len(names) > 1 {
		noun = "walls"
	}
	return invalid(op, "%s needs the %s %s: import %s and put %s into host.Options.Walls",
		what, strings.Join(names, " and "), noun, strings.Join(imports, " and "), strings.Join(calls, " and "))
}

// needs returns an error if a source needs walls that the host does not have.
func (h *Host) needs(needed ...Isolation) error {
	return missingWalls("open", "this", h.walls, needed...)
}

// isolationOf returns where an open source runs.
func isolationOf(name string, isolation Isolation, opened sources.Source) Isolation {
	_, isSandboxed := opened.(sandboxed)
	switch {
	case name == "wasm" || isolation == Module:
		return Module
	case isSandboxed:
		return Process
	}
	return InProcess
}

// resolve returns the function that opens a source, and its configuration. It
// never falls back to a weaker isolation than the host's options ask for.
func (h *Host) resolve(name string, c sources.Config) (sources.Open, sources.Config, error) {
	isolation := h.options.Isolation
	linked, isLinked := h.options.Sources[name]
	switch {
	case name == "plugin" && !isLinked:
		return h.plugin(c)
	case name == "wasm" && !isLinked:
		open, err := h.module()
		return open, c, err
	case isolation == Module:
		file, err := h.find(moduleName(name))
		if err != nil {
			return nil, c, err
		}
		if file == "" {
			return nil, c, notFound("there is no module %s on the plugin path %q", moduleName(name), h.options.PluginPath)
		}
		return h.moduleFile(file, c)
	case isLinked && isolation == Process:
		open, err := h.child(name)
		return open, c, err
	case isLinked:
		return linked, c, nil
	}
	file, err := h.find(executableName(name))
	if err != nil {
		return nil, c, err
	}
	if file != "" {
		open, err := h.executable(name, file)
		return open, c, err
	}
	if file, err = h.find(moduleName(name)); err != nil {
		return nil, c, err
	}
	if file != "" {
		return h.moduleFile(file, c)
	}
	return nil, c, notFound("there is no source %q%s", name, sources.Suggest(name, h.known()))
}

func notFound(format string, args ...any) error {
	return sources.Errorf(sources.NotFound, "open", "", format, args...)
}

// plugin resolves plugin:PATH?uri=URI&...: the options are the source's own,
// except for uri, which is its URI.
func (h *Host) plugin(c sources.Config) (sources.Open, sources.Config, error) {
	path := c.URI
	if path == "" {
		return nil, c, invalid("open", "the URI names no executable: write plugin:PATH?uri=URI")
	}
	if file, err := exec.LookPath(path); err == nil { // starting it returns the error
		if err := checkTrust(file); err != nil {
			return nil, c, err
		}
	}
	inner := sources.Config{URI: c.Options["uri"], Options: maps.Clone(c.Options)}
	delete(inner.Options, "uri")
	open, err := h.executable("", path)
	return open, inner, err
}

// executable returns the function that opens a source which is an executable.
func (h *Host) executable(name, file string) (sources.Open, error) {
	if err := h.needs(Process); err != nil {
		return nil, err
	}
	return func(ctx context.Context, c sources.Config) (sources.Source, error) {
		o := h.sandbox(name)
		if name == "" {
			o.Environment = h.environment("plugin", sourceName(file))
		}
		o.Command = []string{file}
		return h.walls[Process].Open(ctx, o, c)
	}, nil
}

// child returns the function that opens one of the application's own sources in
// another process of it.
func (h *Host) child(name string) (sources.Open, error) {
	if err := h.needs(Process); err != nil {
		return nil, err
	}
	return func(ctx context.Context, c sources.Config) (sources.Source, error) {
		return h.walls[Process].Open(ctx, h.selfSandbox(name), c)
	}, nil
}
