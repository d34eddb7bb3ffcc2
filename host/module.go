package host

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// The memory caps of a child process that runs a module: the smallest one, and the
// one until the module is open. Compiling a guest of 13 MB takes half a gigabyte;
// the result is then kept in the cache of compiled modules.
const (
	moduleMinMemory  = 192 << 20
	moduleOpenMemory = 1 << 30
)

// runnerMemory is what such a child holds beside the module's own memory: the
// machine code of a guest in Go, and the runner's heap.
const runnerMemory = 96 << 20

// moduleMaxMemory is the most memory that a module can address.
const moduleMaxMemory = 4 << 30

// moduleCallTimeout bounds a call to a module. The first call compiles the module,
// which takes seconds on a fast machine, unless an earlier run has left the result.
const moduleCallTimeout = 5 * time.Minute

// module returns the function that opens a WebAssembly module: within the
// application, or in a child process of it.
func (h *Host) module() (sources.Open, error) {
	inner, limit := sources.Open(h.moduleHere), int64(0)
	if h.options.Isolation == InProcess {
		if err := h.needs(Module); err != nil {
			return nil, err
		}
	} else {
		if err := h.needs(Process, Module); err != nil {
			return nil, err
		}
		child, err := h.child("wasm")
		if err != nil {
			return nil, err
		}
		inner, limit = child, h.options.Sandboxes.Memory
	}
	return func(ctx context.Context, c sources.Config) (sources.Source, error) {
		options := map[string]string{"stall": wallStallTimeout.String()}
		if limit > 0 {
			// The module runs out of memory before its process reaches the cap.
			options["memory"] = strconv.FormatInt(min(max(limit-runnerMemory, limit/4), moduleMaxMemory), 10)
		}
		maps.Copy(options, c.Options) // options of the URI take precedence
		c.Options = options
		return inner(ctx, c)
	}, nil
}

// moduleHere opens a module within the application.
func (h *Host) moduleHere(ctx context.Context, c sources.Config) (sources.Source, error) {
	return h.walls[Module].Open(ctx, wall.Options{Logger: h.options.Logger}, c)
}

// moduleFile returns the function that opens the source of a URI as the module in
// a file, and its configuration.
func (h *Host) moduleFile(file string, c sources.Config) (sources.Open, sources.Config, error) {
	open, err := h.module()
	if err != nil {
		return nil, c, err
	}
	c, err = grantDirectory(file, c)
	return open, c, err
}

// grantDirectory returns the configuration by which a module reads the path that
// a URI names. The module sees the directory as /data and no other file. If the
// path is a file or a pattern of files, the directory is the one that contains
// them.
func grantDirectory(module string, c sources.Config) (sources.Config, error) {
	if strings.Contains(c.URI, "://") {
		return c, sources.Errorf(sources.Denied, "open", "", "a WebAssembly module reads files, and this URI names a server: use --isolation process, or open the module itself with wasm:FILE.wasm?uri=URI")
	}
	dir, inside := c.URI, "/data"
	if info, err := os.Stat(c.URI); err != nil || !info.IsDir() {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return c, sources.NewError(sources.KindOf(err), "open", "", err)
		}
		dir, inside = filepath.Dir(c.URI), "/data/"+filepath.Base(c.URI)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return c, sources.Errorf(sources.NotFound, "open", "", "%s: no such file or directory", c.URI)
		}
	}
	if _, taken := c.Options["dir"]; taken {
		return c, invalid("open", `the option "dir" cannot be set here: the module reads the directory that the URI names`)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return c, sources.NewError(sources.Internal, "open", "", err)
	}
	if strings.ContainsRune(dir, os.PathListSeparator) {
		return c, invalid("open", "%s: a module cannot read a directory with %q in its name", dir, os.PathListSeparator)
	}
	options := map[string]string{"dir": dir + "=/data", "uri": inside}
	maps.Copy(options, c.Options)
	return sources.Config{URI: module, Options: options}, nil
}
