package file

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/gofrs/flock"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/internal/fsync"
)

// ExportOptions identifies an export. Every run of the same export has the same
// options.
type ExportOptions struct {
	Output     string // the file to write; it appears when the export is complete
	Checkpoint string // the file that records the progress; it is removed at the end
	Format     string // the name of the output's format
	Limit      int64  // the query's limit of rows; 0 if it has none
	// Query identifies what the output holds: the query, its relations and whatever else
	// shapes the output. A checkpoint of another one is refused.
	Query string
}

// checkpoint is the content of the checkpoint's file. The file is replaced as a
// whole, and only after the bytes that it counts are on the disk.
type checkpoint struct {
	Version int        `json:"version"`
	Output  string     `json:"output"`
	Format  string     `json:"format"`
	Limit   int64      `json:"limit,omitempty"`
	Query   string     `json:"query,omitempty"` // the digest of the query
	Partial string     `json:"partial"`         // the random part of the partial file's name
	Token   core.Token `json:"token"`           // after the last row that is saved
	Rows    int64      `json:"rows"`            // number of rows up to there
	Bytes   int64      `json:"bytes"`           // length of the output up to there
	// Complete means that only the output's name is missing.
	Complete bool `json:"complete,omitempty"`
}

const checkpointVersion = 2

// saveEvery bounds the work that a killed process loses. Each save waits for the
// disk twice.
const saveEvery = time.Second

// Errors of an export that its caller can prevent.
var (
	ErrNotRegular = errors.New("is not a regular file, and only those can be continued")
	ErrSameFile   = errors.New("the output and the checkpoint are the same file: name two files")
	ErrNoToken    = errors.New("the rows have no order in which a later run could find them again: give the query an OrderBy")
)

// MismatchError reports a checkpoint that belongs to another export.
type MismatchError struct {
	Checkpoint string        // the checkpoint's file
	Saved      ExportOptions // of the export that it belongs to, with the digest of its Query
}

// Error returns the options of the export that the checkpoint belongs to.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("checkpoint %s belongs to the export to %s as %s with limit %d, or of another query: repeat that export, or remove the checkpoint to start again",
		e.Checkpoint, e.Saved.Output, e.Saved.Format, e.Saved.Limit)
}

// Export is an output file that a later process can continue after a failure or a
// kill. It records its progress in a checkpoint, a file of its own, and writes to
// a partial file that the checkpoint names. An export of the same output that begins anew
// removes the partial files of others.
//
// A run calls, in this order: [NewExport]; Finish at once if Complete; else Open;
// then, with the rows of the query that Continue returns, Write and Advance, and
// Save whenever Due; Finish after the last row; and always Close. After an error it calls
// Save and Close instead of Finish.
//
// An export locks its output and its checkpoint until Close, with a sidecar file beside each,
// such as .orders.csv.lock, which stays there. The system releases the locks of a process
// that is killed.
//
// An Export is not safe for concurrent use.
type Export struct {
	options ExportOptions
	partial string // name of the partial file
	locks   []*flock.Flock
	state   checkpoint
	resumed bool
	out     *os.File // nil before Open and after the output is closed
	length  int64    // of the output, in bytes
	synced  bool     // the partial file's name is on the disk
	saved   time.Time
}

// NewExport locks an export and reads its checkpoint, if there is one. It changes neither
// the output nor the checkpoint. The error is a [*LockedError] if another run writes one
// of them, a [*MismatchError] if the checkpoint belongs to another export, [ErrNotRegular]
// if the output is a directory, a device or a pipe, and [ErrSameFile] if the output and the
// checkpoint are one file. The caller must call Close.
func NewExport(o ExportOptions) (x *Export, err error) {
	if info, err := os.Stat(o.Output); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s %w", o.Output, ErrNotRegular)
	}
	next := o.Checkpoint + nextSuffix
	if isSame(o.Output, o.Checkpoint) || isSame(o.Output, next) || isSame(sidecar(o.Output), o.Checkpoint) || isSame(sidecar(o.Checkpoint), o.Output) {
		return nil, fmt.Errorf("%s: %w", o.Output, ErrSameFile)
	}
	for _, name := range []string{o.Checkpoint, next, sidecar(o.Output), sidecar(o.Checkpoint)} {
		if info, err := os.Lstat(name); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s %w", name, ErrNotRegular)
		}
	}
	if o.Query != "" {
		sum := sha256.Sum256([]byte(o.Query))
		o.Query = hex.EncodeToString(sum[:])
	}
	x = &Export{options: o, state: checkpoint{Version: checkpointVersion, Output: o.Output, Format: o.Format, Limit: o.Limit, Query: o.Query}}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
			x = nil
		}
	}()
	for _, name := range []string{o.Output, o.Checkpoint} {
		l, err := acquire(name)
		if err != nil {
			return x, err
		}
		x.locks = append(x.locks, l)
	}
	err = x.readCheckpoint()
	if !x.resumed {
		x.state.Partial = fmt.Sprintf("%08x", rand.Uint32())
	}
	x.partial = filepath.Join(filepath.Dir(o.Output), "."+filepath.Base(o.Output)+"."+x.state.Partial+exportSuffix)
	return x, err
}

const (
	nextSuffix   = ".next"   // of a checkpoint that is not whole yet
	exportSuffix = ".export" // of the partial file of an export
)

var partialID = regexp.MustCompile(`^[0-9a-f]{8}$`)

