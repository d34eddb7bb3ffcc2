package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// checkpoint says how far an export has come that can be killed at any moment.
// Its file is replaced whole, and only after what it counts is on the disk.
type checkpoint struct {
	Version int        `json:"version"`
	Output  string     `json:"output"`
	Format  string     `json:"format"`
	Limit   int64      `json:"limit,omitempty"` // as it was asked
	Token   core.Token `json:"token"`           // behind the last row that counts
	Rows    int64      `json:"rows"`            // so many
	Bytes   int64      `json:"bytes"`           // of the output, for those rows
	// Complete says that the output only wants its name.
	Complete bool `json:"complete,omitempty"`
}

const checkpointVersion = 1

// saveEvery is how much work is done again at most after a kill. Each save waits
// for the disk twice.
const saveEvery = time.Second

// export writes an output whose partial file has a name that the next run finds.
type export struct {
	file    string // of the checkpoint
	partial string
	state   checkpoint
	resumed bool
	full    bool // the limit was reached: there is only an end to write
	out     *os.File
	saved   time.Time
}

// checkExport says what is wrong with the flags of an export.
func (f *readFlags) checkExport(format string) error {
	switch {
	case f.checkpoint == "":
		return nil
	case f.output == "":
		return usagef("--checkpoint wants the file of -o: standard output cannot go on where it stopped")
	case f.after != "":
		return usagef("--checkpoint has the token of --after in its file: leave one out")
	case format == "table":
		return usagef("--checkpoint goes with --format ndjson, csv or arrow: a table's columns are as wide as its first rows")
	}
	if info, err := os.Stat(f.output); err == nil && !info.Mode().IsRegular() {
		return usagef("--checkpoint wants a regular file, and %s is none", f.output)
	}
	return nil
}

// beginExport reads the checkpoint, if there is one. The result is complete where
// the run before was killed when it had only to name the output.
func (f *readFlags) beginExport(format string) (*export, error) {
	x := &export{file: f.checkpoint, partial: filepath.Join(filepath.Dir(f.output), "."+filepath.Base(f.output)+".partial")}
	x.state = checkpoint{Version: checkpointVersion, Output: f.output, Format: format, Limit: f.limit}
	text, err := os.ReadFile(x.file)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	var was checkpoint
	if err == nil {
		err = json.Unmarshal(text, &was)
	}
	if err == nil && (was.Version != checkpointVersion || was.Bytes < 0 || was.Rows < 0) {
		err = errors.New("it is of another version of penstock")
	}
	if err != nil {
		return nil, fmt.Errorf("the checkpoint %s cannot be read: %w; remove it to begin again", x.file, err)
	}
	if was.Output != f.output || was.Format != format || was.Limit != f.limit {
		return nil, usagef("the checkpoint %s is of -o %s --format %s --limit %d: go on as then, or remove it to begin again", x.file, was.Output, was.Format, was.Limit)
	}
	x.state, x.resumed = was, true
	return x, nil
}

// order gives the query the order of the table's key where a place in the table's
// own order would not outlive this run: it would be one within a snapshot.
func (x *export) order(ctx context.Context, source *host.Source, q *core.Query) error {
	catalog, err := source.Catalog(ctx)
	if err != nil {
		return err
	}
	t, err := findTable(catalog, q.Table)
	if err != nil {
		return err
	}
	if len(q.OrderBy) > 0 || !t.Capabilities.Has(sources.CapSnapshot|sources.CapSort) {
		return nil
	}
	if len(t.Key) == 0 {
		return usagef("--checkpoint: table %s has no key, so its rows have no order that outlives this run: name one with --order-by", t.Name)
	}
	for _, column := range t.Key {
		q.OrderBy = append(q.OrderBy, sources.Sort{Column: column})
	}
	return nil
}

// export reads the rows that are still to come and writes them behind those that
// are there. The stream is nil where none was needed.
func (f *readFlags) export(ctx context.Context, source *host.Source, q core.Query, o core.Options, format string) (stream *core.Stream, err error) {
	x, err := f.beginExport(format)
	if err != nil {
		return nil, err
	}
	if x.state.Complete {
		return nil, x.finish()
	}
	if err := x.open(); err != nil {
		return nil, err
	}
	defer func() {
		if closing := x.out.Close(); !errors.Is(closing, fs.ErrClosed) {
			err = errors.Join(err, closing)
		}
	}()
	if err := x.order(ctx, source, &q); err != nil {
		return nil, err
	}
	q.After, o.Tokens = x.state.Token, true
	if x.full = q.Limit > 0 && x.state.Rows >= q.Limit; q.Limit > 0 && !x.full {
		q.Limit -= x.state.Rows
	}
	if stream, err = source.Stream(ctx, q, o); err != nil {
		return nil, x.explain(err)
	}
	rows, err := resultOf(stream, q.Load.Optional)
	if err == nil {
		err = f.writeRows(ctx, x.out, format, tableLook{}, rows, x)
	}
	if err = errors.Join(err, stream.Close()); err != nil {
		return stream, x.explain(err)
	}
	return stream, x.finish()
}

