package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/internal/display"
	"github.com/penstock-data/penstock/outputs"
	"github.com/penstock-data/penstock/outputs/file"
)

type readFlags struct {
	queryFlags
	format, output, stats string
	flat, token, noDigest bool
	acrossSnapshots       bool
	after, checkpoint     string
	caching               cacheFlags
}

func newRead() *cobra.Command {
	var f readFlags
	c := &cobra.Command{
		Use:   "read SOURCE TABLE",
		Short: "Read a table, or some of its rows and columns",
		Long: `Read a table, or some of its rows and columns, within the memory limit of --memory.
Penstock filters, sorts, limits and selects columns itself if the source cannot.

` + sourceHelp + `

` + whereHelp + `

` + loadHelp,
		Example: `  penstock read csv:shop orders --where 'freight > 100.00' --order-by freight:desc --limit 10
  penstock read csv:shop orders --columns id,freight --format csv -o orders.csv
  penstock read postgres://localhost/shop orders --memory 64MiB --stats
  penstock read postgres://localhost/shop orders -o orders.csv --checkpoint orders.checkpoint
  penstock read postgres://localhost/shop orders --cache-dir ~/.cache/penstock --cache-ttl 1h`,
		Args: wantArgs(2, "SOURCE", "TABLE"),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0], args[1]) },
	}
	f.add(c)
	f.caching.add(c)
	flags := c.Flags()
	flags.StringVar(&f.format, "format", "", "table, ndjson, csv or arrow (default: by the extension of -o; table on a terminal; otherwise ndjson)")
	flags.StringVarP(&f.output, "output", "o", "", "write to this file, which appears once it is complete")
	flags.BoolVar(&f.flat, "flatten", false, "turn nested columns into flat ones, such as customer.name, with one row for each related row")
	flags.StringVar(&f.after, "after", "", "resume after this token (with the same table, --columns, --where, --order-by and --no-pushdown)")
	flags.BoolVar(&f.token, "token", false, "print the token after the last row to standard error, for --after")
	flags.StringVar(&f.checkpoint, "checkpoint", "", "record export progress in this file; rerunning the same command resumes after a failure")
	flags.BoolVar(&f.acrossSnapshots, "resume-across-snapshots", false, "with --after or --checkpoint, resume the read of a database although its data may have changed: the rows are then of different snapshots")
	flags.BoolVar(&f.noDigest, "no-digest", false, "save the time to compute the digest of the rows, which --stats prints")
	flags.StringVar(&f.stats, "stats", "", `print a summary to standard error; --stats=json prints one JSON object as the last line`)
	flags.Lookup("stats").NoOptDefVal = "text"
	return c
}

// run checks the flags, opens the source and writes its rows.
func (f *readFlags) run(c *cobra.Command, uri, table string) (err error) {
	q, options, err := f.parse(c, table)
	if err != nil {
		return err
	}
	if f.stats != "" && f.stats != "text" && f.stats != "json" {
		return usagef("--stats must be --stats or --stats=json (got %q)", f.stats)
	}
	if f.cache, options.Caching, err = f.caching.parse(c); err != nil {
		return err
	}
	if f.acrossSnapshots && f.after == "" && f.checkpoint == "" {
		return usagef("--resume-across-snapshots needs --after or --checkpoint")
	}
	format, err := f.chooseFormat(rawOutput(c))
	if err != nil {
		return err
	}
	var x *file.Export
	if f.checkpoint != "" {
		if x, err = f.newExport(table, format); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, x.Close()) }()
	}
	// The budget counts memory for rows. These settings bound what the runtime uses
	// in addition, mostly garbage, whatever the size of the table.
	debug.SetGCPercent(10)
	debug.SetMemoryLimit(options.Memory + 32<<20)
	return f.open(c, uri, func(ctx context.Context, source *host.Source) error {
		if err := f.compile(ctx, c, source, &q); err != nil {
			return err
		}
		options.ReadAhead, options.Tokens, options.NoDigests, options.AcrossSnapshots = true, f.token, f.noDigest, f.acrossSnapshots
		stream, err := f.read(ctx, c, source, q, options, format, x)
		if stream == nil {
			return err
		}
		receipt := stream.Receipt()
		last := func(w io.Writer) error {
			// Without its output, a token would skip rows that are nowhere.
			lost := err != nil && f.output != "" && x == nil
			if f.token && receipt.Token != "" && f.stats != "json" && !lost {
				if _, err := fmt.Fprintf(w, "token: %s\n", receipt.Token); err != nil {
					return err
				}
			}
			if f.stats == "" {
				return writeSkipped(w, receipt)
			}
			return writeStats(w, f.stats, receipt)
		}
		if err != nil {
			return &afterError{error: err, after: func(w io.Writer) { _ = last(w) }}
		}
		return last(c.ErrOrStderr())
	})
}

