package csv

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/penstock-data/penstock/sources"
)

// Only regular files are read. A read of a named pipe, a device or a socket may wait
// for ever, or have an effect, and none of them can be read twice.

// checkRegular returns an error of kind [sources.Invalid] if a file is not a regular
// one.
func checkRegular(name string, info fs.FileInfo) error {
	what, remedy := "not a regular file", ""
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what, remedy = "a named pipe", "; write csv:- and redirect standard input to it, to read it once"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return sources.Errorf(sources.Invalid, "", "", "%s is %s, and only regular files are read%s", name, what, remedy)
}

// openRegular opens a file below fsys, which must be a regular one.
func openRegular(fsys fs.FS, name string) (fs.File, fs.FileInfo, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil {
		err = checkRegular(name, info)
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// maxDeclaration bounds a file that is read as a whole, in bytes: a data package, or a
// file that it names. A sparse file may have any size without taking space.
const maxDeclaration = 16 << 20

// readRegular reads a regular file below fsys as a whole. If the file has more than
// maxDeclaration bytes, it returns an error of kind [sources.Exhausted].
func readRegular(fsys fs.FS, name string) ([]byte, error) {
	file, _, err := openRegular(fsys, name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxDeclaration+1))
	if err == nil && len(text) > maxDeclaration {
		text, err = nil, sources.Errorf(sources.Exhausted, "", "", "%s has more than %d MiB, the limit of files that describe tables: describe the tables in several directories", name, maxDeclaration>>20)
	}
	return text, errors.Join(err, file.Close())
}

// rootFS is the file system below a root. Unlike [os.Root.FS] it opens files without
// waiting, as for the writer of a named pipe.
type rootFS struct {
	fs.FS
	root *os.Root
}

// Open implements [fs.FS].
func (r rootFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return r.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|openWithoutWaiting, 0)
}

// Stat implements [fs.StatFS].
func (r rootFS) Stat(name string) (fs.FileInfo, error) { return fs.Stat(r.FS, name) }

// ReadDir implements [fs.ReadDirFS].
func (r rootFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(r.FS, name) }

// systemError returns the error of opening or reading a file with a kind, unless it has
// one: a name that leads nowhere is [sources.Invalid], and what else the system reports
// may be over soon.
func systemError(err error) error {
	var path *fs.PathError
	if sources.KindOf(err) != sources.Internal || !errors.As(err, &path) {
		return err
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return sources.Errorf(sources.Invalid, "", "", "%w: is it a link that leads out of the directory?", err)
	}
	switch errno {
	case syscall.ELOOP, syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL:
		return sources.NewError(sources.Invalid, "", "", err)
	}
	return sources.NewError(sources.Unavailable, "", "", err)
}
