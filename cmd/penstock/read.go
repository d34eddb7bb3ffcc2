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
	"github.com/penstock-data/penstock/host"
)

const whereHelp = `--where is a condition in CEL (https://cel.dev) over the table's columns:
  comparisons with a literal    total > 19.90    placed >= timestamp("2026-01-01T00:00:00Z")
  && || ! and parentheses       !(city == "Oslo" || vip)
  lists, NULL and text          id in [1, 2]    city != null    sku.startsWith("A-")    like(name, "%ist")
  dates, times and decimals     day < date("2026-02-01")    at == time("08:30:00")    decimal("0.1")
  a column with an odd name     row["unit price"] < 5`

type readFlags struct {
	sourceFlags
	columns, where, orderBy string
	limit, chunkRows        int64
	format, output, stats   string
}

func newRead() *cobra.Command {
	var f readFlags
	c := &cobra.Command{
		Use:   "read SOURCE TABLE",
		Short: "Read a table, or some of its rows and columns",
		Long: `Read a table, or some of its rows and columns, holding no more memory than --memory.
What the source cannot do itself (filter, sort, limit, choose columns) is done here.

` + sourceHelp + `

` + whereHelp,
		Example: `  penstock read csv:shop orders --where 'total > 100.0' --order-by total:desc --limit 10
  penstock read csv:shop orders --columns id,total --format csv -o orders.csv
  penstock read postgres://localhost/shop orders --memory 64MiB --stats`,
		Args: wantArgs(2, "SOURCE", "TABLE"),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0], args[1]) },
	}
	f.add(c)
	flags := c.Flags()
	flags.StringVar(&f.columns, "columns", "", `the columns to give, in this order: a,b,"odd, name"`)
	flags.StringVar(&f.where, "where", "", "give only the rows for which this is true")
	flags.StringVar(&f.orderBy, "order-by", "", "the order of the rows: column[:asc|:desc][:nulls-first|:nulls-last],...")
	flags.Int64Var(&f.limit, "limit", 0, "give so many rows at most")
	flags.Int64Var(&f.chunkRows, "chunk-rows", 0, "handle so many rows at once (default 1000)")
	flags.StringVar(&f.format, "format", "", "table, ndjson, csv or arrow (default: table on a terminal, by the ending of -o, else ndjson)")
	flags.StringVarP(&f.output, "output", "o", "", "write to this file, which appears when it is complete")
	flags.StringVar(&f.stats, "stats", "", `write what was read and held to standard error; --stats=json writes one JSON object as the last line`)
	flags.Lookup("stats").NoOptDefVal = "text"
	return c
}

// run checks what was typed, opens the source, and writes its rows.
func (f *readFlags) run(c *cobra.Command, uri, table string) error {
	q := core.Query{Table: table, Limit: f.limit}
	var err error
	if c.Flags().Changed("limit") && f.limit <= 0 {
		return usagef("--limit is %d: it must be at least 1", f.limit)
	}
	if c.Flags().Changed("chunk-rows") && f.chunkRows <= 0 {
		return usagef("--chunk-rows is %d: it must be at least 1", f.chunkRows)
	}
	if f.stats != "" && f.stats != "text" && f.stats != "json" {
		return usagef("--stats is %q: write --stats or --stats=json", f.stats)
	}
	if c.Flags().Changed("columns") {
		if q.Columns, err = parseColumns(f.columns); err != nil {
			return err
		}
	}
	if c.Flags().Changed("order-by") {
		if q.OrderBy, err = parseOrder(f.orderBy); err != nil {
			return err
		}
	}
	format, err := f.chooseFormat(c.OutOrStdout())
	if err != nil {
		return err
	}
	limit, err := f.sourceFlags.limit()
	if err != nil {
		return err
	}
	// The budget counts what rows need. This keeps what the runtime needs beside
	// them, garbage above all, from growing with what is read.
	debug.SetGCPercent(10)
	debug.SetMemoryLimit(limit + 32<<20)
	return f.open(c, uri, func(ctx context.Context, source *host.Source) error {
		if c.Flags().Changed("where") {
			catalog, err := source.Catalog(ctx)
			if err != nil {
				return err
			}
			t, err := findTable(catalog, table)
			if err != nil {
				return err
			}
			if q.Where, err = compileWhere(f.where, t); err != nil {
				return err
			}
		}
		stream, err := source.Stream(ctx, q, core.Options{Memory: limit, ChunkRows: f.chunkRows, ReadAhead: true})
		if err != nil {
			return err
		}
		err = f.write(c.OutOrStdout(), format, stream)
		err = errors.Join(err, stream.Close())
		if f.stats == "" {
			return err
		}
		receipt := stream.Receipt()
		if err != nil {
			return &afterError{error: err, after: func(w io.Writer) { _ = writeStats(w, f.stats, receipt) }}
		}
		return writeStats(c.ErrOrStderr(), f.stats, receipt)
	})
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
func (f *readFlags) write(stdout io.Writer, format string, stream *core.Stream) (err error) {
	if f.output == "" {
		return writeRows(stdout, format, lookOf(stdout), stream)
	}
	out, err := createOutput(f.output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Discard()) }()
	if err := writeRows(out, format, tableLook{}, stream); err != nil {
		return err
	}
	return out.Commit()
}

// outputBuffer is how much is gathered for one write to the system.
const outputBuffer = 64 << 10

func writeRows(w io.Writer, format string, look tableLook, stream *core.Stream) error {
	buffered := bufio.NewWriterSize(w, outputBuffer)
	rows, err := newRowWriter(format, buffered, stream.Schema(), stream.Allocator(), look)
	if err != nil {
		return err
	}
	for chunk, fault := range stream.Chunks() {
		if fault != nil {
			// What came before the fault is good, and is given.
			err = fault
			break
		}
		if err := rows.Write(chunk.Record); err != nil {
			return err
		}
		if look.Width > 0 { // somebody is watching
			if err := buffered.Flush(); err != nil {
				return err
			}
		}
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
		r.Table, state, r.Rows, r.Chunks, core.FormatBytes(r.Bytes), r.Elapsed.Round(time.Millisecond), float64(r.Rows)/seconds,
		core.FormatBytes(r.PeakBytes), core.FormatBytes(r.LimitBytes), r.Checksum)
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
