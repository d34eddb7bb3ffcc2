package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
)

// linked are the sources that this program brings along.
var linked = map[string]sources.Open{"csv": csv.Open, "postgres": postgres.Open, "postgresql": postgres.Open}

const sourceHelp = `SOURCE is one of
  csv:DIR, csv:FILE, 'csv:DIR/*.csv'   CSV files, with the types and keys of a datapackage.json beside them;
                                       options follow a ?, as in 'csv:FILE?header=false&delimiter=tab';
                                       csv:- is standard input
  postgres://USER:PASSWORD@HOST/DB     a PostgreSQL database; options follow a ?, as in ?schema=sales&special=null;
                                       what is left out comes from PGHOST and the like, a service or a password file
  'wasm:FILE.wasm?dir=DIR'             a WebAssembly module, which sees DIR and nothing else
  'plugin:PATH?uri=URI'                an executable that serves a source
  NAME:..., NAME://...                 penstock-source-NAME or NAME.wasm beside this program, in $PENSTOCK_PLUGIN_PATH,
                                       or in penstock/plugins of your data directory`

// sourceFlags are those of every command that opens a source.
type sourceFlags struct {
	memory    string
	isolation string
	isolate   string
	verbose   bool
	cache     *host.Cache // nil where nothing is remembered
}

func (f *sourceFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.memory, "memory", "", "the most memory to hold, as in 64MiB (default 500 MB)")
	c.Flags().StringVar(&f.isolation, "isolation", string(host.Process), "where the source runs: inproc, process or wasm")
	c.Flags().StringVar(&f.isolate, "isolate", "", "the most private memory of the source's process, as in 256MiB (default as much as --memory, at least 128 MiB; for a module 192 MiB)")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log to standard error what sources say")
}

// limit is the memory to hold, in bytes.
func (f *sourceFlags) limit() (int64, error) {
	if f.memory == "" {
		return core.DefaultMemory, nil
	}
	return parseSize(f.memory)
}

// open opens a source and calls use with it. Everything is closed afterwards.
func (f *sourceFlags) open(c *cobra.Command, uri string, use func(ctx context.Context, source *host.Source) error) (err error) {
	limit, err := f.limit()
	if err != nil {
		return err
	}
	isolates := host.Isolates{}
	if f.isolate != "" {
		if isolates.Memory, err = parseSize(f.isolate); err != nil {
			return err
		}
	}
	switch i := host.Isolation(f.isolation); i {
	case host.InProcess, host.Process, host.Module:
	default:
		return usagef("--isolation is %q: it is one of inproc, process and wasm", i)
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelDebug
	}
	h, err := host.New(host.Options{
		Sources:   linked,
		Isolation: wallFor(host.Isolation(f.isolation), uri),
		Memory:    limit,
		Isolates:  isolates,
		Cache:     f.cache,
		Logger:    slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return err
	}
	defer func() {
		if closing := h.Close(); err == nil {
			err = closing
		}
	}()
	source, err := h.Open(c.Context(), uri)
	if err != nil {
		return err
	}
	return use(c.Context(), source)
}

// wallFor is where the source of a URI runs: standard input is this process's
// own, and no other can read it.
func wallFor(wall host.Isolation, uri string) host.Isolation {
	if uri == "csv:-" || strings.HasPrefix(uri, "csv:-?") {
		return host.InProcess
	}
	return wall
}
