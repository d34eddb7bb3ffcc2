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
)

// ErrDirectory reports that an output's name is that of a directory.
var ErrDirectory = errors.New("is a directory, not a file")

// File is an output file that gets its name when it is complete: Commit replaces
// a file of that name at once. Until then it is a partial file in the same
// directory. A device or a pipe is written directly.
//
// A File is not safe for concurrent use. The caller must call Commit or Discard.
type File struct {
	file    *os.File
	name    string
	partial string // name of the partial file; empty for a device or a pipe
}

// Create begins an output file. The error is [ErrDirectory] if name is a
// directory.
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
	for {
		partial := filepath.Join(filepath.Dir(name), fmt.Sprintf(".%s.%08x.partial", filepath.Base(name), rand.Uint32()))
		file, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return nil, err
		}
		return &File{file: file, name: name, partial: partial}, nil
	}
}

// Write appends to the file.
func (f *File) Write(p []byte) (int, error) { return f.file.Write(p) }

// Commit closes the file and gives it its name. If that fails, the partial file
// is removed.
func (f *File) Commit() error {
	err := f.file.Close()
	if f.partial == "" {
		return err
	}
	if err == nil {
		err = os.Rename(f.partial, f.name)
	}
	if err != nil {
		return errors.Join(err, f.remove())
	}
	f.partial = ""
	return nil
}

// Discard closes the file and removes it. It does nothing after Commit.
func (f *File) Discard() error {
	err := f.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	return errors.Join(err, f.remove())
}

func (f *File) remove() error {
	if f.partial == "" {
		return nil
	}
	err := os.Remove(f.partial)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
