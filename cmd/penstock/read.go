package main

import (
	"bufio"
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
)

type readFlags struct {
	queryFlags
	format, output, stats string
	flat, token           bool
	after, checkpoint     string
	caching               cacheFlags
}

func newRead() *cobra.Command {
	var f readFlags
	c := &cobra.Command{
		Use:   "read SOURCE TABLE",
		Short: "Read a table, or some of its rows and columns",
		Long: `Read a table, or some of its rows and columns, holding no more memory than --memory.
What the source cannot do itself (filter, sort, limit, choose columns) is done here.

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
	flags.StringVar(&f.format, "format", "", "table, ndjson, csv or arrow (default: table on a terminal, by the ending of -o, else ndjson)")
	flags.StringVarP(&f.output, "output", "o", "", "write to this file, which appears when it is complete")
	flags.BoolVar(&f.flat, "flatten", false, "give the columns of relations beside the others, as in customer.name, and a row for each related row")
	flags.StringVar(&f.after, "after", "", "go on right behind the rows of this token; all else but --limit is as it was then")
	flags.BoolVar(&f.token, "token", false, "write the token behind the last row to standard error, for --after")
	flags.StringVar(&f.checkpoint, "checkpoint", "", "keep in this file how far -o has come: after a fault or a kill the same command goes on from there")
	flags.StringVar(&f.stats, "stats", "", `write what was read and held to standard error; --stats=json writes one JSON object as the last line`)
	flags.Lookup("stats").NoOptDefVal = "text"
	return c
}

// run checks what was typed, opens the source, and writes its rows.
func (f *readFlags) run(c *cobra.Command, uri, table string) error {
	q, options, err := f.parse(c, table)
	if err != nil {
		return err
	}
	if f.stats != "" && f.stats != "text" && f.stats != "json" {
		return usagef("--stats is %q: write --stats or --stats=json", f.stats)
	}
	if f.cache, options.Caching, err = f.caching.parse(c); err != nil {
		return err
	}
	format, err := f.chooseFormat(c.OutOrStdout())
	if err == nil {
		err = f.checkExport(format)
	}
	if err != nil {
		return err
	}
	// The budget counts what rows need. This keeps what the runtime needs beside
	// them, garbage above all, from growing with what is read.
	debug.SetGCPercent(10)
	debug.SetMemoryLimit(options.Memory + 32<<20)
	return f.open(c, uri, func(ctx context.Context, source *host.Source) error {
		if err := f.compile(ctx, c, source, &q); err != nil {
			return err
		}
		options.ReadAhead, options.Tokens = true, f.token
		stream, err := f.read(ctx, c.OutOrStdout(), source, q, options, format)
		if stream == nil {
			return err
		}
		receipt := stream.Receipt()
		last := func(w io.Writer) error {
			if f.token && receipt.Token != "" && f.stats != "json" {
				if _, err := fmt.Fprintf(w, "token: %s\n", receipt.Token); err != nil {
					return err
				}
			}
			if f.stats == "" {
				return nil
			}
			return writeStats(w, f.stats, receipt)
		}
		if err != nil {
			return &afterError{error: err, after: func(w io.Writer) { _ = last(w) }}
		}
		return last(c.ErrOrStderr())
	})
}

// read reads the rows and writes them to where they are wanted. The stream is nil
// where there was none.
func (f *readFlags) read(ctx context.Context, stdout io.Writer, source *host.Source, q core.Query, o core.Options, format string) (*core.Stream, error) {
	if f.checkpoint != "" {
		return f.export(ctx, source, q, o, format)
	}
	q.After = core.Token(f.after)
	stream, err := source.Stream(ctx, q, o)
	if err != nil {
		return nil, err
	}
	err = f.write(ctx, stdout, format, stream, q.Load.Optional)
	return stream, errors.Join(err, stream.Close())
}

// afterError is an error after whose text there is something more to write.
type afterError struct {
	error
	after func(w io.Writer)
}

// Unwrap returns the error itself.
func (e *afterError) Unwrap() error { return e.error }

var formatOf = map[string]string{".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".arrow": "arrow", ".arrows": "arrow", ".txt": "table"}

func (f *readFlags) chooseFormat(stdout io.Writer) (string, error) {
	switch f.format {
	case "table", "ndjson", "csv", "arrow":
		return f.format, nil
	case "":
	default:
		_, err := newRowWriter(f.format, nil, nil, nil, tableLook{})
		return "", err
	}
	if f.output != "" {
		if format, ok := formatOf[strings.ToLower(filepath.Ext(f.output))]; ok {
			return format, nil
		}
		return "ndjson", nil
	}
	if _, ok := terminal(stdout); ok {
		return "table", nil
	}
	return "ndjson", nil
}

// terminal returns the file that is a terminal.
func terminal(w io.Writer) (*os.File, bool) {
	file, ok := w.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd()))
}

// lookOf is how a table looks where it is written.
func lookOf(w io.Writer) tableLook {
	file, ok := terminal(w)
	if !ok {
		return tableLook{}
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		width = 0
	}
	return tableLook{Width: width, Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// write writes the stream's rows to standard output or to the file of -o.
func (f *readFlags) write(ctx context.Context, stdout io.Writer, format string, stream *core.Stream, optional []query.Branch) (err error) {
	rows, err := resultOf(stream, optional)
	if err != nil {
		return err
	}
	if f.output == "" {
		return f.writeRows(ctx, stdout, format, lookOf(stdout), rows, nil)
	}
	out, err := createOutput(f.output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Discard()) }()
	if err := f.writeRows(ctx, out, format, tableLook{}, rows, nil); err != nil {
		return err
	}
	return out.Commit()
}

// outputBuffer is how much is gathered for one write to the system.
const outputBuffer = 64 << 10

// writeRows writes what a stream gives. An export, where there is one, is told of
// each chunk, and goes on behind what it has.
func (f *readFlags) writeRows(ctx context.Context, w io.Writer, format string, look tableLook, from *result, x *export) error {
	choose := rowFormat(newRowWriter)
	if f.flat {
		choose = newFlatWriter
	}
	if x != nil && x.resumed {
		head, err := headBytes(choose, format, from.schema)
		if err != nil {
			return err
		}
		w = &headless{to: w, left: head}
	}
	buffered := bufio.NewWriterSize(w, outputBuffer)
	rows, err := choose(format, buffered, from.schema, from.Allocator(), look)
	if err != nil {
		return err
	}
	for chunk, fault := range from.Chunks() {
		if x != nil && x.full {
			break
		}
		if fault != nil {
			// What came before the fault is good, and is given.
			err = fault
			break
		}
		record, fault := from.record(ctx, chunk)
		if fault != nil {
			err = fault
			break
		}
		fault = rows.Write(record)
		record.Release()
		if fault == nil && x != nil {
			fault = x.passed(chunk, buffered)
		}
		if fault != nil {
			return fault
		}
		if look.Width > 0 { // somebody is watching
			if err := buffered.Flush(); err != nil {
				return err
			}
		}
	}
	if err != nil && x != nil {
		return errors.Join(err, x.save(buffered)) // the next run goes on, and closes
	}
	return errors.Join(err, rows.Close(), buffered.Flush())
}

// writeStats writes a receipt for people or as JSON.
func writeStats(w io.Writer, form string, r core.Receipt) error {
	if form == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	state := "complete"
	if !r.Complete {
		state = "not complete"
	}
	seconds := max(r.Elapsed.Seconds(), 1e-9)
	_, err := fmt.Fprintf(w, "%s: %s, %d rows in %d chunks, %s in %s (%.0f rows/s)\nheld at most %s of %s, checksum %s\n",
		r.Table, state, r.Rows, r.Chunks, budget.FormatBytes(r.Bytes), r.Elapsed.Round(time.Millisecond), float64(r.Rows)/seconds,
		budget.FormatBytes(r.PeakBytes), budget.FormatBytes(r.LimitBytes), r.Checksum)
	if r.SandboxLimitBytes > 0 {
		_, isolateErr := fmt.Fprintf(w, "its process held at most %s of %s\n", budget.FormatBytes(r.SandboxPeakBytes), budget.FormatBytes(r.SandboxLimitBytes))
		err = errors.Join(err, isolateErr)
	}
	if r.Cache != "" {
		age := ""
		if r.CacheAge > 0 {
			age = ", asked " + r.CacheAge.Round(time.Millisecond).String() + " ago"
		}
		_, cacheErr := fmt.Fprintf(w, "cache: %s%s\n", r.Cache, age)
		err = errors.Join(err, cacheErr)
	}
	for _, relation := range r.Relations {
		_, relationErr := fmt.Fprintf(w, "%s: %d look-ups for %d keys, of which %d were remembered; %d rows, %d dangling\n",
			relation.Path, relation.Lookups, relation.Keys, relation.Remembered, relation.Rows, relation.Dangling)
		err = errors.Join(err, relationErr)
	}
	if r.Retries > 0 {
		_, retryErr := fmt.Fprintf(w, "tried again %d times; first: %s\n", r.Retries, r.Faults[0].Text)
		err = errors.Join(err, retryErr)
	}
	if r.Skipped > 0 {
		_, skipErr := fmt.Fprintf(w, "skipped %d records:\n", r.Skipped)
		err = errors.Join(err, skipErr)
		for _, place := range r.SkippedFirst {
			_, placeErr := fmt.Fprintf(w, "  %s\n", place)
			err = errors.Join(err, placeErr)
		}
	}
	return err
}
