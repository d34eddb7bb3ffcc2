package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// LockedError reports that another run writes a file.
type LockedError struct {
	Name   string // the output or the checkpoint, as the caller named it
	Holder string // who writes it, such as "process 4711 on host a since 2026-01-02T03:04:05Z"; empty if unknown
}

// Error names the file, its holder and the remedy.
func (e *LockedError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "another run"
	}
	return fmt.Sprintf("%s is being written by %s: wait until that run ends, or use another file", e.Name, holder)
}

// holder is what the sidecar says of the run that holds the lock.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// holderOffset is where the holder begins. On Windows the first byte of a locked file
// cannot be read.
const holderOffset = 1

// sidecar returns the name of the file whose lock is the right to write a file. It is never
// renamed or removed: a lock on a file that another run may replace would protect nothing.
// All names of a directory lead to the same sidecar.
func sidecar(name string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".lock")
}

// acquire locks a file without waiting. The system takes the lock back when the process
// ends. The error is a [*LockedError] if another run, of this process or another one, holds
// the lock.
func acquire(name string) (*flock.Flock, error) {
	side := sidecar(name)
	l := flock.New(side, flock.SetPermissions(0o666))
	ok, err := l.TryLock()
	switch {
	case err != nil && errors.Is(err, errors.ErrUnsupported):
		return nil, fmt.Errorf("lock %s: %w: the file system has no locks, so two runs could destroy the file: use another directory", name, err)
	case err != nil:
		return nil, asTyped(err, side, name)
	case !ok:
		return nil, &LockedError{Name: name, Holder: holderOf(side)}
	}
	if err := writeHolder(side); err != nil {
		return nil, errors.Join(asTyped(err, side, name), l.Unlock())
	}
	return l, nil
}

func writeHolder(side string) error {
	host, _ := os.Hostname() // may stay unknown
	text, err := json.Marshal(holder{PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(side, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append([]byte{'\n'}, text...), 0)
	if err == nil {
		err = f.Truncate(int64(holderOffset + len(text)))
	}
	return errors.Join(err, f.Close())
}

// holderOf returns who holds the lock, or an empty string.
func holderOf(side string) string {
	f, err := os.Open(side)
	if err != nil {
		return ""
	}
	defer f.Close()
	text := make([]byte, 1024)
	n, _ := f.ReadAt(text, holderOffset) // a holder that cannot be read is unknown
	var h holder
	if json.Unmarshal(text[:n], &h) != nil || h.PID == 0 {
		return ""
	}
	return fmt.Sprintf("process %d on host %q since %s", h.PID, h.Host, h.Since.Format(time.RFC3339))
}

// asTyped replaces the name of an internal file in an error by the name that the caller
// knows.
func asTyped(err error, internal, name string) error {
	switch e := err.(type) {
	case *fs.PathError:
		if e.Path == internal {
			return &fs.PathError{Op: e.Op, Path: name, Err: e.Err}
		}
	case *os.LinkError:
		if e.Old == internal || e.New == internal {
			return &fs.PathError{Op: e.Op, Path: name, Err: e.Err}
		}
	case interface{ Unwrap() []error }:
		var each []error
		for _, part := range e.Unwrap() {
			each = append(each, asTyped(part, internal, name))
		}
		return errors.Join(each...)
	}
	return err
}
