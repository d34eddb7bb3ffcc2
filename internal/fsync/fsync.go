// Package fsync waits until files and their names are on the disk. What a file system does
// not offer is no error.
package fsync

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// File waits until the contents of a file are on the disk.
func File(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// Dir waits until the names in a directory are on the disk. On Windows, which has no such
// call, in WebAssembly, and in a directory that cannot be read, it does nothing.
func Dir(name string) error {
	if runtime.GOOS == "windows" || runtime.GOARCH == "wasm" {
		return nil
	}
	dir, err := os.Open(name)
	if errors.Is(err, fs.ErrPermission) {
		return nil // files can be written there, but the directory cannot be read
	}
	if err != nil {
		return err
	}
	return errors.Join(File(dir), dir.Close())
}
