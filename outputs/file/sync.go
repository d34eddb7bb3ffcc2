package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// syncFile waits until the file's contents are on the disk. What a file system does not
// offer is no error.
func syncFile(f *os.File) error {
	err := f.Sync()
	if unsupported(err) {
		return nil
	}
	return err
}

// syncDir waits until the names in the directory of a file are on the disk. Windows has no
// such call, and keeps names in its journal.
func syncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(filepath.Dir(name))
	if errors.Is(err, fs.ErrPermission) {
		return nil // files can be written there, but the directory cannot be read
	}
	if err != nil {
		return err
	}
	return errors.Join(syncFile(dir), dir.Close())
}

// unsupported reports whether a file system refused to sync at all.
func unsupported(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}