// open opens the partial file, and cuts off what does not count.
func (x *export) open() (err error) {
	mode := os.O_RDWR | os.O_CREATE
	if !x.resumed {
		mode |= os.O_TRUNC
	}
	if x.out, err = os.OpenFile(x.partial, mode, 0o666); err != nil || !x.resumed {
		return err
	}
	info, err := x.out.Stat()
	if err == nil && info.Size() < x.state.Bytes {
		err = fmt.Errorf("%s has %d bytes, and the checkpoint %s counts %d: remove the checkpoint to begin again", x.partial, info.Size(), x.file, x.state.Bytes)
	}
	if err == nil {
		err = x.out.Truncate(x.state.Bytes)
	}
	if err == nil {
		_, err = x.out.Seek(x.state.Bytes, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, x.out.Close())
	}
	return nil
}

// passed counts a chunk that was written, and saves from time to time.
func (x *export) passed(chunk *core.Chunk, buffered *bufio.Writer) error {
	if chunk.Token == "" {
		return usagef("--checkpoint: the rows of this table have no order in which they could be found again: name one with --order-by")
	}
	x.state.Token = chunk.Token
	x.state.Rows += chunk.Record.NumRows()
	if time.Since(x.saved) < saveEvery {
		return nil
	}
	return x.save(buffered)
}

// save puts what was written on the disk, and then the checkpoint.
func (x *export) save(buffered *bufio.Writer) error {
	if x.state.Token == "" {
		return nil
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := x.out.Sync(); err != nil {
		return err
	}
	at, err := x.out.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	x.state.Bytes = at
	x.saved = time.Now()
	return x.write()
}

// write replaces the checkpoint's file.
func (x *export) write() error {
	text, err := json.Marshal(x.state)
	if err != nil {
		return err
	}
	next, err := os.OpenFile(x.file+".next", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = next.Write(append(text, '\n'))
	if err == nil {
		err = next.Sync()
	}
	if err = errors.Join(err, next.Close()); err != nil {
		return err
	}
	return os.Rename(x.file+".next", x.file)
}

// finish names the output and removes the checkpoint. Whatever of it was done
// before a kill is passed over.
func (x *export) finish() error {
	if !x.state.Complete {
		info, err := x.out.Stat()
		if err == nil {
			err = x.out.Sync()
		}
		if err = errors.Join(err, x.out.Close()); err != nil {
			return err
		}
		x.state.Bytes, x.state.Complete = info.Size(), true
		if err := x.write(); err != nil {
			return err
		}
	}
	if err := os.Rename(x.partial, x.state.Output); err != nil {
		info, missing := os.Stat(x.state.Output)
		if !errors.Is(err, fs.ErrNotExist) || missing != nil || info.Size() != x.state.Bytes {
			return err
		}
	}
	return os.Remove(x.file)
}

// explain says what helps where a checkpoint does not fit any more.
func (x *export) explain(err error) error {
	if x.resumed && sources.KindOf(err) == sources.Invalid {
		return fmt.Errorf("%w; to begin again, remove %s", err, x.file)
	}
	return err
}

// headBytes is how much the writer of a format writes before the first row.
func headBytes(choose rowFormat, format string, schema *arrow.Schema) (int64, error) {
	var n counter
	rows, err := choose(format, &n, schema, memory.DefaultAllocator, tableLook{})
	if err == nil {
		err = rows.Close()
	}
	if format == "arrow" {
		n -= arrowEnd
	}
	return int64(n), err
}

// arrowEnd is how long the mark is that ends a stream of Arrow's.
const arrowEnd = 8

// counter counts what is written.
type counter int64

func (n *counter) Write(p []byte) (int, error) {
	*n += counter(len(p))
	return len(p), nil
}

// headless passes over the first bytes that are written to it.
type headless struct {
	to   io.Writer
	left int64
}

func (h *headless) Write(p []byte) (int, error) {
	head := min(h.left, int64(len(p)))
	h.left -= head
	n, err := h.to.Write(p[head:])
	return n + int(head), err
}
