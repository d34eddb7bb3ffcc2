package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// output is a file that gets its name when it is complete. Until then it is
// a partial file beside it, which Discard removes.
type output struct {
	*os.File
	name    string
	partial string // empty for a device or a pipe, which is written as it is
}

func createOutput(name string) (*output, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return nil, usagef("%s is a directory: -o wants a file", name)
		}
		file, err := os.OpenFile(name, os.O_WRONLY, 0)
		return &output{File: file, name: name}, err
	}
	for {
		partial := filepath.Join(filepath.Dir(name), fmt.Sprintf(".%s.%08x.partial", filepath.Base(name), rand.Uint32()))
		file, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return &output{File: file, name: name, partial: partial}, err
	}
}

// Commit closes the file and gives it its name. After an error nothing is left
// of it.
func (o *output) Commit() error {
	err := o.Close()
	if o.partial == "" {
		return err
	}
	if err == nil {
		err = os.Rename(o.partial, o.name)
	}
	if err != nil {
		return errors.Join(err, o.remove())
	}
	o.partial = ""
	return nil
}

// Discard closes the file and removes it, unless it was committed.
func (o *output) Discard() error {
	err := o.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	return errors.Join(err, o.remove())
}

func (o *output) remove() error {
	if o.partial == "" {
		return nil
	}
	err := os.Remove(o.partial)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