// isSame reports whether two names lead to one file, which need not exist.
func isSame(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	if filepath.Base(a) != filepath.Base(b) {
		return false
	}
	infoA, errA = os.Stat(filepath.Dir(a))
	infoB, errB = os.Stat(filepath.Dir(b))
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// readCheckpoint reads the state of an earlier run, if there is one.
func (x *Export) readCheckpoint() error {
	o := x.options
	text, err := os.ReadFile(o.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var was checkpoint
	if err == nil {
		err = json.Unmarshal(text, &was)
	}
	if err == nil && (was.Version != checkpointVersion || was.Bytes < 0 || was.Rows < 0 || !partialID.MatchString(was.Partial)) {
		err = errors.New("another version of penstock wrote it")
	}
	if err == nil && was.Token == "" && !was.Complete { // Save writes none: the rows would be there twice
		err = errors.New("it is damaged: it has no token")
	}
	if err != nil {
		return fmt.Errorf("cannot read the checkpoint %s: %w; remove it to start again", o.Checkpoint, err)
	}
	saved := ExportOptions{Output: was.Output, Checkpoint: o.Checkpoint, Format: was.Format, Limit: was.Limit, Query: was.Query}
	if saved != o {
		return &MismatchError{Checkpoint: o.Checkpoint, Saved: saved}
	}
	x.state, x.resumed = was, true
	return nil
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

// Open opens the partial file and cuts off what the checkpoint does not count.
func (x *Export) Open() (err error) {
	mode := os.O_RDWR
	if !x.resumed {
		mode |= os.O_CREATE | os.O_EXCL
		sweep(x.options.Output, exportSuffix)
	}
	out, err := os.OpenFile(x.partial, mode, 0o666)
	if x.resumed && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: its unfinished file %s is gone: remove the checkpoint %s to start again", x.options.Output, x.partial, x.options.Checkpoint)
	}
	if err != nil {
		return x.named(err)
	}
	if x.resumed {
		if err := x.rewind(out); err != nil {
			return errors.Join(x.named(err), out.Close())
		}
	}
	x.out, x.length = out, x.state.Bytes
	return nil
}

func (x *Export) rewind(out *os.File) error {
	info, err := out.Stat()
	if err != nil {
		return err
	}
	if info.Size() < x.state.Bytes {
		return fmt.Errorf("%s: the unfinished file %s has %d bytes, but the checkpoint %s counts %d: remove the checkpoint to start again",
			x.options.Output, x.partial, info.Size(), x.options.Checkpoint, x.state.Bytes)
	}
	if err := out.Truncate(x.state.Bytes); err != nil {
		return err
	}
	_, err = out.Seek(x.state.Bytes, io.SeekStart)
	return err
}

// Write appends to the partial file, which must be open. Its errors name the output.
func (x *Export) Write(p []byte) (int, error) {
	n, err := x.out.Write(p)
	x.length += int64(n)
	return n, x.named(err)
}

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
	if err := x.syncOutput(); err != nil {
		return err
	}
	x.state.Bytes = offset
	x.saved = time.Now()
	return x.writeCheckpoint()
}

// syncOutput waits until the partial file is on the disk, with its name.
func (x *Export) syncOutput() error {
	err := fsync.File(x.out)
	if err == nil && !x.synced {
		err = fsync.Dir(filepath.Dir(x.partial))
		x.synced = err == nil
	}
	return x.named(err)
}

// writeCheckpoint replaces the checkpoint's file.
func (x *Export) writeCheckpoint() error {
	text, err := json.Marshal(x.state)
	if err != nil {
		return err
	}
	name := x.options.Checkpoint
	next := name + nextSuffix
	return asTyped(replace(name, next, append(text, '\n')), next, name)
}

// replace writes a file under another name, and renames it when it is on the disk.
func replace(name, next string, text []byte) error {
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = fsync.File(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, name); err != nil {
		return err
	}
	return fsync.Dir(filepath.Dir(name))
}

// Finish closes the output, gives it its name and removes the checkpoint. All of the
// output must have been written. If a run is killed during Finish, the next run
// completes it.
func (x *Export) Finish() error {
	if !x.state.Complete {
		err := x.out.Truncate(x.length)
		if err == nil {
			err = x.syncOutput()
		}
		if err = errors.Join(x.named(err), x.closeOutput()); err != nil {
			return err
		}
		x.state.Bytes, x.state.Complete = x.length, true
		if err := x.writeCheckpoint(); err != nil {
			return err
		}
	}
	if err := os.Rename(x.partial, x.options.Output); err != nil {
		// An earlier run may have been killed between the two steps.
		info, missing := os.Stat(x.options.Output)
		if !errors.Is(err, fs.ErrNotExist) || missing != nil || info.Size() != x.state.Bytes {
			return x.named(err)
		}
	}
	if err := fsync.Dir(filepath.Dir(x.options.Output)); err != nil {
		return err
	}
	if err := os.Remove(x.options.Checkpoint); err != nil {
		return err
	}
	return fsync.Dir(filepath.Dir(x.options.Checkpoint))
}

// Close closes the partial file, which stays for the next run unless Finish succeeded, and
// releases the locks. A second Close does nothing.
func (x *Export) Close() error {
	err := x.closeOutput()
	for _, l := range x.locks {
		err = errors.Join(err, l.Unlock())
	}
	x.locks = nil
	return err
}

// closeOutput closes the partial file if it is open.
func (x *Export) closeOutput() error {
	if x.out == nil {
		return nil
	}
	out := x.out
	x.out = nil
	return x.named(out.Close())
}

// named replaces the name of the partial file in an error by that of the output.
func (x *Export) named(err error) error { return asTyped(err, x.partial, x.options.Output) }