// read reads the rows and writes them to the output. The stream is nil if none was
// opened.
func (f *readFlags) read(ctx context.Context, c *cobra.Command, source *host.Source, q core.Query, o core.Options, format outputs.Format, x *file.Export) (*core.Stream, error) {
	if x != nil {
		return f.export(ctx, c.ErrOrStderr(), source, q, o, format, x)
	}
	q.After = core.Token(f.after)
	stream, err := source.Stream(ctx, q, o)
	if err != nil {
		return nil, resumeHint(err)
	}
	text := mixed(stream)
	if f.token && stream.Resumption() == core.ResumeSameSnapshot {
		text = "the token is valid only while the data is unchanged: for one that lasts, give an order with --order-by, and no --parallel"
	}
	err = notice(c.ErrOrStderr(), text)
	if err == nil {
		err = f.write(ctx, rowsOutput(rawOutput(c), format), format, stream, q.Load.Optional)
	}
	return stream, errors.Join(err, stream.Close())
}

// afterError is an error with more text to print after its own.
type afterError struct {
	error
	after func(w io.Writer)
}

// Unwrap returns the error itself.
func (e *afterError) Unwrap() error { return e.error }

// chooseFormat returns the format of --format, else that of the extension of -o,
// else the one that suits standard output.
func (f *readFlags) chooseFormat(stdout io.Writer) (outputs.Format, error) {
	format, ok := outputs.Lookup("ndjson")
	switch _, isTerminal := terminal(stdout); {
	case f.format != "":
		format, ok = outputs.Lookup(f.format)
	case f.output != "":
		if byName, found := outputs.ByExtension(filepath.Ext(f.output)); found {
			format = byName
		}
	case isTerminal:
		format, ok = outputs.Lookup("table")
	}
	if !ok {
		return format, usagef("there is no format %q: use one of %s", f.format, strings.Join(outputs.Names(), ", "))
	}
	if f.flat && !format.Flatten {
		return format, usagef("--flatten: %s holds nested rows as they are: leave out --flatten or choose another --format", format.Name)
	}
	return format, nil
}

// rawOutput returns standard output itself, for rows: other programs read them.
func rawOutput(c *cobra.Command) io.Writer {
	out := c.OutOrStdout()
	if escaped, ok := out.(*display.Writer); ok {
		return escaped.Unwrap()
	}
	return out
}

// rowsOutput returns where rows are written for standard output. A terminal gets no
// values as they are: a table escapes them itself, and for other formats the writer does.
func rowsOutput(stdout io.Writer, format outputs.Format) io.Writer {
	if _, isTerminal := terminal(stdout); isTerminal && format.Name != "table" {
		return display.NewWriter(stdout)
	}
	return stdout
}

