package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/sources"
)

// ExportOptions identifies an export. Every run of the same export has the same
// options.
type ExportOptions struct {
	Output     string // the file to write; it appears when the export is complete
	Checkpoint string // the file that records the progress; it is removed at the end
	Format     string // the name of the output's format
	Limit      int64  // the query's limit of rows; 0 if it has none
}

// checkpoint is the content of the checkpoint's file. The file is replaced as a
// whole, and only after the bytes that it counts are on the disk.
type checkpoint struct {
	Version int        `json:"version"`
	Output  string     `json:"output"`
	Format  string     `json:"format"`
	Limit   int64      `json:"limit,omitempty"`
	Token   core.Token `json:"token"` // after the last row that is saved
	Rows    int64      `json:"rows"`  // number of rows up to there
	Bytes   int64      `json:"bytes"` // length of the output up to there
	// Complete means that only the output's name is missing.
	Complete bool `json:"complete,omitempty"`
}

const checkpointVersion = 1

// saveEvery bounds the work that a killed process loses. Each save waits for the
// disk twice.
const saveEvery = time.Second

// Errors of an export that its caller can prevent.
var (
	ErrNotRegular = errors.New("is not a regular file, and only those can be continued")
	ErrNoToken    = errors.New("the rows have no order in which a later run could find them again: give the query an OrderBy")
)

// MismatchError reports a checkpoint that belongs to another export.
type MismatchError struct {
	Checkpoint string        // the checkpoint's file
	Saved      ExportOptions // of the export that it belongs to
}

// Error returns the options of the export that the checkpoint belongs to.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("checkpoint %s belongs to the export to %s as %s with limit %d: repeat that export, or remove the checkpoint to start again",
		e.Checkpoint, e.Saved.Output, e.Saved.Format, e.Saved.Limit)
}

// Export is an output file that a later process can continue after a failure or a
// kill. It records its progress in a checkpoint, a file of its own, and writes to
// a partial file whose name the next run finds.
//
// A run calls, in this order: [NewExport]; Finish at once if Complete; else Open;
// then, with the rows of the query that Continue returns, Write and Advance, and
// Save whenever Due; Finish after the last row. After an error it calls Save and
// Close instead of Finish.
//
// An Export is not safe for concurrent use. Two processes must not run the same
// export at the same time.
type Export struct {
	options ExportOptions
	partial string // name of the partial file
	state   checkpoint
	resumed bool
	out     *os.File // nil before Open and after Close
	saved   time.Time
}

// NewExport reads the checkpoint of an export, if there is one. It changes no
// files. The error is a [*MismatchError] if the checkpoint belongs to another
// export, and [ErrNotRegular] if the output is a directory, a device or a pipe.
func NewExport(o ExportOptions) (*Export, error) {
	if info, err := os.Stat(o.Output); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s %w", o.Output, ErrNotRegular)
	}
	x := &Export{
		options: o,
		partial: filepath.Join(filepath.Dir(o.Output), "."+filepath.Base(o.Output)+".partial"),
		state:   checkpoint{Version: checkpointVersion, Output: o.Output, Format: o.Format, Limit: o.Limit},
	}
	text, err := os.ReadFile(o.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	var was checkpoint
	if err == nil {
		err = json.Unmarshal(text, &was)
	}
	if err == nil && (was.Version != checkpointVersion || was.Bytes < 0 || was.Rows < 0) {
		err = errors.New("another version of penstock wrote it")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the checkpoint %s: %w; remove it to start again", o.Checkpoint, err)
	}
	saved := ExportOptions{Output: was.Output, Checkpoint: o.Checkpoint, Format: was.Format, Limit: was.Limit}
	if saved != o {
		return nil, &MismatchError{Checkpoint: o.Checkpoint, Saved: saved}
	}
	x.state, x.resumed = was, true
	return x, nil
}

// Resumed reports whether the export continues an earlier run.
func (x *Export) Resumed() bool { return x.resumed }

// Complete reports whether an earlier run wrote the whole output, so that only
// Finish is left to call.
func (x *Export) Complete() bool { return x.state.Complete }

// Offset returns the length of the output that the checkpoint counts, in bytes:
// where the rows that are missing belong.
func (x *Export) Offset() int64 { return x.state.Bytes }

