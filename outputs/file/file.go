// Package file writes outputs to files: [File] for one that appears when it is
// complete, and [Export] for one that a later process can continue.
package file

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"

	"github.com/gofrs/flock"

	"github.com/penstock-data/penstock/internal/fsync"
)

// ErrDirectory reports that an output's name is that of a directory.
var ErrDirectory = errors.New("is a directory, not a file")

// File is an output file that gets its name when it is complete and on the disk: Commit
// replaces a file of that name at once. Until then it is a partial file in the same
// directory. A device or a pipe is written directly. Two processes may write a file of the
// same name at the same time: the one that commits last wins, and the file is whole.
//
// A File is not safe for concurrent use. The caller must call Commit or Discard.
type File struct {
	file    *os.File
	name    string
	partial string       // name of the partial file; empty for a device or a pipe
	ended   bool         // there is no partial file anymore
	lock    *flock.Flock // on the partial file: it is not left over from a killed process
}

// Create begins an output file. It removes the partial files that killed processes have
// left for the same name. The error is [ErrDirectory] if name is a directory.
func Create(name string) (*File, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return nil, fmt.Errorf("%s %w", name, ErrDirectory)
		}
		file, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return &File{file: file, name: name}, nil
	}
	sweep(name, partialSuffix)
	for {
		partial := filepath.Join(filepath.Dir(name), fmt.Sprintf(".%s.%08x%s", filepath.Base(name), rand.Uint32(), partialSuffix))
		file, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return nil, asTyped(err, partial, name)
		}
		f := &File{file: file, name: name, partial: partial, lock: flock.New(partial)}
		if ok, err := f.lock.TryLock(); err == nil && (!ok || !f.inPlace()) {
			// A run that sweeps took the new file for a leftover.
			if err := f.Discard(); err != nil {
				return nil, err
			}
			continue
		}
		return f, nil // a file system without locks also has no sweeping
	}
}

// inPlace reports whether the partial file still has its name.
func (f *File) inPlace() bool {
	opened, err1 := f.file.Stat()
	named, err2 := os.Stat(f.partial)
	return err1 == nil && err2 == nil && os.SameFile(opened, named)
}

// partialSuffix ends the name of the partial file of a File.
const partialSuffix = ".partial"

// sweep removes the partial files of an output, with that suffix, that killed processes
// have left: those that nobody has locked. What cannot be removed stays.
func sweep(name, suffix string) {
	partials := regexp.MustCompile(`^\.` + regexp.QuoteMeta(filepath.Base(name)) + `\.[0-9a-f]{8}` + regexp.QuoteMeta(suffix) + `$`)
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !partials.MatchString(e.Name()) {
			continue
		}
		partial := filepath.Join(filepath.Dir(name), e.Name())
		// Without O_CREATE: the file may be gone by now.
		lock := flock.New(partial, flock.SetFlag(os.O_RDWR))
		if ok, err := lock.TryLock(); ok && err == nil {
			_ = removeLocked(partial, lock) // it is swept again by the next run
		}
	}
}

// removeLocked removes a locked file and releases the lock. That the file is gone is no
// error. Windows removes no open files.
func removeLocked(partial string, lock *flock.Flock) error {
	if runtime.GOOS == "windows" {
		_ = lock.Close() // an unlocked file is closed too
	}
	err := os.Remove(partial)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, lock.Close())
}

// Write appends to the file. Its errors name the output.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	return n, f.named(err)
}

// Commit waits until the file is on the disk, closes it and gives it its name. If that
// fails, the partial file is removed.
func (f *File) Commit() error {
	if f.partial == "" {
		return f.file.Close()
	}
	err := errors.Join(fsync.File(f.file), f.file.Close())
	if runtime.GOOS == "windows" { // which renames no open files
		err = errors.Join(err, f.lock.Close())
	}
	if err == nil {
		err = os.Rename(f.partial, f.name)
	}
	if err != nil {
		return f.named(errors.Join(err, f.remove()))
	}
	f.ended = true
	return f.named(errors.Join(fsync.Dir(filepath.Dir(f.name)), f.lock.Close()))
}

// Discard closes the file and removes it. It does nothing after Commit.
func (f *File) Discard() error {
	err := f.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	return f.named(errors.Join(err, f.remove()))
}

// remove removes the partial file, if it is this file's, and releases its lock.
func (f *File) remove() error {
	if f.partial == "" || f.ended {
		return nil
	}
	f.ended = true
	return removeLocked(f.partial, f.lock)
}

// named replaces the name of the partial file in an error by that of the output.
func (f *File) named(err error) error { return asTyped(err, f.partial, f.name) }
