//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// setting is a host and the source that it opens.
type setting struct {
	name      string
	options   host.Options
	uri       string
	questions []question
}

// question is a query and what an undisturbed stream of it yields.
type question struct {
	query core.Query
	truth core.Receipt
}

// world has the data, and the programs that serve it.
type world struct {
	dir      string
	settings []setting
	server   *pgtest.Server // nil without PostgreSQL
}

const module = "github.com/penstock-data/penstock/"

// The memory limits of a host and a stream, in bytes. A host has room for some of the
// streams; the others wait until one ends. Where each stream has a process, that also limits
// the number of processes.
const (
	hostMemory    = 24 << 20
	processMemory = 12 << 20
	moduleMemory  = 8 << 20
	streamMemory  = 3 << 20
)

// pluginMemory caps the memory of each child, in bytes. The race detector takes a lot.
const pluginMemory = 2 << 30

// build returns a new world. The caller closes it.
func build(ctx context.Context, o options) (_ *world, err error) {
	w := &world{}
	if w.dir, err = os.MkdirTemp("", "storm"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	shop, plugins, cache := filepath.Join(w.dir, "shop"), filepath.Join(w.dir, "plugins"), filepath.Join(w.dir, "cache")
	for _, dir := range []string{shop, plugins, cache, w.scratch()} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			return nil, err
		}
	}
	if err := (testkit.Shop{Seed: 11, Orders: o.orders}).WriteCSV(ctx, shop); err != nil {
		return nil, err
	}
	base := host.Options{Sources: linked, Walls: walls, PluginPath: []string{plugins}, Memory: hostMemory, Sandboxes: host.SandboxOptions{MaxIdle: 6}}
	add := func(name, uri string, change func(*host.Options)) {
		if len(o.only) > 0 && !slices.Contains(o.only, name) {
			return
		}
		s := setting{name: name, options: base, uri: uri}
		change(&s.options)
		w.settings = append(w.settings, s)
	}
	here := func(h *host.Options) { h.Isolation = host.InProcess }
	apart := func(h *host.Options) { h.Isolation, h.Memory = host.Process, processMemory }
	add("inproc", "csv:"+shop, here)
	add("inproc-cache", "csv:"+shop, func(h *host.Options) { here(h); h.Cache = &host.Cache{MaxBytes: hostMemory / 4} })
	add("process", "csv:"+shop, apart)
	add("process-shared", "csv:"+shop, func(h *host.Options) { apart(h); h.Sandboxes.Share = true })
	add("plugin", "csv:"+shop, func(h *host.Options) {
		h.Sources, h.Memory, h.Sandboxes.Memory = nil, processMemory, pluginMemory
	})
	if o.modules {
		file := filepath.Join(plugins, "csv.wasm")
		add("module-inproc", "wasm:"+file+"?dir="+shop+"&cache="+cache, func(h *host.Options) { h.Isolation, h.Memory = host.InProcess, moduleMemory })
		add("module", "csv:"+shop+"?cache="+cache, func(h *host.Options) { h.Isolation, h.Memory = host.Module, moduleMemory })
		if w.uses("module", "module-inproc") {
			if err := w.module(ctx, file, cache); err != nil {
				return nil, err
			}
		}
	}
	if w.uses("plugin") {
		if err := compile(ctx, filepath.Join(plugins, "penstock-source-csv"), "plugins/csv/plugin", raced); err != nil {
			return nil, err
		}
	}
	if o.postgres {
		add("postgres-inproc", "", here)
		add("postgres-process", "", apart)
		if w.uses("postgres-inproc", "postgres-process") {
			if err := w.database(ctx, o); err != nil {
				return nil, err
			}
		}
	}
	if len(w.settings) == 0 {
		return nil, fmt.Errorf("there is no wall %s", strings.Join(o.only, " or "))
	}
	truth := map[bool][]question{}
	for i := range w.settings {
		s := &w.settings[i]
		isDatabase := strings.HasPrefix(s.name, "postgres")
		if truth[isDatabase] == nil {
			if truth[isDatabase], err = w.ask(ctx, s.uri, shop); err != nil {
				return nil, err
			}
		}
		s.questions = truth[isDatabase]
	}
	return w, nil
}

// scratch is the directory for temporary files of a storm.
func (w *world) scratch() string { return filepath.Join(w.dir, "tmp") }

// uses reports whether one of the settings is among the world's.
func (w *world) uses(names ...string) bool {
	return slices.ContainsFunc(w.settings, func(s setting) bool { return slices.Contains(names, s.name) })
}

// module builds the module, and compiles it with a build of this program without the race
// detector, with which that would take minutes.
func (w *world) module(ctx context.Context, file, cache string) error {
	if err := compile(ctx, file, "plugins/csv/plugin", false, "GOOS=wasip1", "GOARCH=wasm"); err != nil {
		return err
	}
	program := filepath.Join(w.dir, "precompile")
	if err := compile(ctx, program, "chaos/storm", false); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, program, "precompile", file, cache).CombinedOutput(); err != nil {
		return fmt.Errorf("compiling the module: %w: %s", err, out)
	}
	return nil
}

// database starts a server with the shop.
func (w *world) database(ctx context.Context, o options) (err error) {
	if w.server, err = pgtest.Launch(ctx); err != nil {
		return err
	}
	var script bytes.Buffer
	if err := (testkit.Shop{Seed: 11, Orders: o.orders}).WriteSQL(ctx, &script); err != nil {
		return err
	}
	uri := w.server.URI("postgres")
	for i := range w.settings {
		if w.settings[i].uri == "" {
			w.settings[i].uri = uri
		}
	}
	return pgtest.Run(ctx, uri, script.String())
}

// compile builds a package of this module.
func compile(ctx context.Context, to, pkg string, race bool, env ...string) error {
	args := []string{"build", fmt.Sprintf("-race=%t", race), "-o", to, module + pkg}
	c := exec.CommandContext(ctx, "go", args...)
	c.Env = append(c.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// ask returns the questions with the receipts of undisturbed streams within this program.
func (w *world) ask(ctx context.Context, uri, shop string) ([]question, error) {
	h, err := host.New(host.Options{Sources: linked, Isolation: host.InProcess})
	if err != nil {
		return nil, err
	}
	defer h.Close() // the receipts are complete
	if !strings.HasPrefix(uri, "postgres") {
		uri = "csv:" + shop
	}
	source, err := h.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	byID := []sources.Sort{{Column: "id"}}
	var all []question
	for _, q := range []core.Query{
		{Table: "orders"},
		{Table: "orders", OrderBy: byID},
		{Table: "orders", OrderBy: byID, Limit: 300, Where: sources.Not{Predicate: sources.Comparison{Column: "id", Op: sources.OpLt, Value: sources.Int(100)}}},
		{Table: "orders", Load: loads("customer")},
		{Table: "customers", OrderBy: byID, Load: loads("orders")},
		{Table: "order_lines"},
		{Table: "order_lines", OrderBy: []sources.Sort{{Column: "order_id"}, {Column: "line"}}},
	} {
		stream, err := source.Stream(ctx, q, core.Options{})
		if err != nil {
			return nil, err
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				return nil, err
			}
		}
		all = append(all, question{query: q, truth: stream.Receipt()})
	}
	return all, nil
}

func loads(name string) query.Load { return query.Load{Required: []query.Branch{{Name: name}}} }

// close stops the server and removes the files of the world.
func (w *world) close() error {
	var err error
	if w.server != nil {
		err = w.server.Stop()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}