// terminal returns w as a file, and reports whether that is a terminal.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// lookOf returns the options of a table that is written to w.
func lookOf(w io.Writer) outputs.TableOptions {
	terminal, ok := terminal(w)
	if !ok {
		return outputs.TableOptions{}
	}
	width, _, err := term.GetSize(int(terminal.Fd()))
	if err != nil {
		width = 0
	}
	return outputs.TableOptions{Width: width, Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// bufferShare is the part of a stream's memory that its writer may take: as much
// as a page of a source.
const bufferShare = 32

// newWriter returns a writer of a result, which continues an output of offset
// bytes. What a format cannot hold is a usage error.
func (f *readFlags) newWriter(w io.Writer, format outputs.Format, rows *result, look outputs.TableOptions, offset int64) (outputs.Writer, error) {
	writer, err := format.NewWriter(w, rows.schema, outputs.Options{
		Allocator: rows.Allocator(),
		Buffer:    int(max(min(rows.Budget().Limit()/bufferShare, outputs.DefaultBuffer), 1)),
		Offset:    offset,
		Flatten:   f.flat,
		Table:     look,
	})
	var column *outputs.ColumnError
	switch {
	case !errors.As(err, &column):
		return writer, err
	case column.Flatten:
		return nil, usagef("column %q %s: --flatten gives its values columns of their own; or leave it out with --columns, or use --format ndjson", column.Column, column.Problem)
	case f.flat:
		return nil, usagef("--flatten: %v", column)
	}
	return nil, usagef("%v", column)
}

// write writes the rows of a stream to standard output or to the file of -o.
func (f *readFlags) write(ctx context.Context, stdout io.Writer, format outputs.Format, stream *core.Stream, optional []query.Branch) (err error) {
	rows, err := resultOf(stream, optional)
	if err != nil {
		return err
	}
	if f.output == "" {
		return f.writeRows(ctx, stdout, format, lookOf(stdout), rows)
	}
	out, err := createOutput(f.output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Discard()) }()
	if err := f.writeRows(ctx, out, format, outputs.TableOptions{}, rows); err != nil {
		return err
	}
	return out.Commit()
}

// createOutput begins the file of -o.
func createOutput(name string) (*file.File, error) {
	out, err := file.Create(name)
	if errors.Is(err, file.ErrDirectory) {
		return nil, usagef("-o: %v", err)
	}
	return out, err
}

// writeRows writes the rows of a result. The rows before a fault of the stream
// are good, and are written.
func (f *readFlags) writeRows(ctx context.Context, to io.Writer, format outputs.Format, look outputs.TableOptions, rows *result) error {
	w, err := f.newWriter(to, format, rows, look, 0)
	if err != nil {
		return err
	}
	defer w.Abort()
	fault, err := rows.writeTo(ctx, w, func(*core.Chunk) error {
		_, err := w.Flush() // the next chunk may come late
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(fault, w.Close())
}

// writeStats writes a receipt as text or as JSON.
func writeStats(w io.Writer, form string, r core.Receipt) error {
	if form == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	state := "complete"
	if !r.Complete {
		state = "not complete"
	}
	seconds := max(r.Elapsed.Seconds(), 1e-9)
	_, err := fmt.Fprintf(w, "%s: %s, %d rows in %d chunks, %s in %s (%.0f rows/s)\npeak memory %s of %s\n",
		display.Printable(r.Table), state, r.Rows, r.Chunks, budget.FormatBytes(r.Bytes), r.Elapsed.Round(time.Millisecond), float64(r.Rows)/seconds,
		budget.FormatBytes(r.PeakBytes), budget.FormatBytes(r.LimitBytes))
	if r.TotalRows != r.Rows {
		of := ""
		if r.Snapshots > 1 {
			of = fmt.Sprintf(", of %d snapshots of the data", r.Snapshots)
		}
		_, totalErr := fmt.Fprintf(w, "%d rows with those of earlier runs%s\n", r.TotalRows, of)
		err = errors.Join(err, totalErr)
	}
	if !r.Digest.IsZero() {
		_, digestErr := fmt.Fprintf(w, "digest of %d rows: %s; in any order: %s\n", r.Digest.Rows(), r.Digest.Ordered(), r.Digest.AnyOrder())
		err = errors.Join(err, digestErr)
	}
	if r.SandboxLimitBytes > 0 {
		_, isolateErr := fmt.Fprintf(w, "peak memory of the source's process: %s of %s\n", budget.FormatBytes(r.SandboxPeakBytes), budget.FormatBytes(r.SandboxLimitBytes))
		err = errors.Join(err, isolateErr)
	}
	if r.Cache != "" {
		age := ""
		if r.CacheAge > 0 {
			age = ", read from the source " + r.CacheAge.Round(time.Millisecond).String() + " ago"
		}
		_, cacheErr := fmt.Fprintf(w, "cache: %s%s\n", r.Cache, age)
		err = errors.Join(err, cacheErr)
	}
	for _, relation := range r.Relations {
		_, relationErr := fmt.Fprintf(w, "%s: %d look-ups for %d keys (%d known already), %d rows, %d dangling\n",
			display.Printable(relation.Path), relation.Lookups, relation.Keys, relation.Remembered, relation.Rows, relation.Dangling)
		err = errors.Join(err, relationErr)
	}
	if r.Retries > 0 {
		_, retryErr := fmt.Fprintf(w, "retries: %d; first fault: %s\n", r.Retries, display.Printable(r.Faults[0].Text))
		err = errors.Join(err, retryErr)
	}
	return errors.Join(err, writeSkipped(w, r))
}

// writeSkipped writes how many records the source left out, if any: nobody may take
// the rows for all that there are.
func writeSkipped(w io.Writer, r core.Receipt) (err error) {
	line := func(format string, args ...any) {
		_, lineErr := fmt.Fprintf(w, format, args...)
		err = errors.Join(err, lineErr)
	}
	if r.Skipped > 0 {
		line("skipped %d records:\n", r.Skipped)
		for _, location := range r.SkippedFirst {
			line("  %s\n", display.Printable(location))
		}
	}
	for _, relation := range r.Relations {
		if relation.Skipped > 0 {
			line("skipped %d records while looking up %s\n", relation.Skipped, display.Printable(relation.Path))
		}
	}
	return err
}