// Continue returns the query for the rows that are missing, and whether there can
// be any: false means that q.Limit is reached, and the output needs only its end.
func (x *Export) Continue(q core.Query) (core.Query, bool) {
	q.After = x.state.Token
	switch {
	case q.Limit == 0:
	case x.state.Rows >= q.Limit:
		return q, false
	default:
		q.Limit -= x.state.Rows
	}
	return q, true
}

// StableOrder returns the order for an export of a table that a later process may have
// to continue. That is the given order, if it is not empty. Otherwise it is empty, so
// that the table chooses, unless the table can sort and takes snapshots: the order
// that such a table chooses holds only within one snapshot, so StableOrder returns the
// order of its primary key, or false if it has none.
func StableOrder(t *sources.Table, order []sources.Sort) ([]sources.Sort, bool) {
	if len(order) > 0 || !t.Capabilities.Has(sources.CapSnapshot|sources.CapSort) {
		return order, true
	}
	for _, column := range t.Key {
		order = append(order, sources.Sort{Column: column})
	}
	return order, len(order) > 0
}

// Open opens the partial file and cuts off what the checkpoint does not count.
func (x *Export) Open() (err error) {
	mode := os.O_RDWR | os.O_CREATE
	if !x.resumed {
		mode |= os.O_TRUNC
	}
	out, err := os.OpenFile(x.partial, mode, 0o666)
	if err != nil {
		return err
	}
	if x.resumed {
		if err := x.rewind(out); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	x.out = out
	return nil
}

func (x *Export) rewind(out *os.File) error {
	info, err := out.Stat()
	if err != nil {
		return err
	}
	if info.Size() < x.state.Bytes {
		return fmt.Errorf("%s has %d bytes, but the checkpoint %s counts %d: remove the checkpoint to start again",
			x.partial, info.Size(), x.options.Checkpoint, x.state.Bytes)
	}
	if err := out.Truncate(x.state.Bytes); err != nil {
		return err
	}
	_, err = out.Seek(x.state.Bytes, io.SeekStart)
	return err
}

// Write appends to the partial file, which must be open.
func (x *Export) Write(p []byte) (int, error) { return x.out.Write(p) }

// Advance records that a chunk was written to the output's writer: its number of
// rows and its [core.Chunk.Token]. The error is [ErrNoToken] if the token is empty.
func (x *Export) Advance(token core.Token, rows int64) error {
	if token == "" {
		return ErrNoToken
	}
	x.state.Token = token
	x.state.Rows += rows
	return nil
}

// Due reports whether a second has passed since the last Save, so that it is time to
// save again.
func (x *Export) Due() bool { return time.Since(x.saved) >= saveEvery }

// Save syncs the output to the disk and then replaces the checkpoint. The offset is the
// length of the output, in bytes, up to the last row that Advance recorded. All of that
// must have been written: outputs.Writer.Flush does so and returns the length. Before
// the first Advance, Save does nothing.
func (x *Export) Save(offset int64) error {
	if x.state.Token == "" {
		return nil
	}
	if err := x.out.Sync(); err != nil {
		return err
	}
	x.state.Bytes = offset
	x.saved = time.Now()
	return x.writeCheckpoint()
}

// writeCheckpoint replaces the checkpoint's file.
func (x *Export) writeCheckpoint() error {
	text, err := json.Marshal(x.state)
	if err != nil {
		return err
	}
	name := x.options.Checkpoint
	next, err := os.OpenFile(name+".next", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
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
	return os.Rename(name+".next", name)
}

// Finish closes the output, gives it its name and removes the checkpoint. All of the
// output must have been written. If a run is killed during Finish, the next run
// completes it.
func (x *Export) Finish() error {
	if !x.state.Complete {
		info, err := x.out.Stat()
		if err == nil {
			err = x.out.Sync()
		}
		if err = errors.Join(err, x.Close()); err != nil {
			return err
		}
		x.state.Bytes, x.state.Complete = info.Size(), true
		if err := x.writeCheckpoint(); err != nil {
			return err
		}
	}
	if err := os.Rename(x.partial, x.options.Output); err != nil {
		// An earlier run may have been killed between the two steps.
		info, missing := os.Stat(x.options.Output)
		if !errors.Is(err, fs.ErrNotExist) || missing != nil || info.Size() != x.state.Bytes {
			return err
		}
	}
	return os.Remove(x.options.Checkpoint)
}

// Close closes the partial file, which stays for the next run. It does nothing
// after Finish.
func (x *Export) Close() error {
	if x.out == nil {
		return nil
	}
	out := x.out
	x.out = nil
	return out.Close()
}
