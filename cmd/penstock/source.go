package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/wasm"
)

// linked are the sources that are part of this program.
var linked = map[string]sources.Open{"csv": csv.Open, "postgres": postgres.Open, "postgresql": postgres.Open}

// walls are the ways in which this program runs sources in isolation.
var walls = []wall.Wall{process.Wall(), wasm.Wall()}

const sourceHelp = `SOURCE is one of
  csv:DIR, csv:FILE, 'csv:DIR/*.csv'   CSV files, each a table named after the file, with types and keys from a datapackage.json beside them;
                                       options follow a ?, as in 'csv:FILE?header=false&delimiter=tab';
                                       csv:- is standard input, the table stdin;
                                       '?table=NAME&union=names' reads all files as one table;
                                       '?relation=TABLE.COLUMN->TABLE.COLUMN' declares a relation, here and for postgres
  postgres://USER:PASSWORD@HOST/DB     a PostgreSQL database; options follow a ?, as in ?schema=sales&special=null;
                                       missing parts come from PGHOST and the like, a service file or a password file
  'wasm:FILE.wasm?dir=DIR'             a WebAssembly module, which can access only DIR
  'plugin:PATH?uri=URI'                an executable that serves a source
  NAME:..., NAME://...                 penstock-source-NAME or NAME.wasm next to this program, in $PENSTOCK_PLUGIN_PATH,
                                       or in penstock/plugins of your data directory`

// sourceFlags are the flags of every command that opens a source.
type sourceFlags struct {
	memory    string
	isolation string
	isolate   string
	env       []string
	verbose   bool
	cache     *cacheConfig // nil for no cache
}

func (f *sourceFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.memory, "memory", "", "memory limit, such as 64MiB (default 500 MB)")
	c.Flags().StringVar(&f.isolation, "isolation", string(host.Process), "where the source runs: inproc (in this process, also modules, which must be trusted), process (in its own) or wasm (as a module in its own process)")
	c.Flags().StringVar(&f.isolate, "isolate", "", "memory limit of the process of --isolation, apart from --memory, such as 256MiB (default: --memory, but at least 128 MiB; 192 MiB for a module)")
	c.Flags().StringArrayVar(&f.env, "env", nil, "environment variable that the process of --isolation gets, such as AWS_REGION or AWS_*, beside PATH, HOME, TZ, locale and the like, and PG* for postgres; may be repeated")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "print the log of the source to standard error")
}

// limit returns the memory limit in bytes.
func (f *sourceFlags) limit() (int64, error) {
	if f.memory == "" {
		return core.DefaultMemory, nil
	}
	return parseSize(f.memory)
}

// open opens a source, calls use with it, and closes it.
func (f *sourceFlags) open(c *cobra.Command, uri string, use func(ctx context.Context, source *host.Source) error) (err error) {
	limit, err := f.limit()
	if err != nil {
		return err
	}
	sandboxes := host.SandboxOptions{}
	if f.isolate != "" {
		if sandboxes.Memory, err = parseSize(f.isolate); err != nil {
			return err
		}
	}
	if len(f.env) > 0 {
		if name, _, err := host.ParseURI(uri); err == nil { // Open returns the error
			sandboxes.Environment = map[string][]string{name: f.env}
		}
	}
	switch i := host.Isolation(f.isolation); i {
	case host.InProcess, host.Process, host.Module:
	default:
		return usagef("--isolation must be inproc, process or wasm (got %q)", i)
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	cache, err := f.cache.open(logger)
	if err != nil {
		return err
	}
	h, err := host.New(host.Options{
		Sources:   linked,
		Walls:     walls,
		Isolation: isolationFor(host.Isolation(f.isolation), uri),
		Memory:    limit,
		Sandboxes: sandboxes,
		Cache:     cache,
		Logger:    logger,
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

// isolationFor returns where the source of a URI runs: in this process for standard
// input, which no other process can read.
func isolationFor(isolation host.Isolation, uri string) host.Isolation {
	if uri == "csv:-" || strings.HasPrefix(uri, "csv:-?") {
		return host.InProcess
	}
	return isolation
}
