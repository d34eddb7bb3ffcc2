package csv

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// fileState is what the file system tells of a file's contents without reading them.
type fileState struct {
	size     int64
	modified time.Time
	inode    inode
}

// inode is what identifies a file and its last change, whatever was done to its name
// and its times. The zero value means that the file system does not tell.
type inode struct {
	device, number uint64
	changed        int64 // the time of the last change in nanoseconds; no program can set it
}

func stateOf(info fs.FileInfo) fileState {
	return fileState{size: info.Size(), modified: info.ModTime(), inode: inodeOf(info)}
}

// contents returns a string that changes with the contents of the file, unless
// whoever changed them restored the size and the time. It stays the same if the file
// is copied with its time, or its owner or its permissions change.
func (s fileState) contents() string {
	return fmt.Sprintf("%d-%d", s.size, s.modified.UnixNano())
}

// strict returns a string that changes whenever anything about the file changes, if
// the file system tells; otherwise it is [fileState.contents].
func (s fileState) strict() string {
	if s.inode == (inode{}) {
		return s.contents()
	}
	return fmt.Sprintf("%s-%x-%x-%d", s.contents(), s.inode.device, s.inode.number, s.inode.changed)
}

// settleTime is how old a file's last change must be before its state identifies its
// contents. Times of files are coarse, up to two seconds on some file systems: a file
// that has just changed may change again and have the same times.
const settleTime = 2 * time.Second

// settled reports whether the file's state identifies its contents. It does not if the
// last change lies in the future: then a clock is wrong.
func (s fileState) settled(now time.Time) bool {
	last := s.modified
	if changed := time.Unix(0, s.inode.changed); s.inode != (inode{}) && changed.After(last) {
		last = changed
	}
	return now.Sub(last) >= settleTime
}

// versions counts the results of uniqueVersion.
var versions atomic.Uint64

// uniqueVersion returns a version that equals no other, so that no cache keeps rows of it.
func uniqueVersion() string {
	return fmt.Sprintf("unknown %d %d", time.Now().UnixNano(), versions.Add(1))
}

// version returns a string that changes with the table's files, and the sum of
// their sizes.
func (s *source) version(t *table) (version string, size int64, err error) {
	if t.isOnePass() {
		return uniqueVersion(), -1, nil
	}
	strict, size, settled, err := s.filesNow(t)
	switch {
	case err != nil:
		return "", 0, err
	case !settled:
		return uniqueVersion(), size, nil
	case len(strict) > 200:
		return fmt.Sprintf("%d files, %x", len(t.files), sha256.Sum256([]byte(strict))), size, nil
	}
	return strict, size, nil
}

// filesNow returns a string that identifies the table's files as they are now, the sum of
// their sizes, and whether all are settled.
func (s *source) filesNow(t *table) (strict string, size int64, settled bool, err error) {
	var b strings.Builder
	settled = true
	now := time.Now()
	for _, f := range t.files {
		info, err := fs.Stat(s.fsys, f.name)
		if err != nil {
			return "", 0, false, err
		}
		state := stateOf(info)
		size += state.size
		settled = settled && state.settled(now)
		fmt.Fprintf(&b, "%q-%s;", f.name, state.strict())
	}
	return b.String(), size, settled, nil
}

// declarations is a file system that adds the files that are read as a whole to a
// hash: a data package, and the files that it names.
type declarations struct {
	fs.FS
	sum io.Writer
}

// ReadFile implements [fs.ReadFileFS].
func (d declarations) ReadFile(name string) ([]byte, error) {
	text, err := readRegular(d.FS, name)
	_, _ = fmt.Fprintf(d.sum, "%q %d %t\n", name, len(text), errors.Is(err, fs.ErrNotExist))
	_, _ = d.sum.Write(text) // a hash does not fail
	return text, err
}

// identity returns what the rows depend on besides the files of the tables: how they
// are declared, the options, and the directory that the path led to. It is empty if the file
// system does not identify files, since their versions are not reliable then.
func (s *source) identity() (string, error) {
	if s.stdin != nil {
		return "", nil
	}
	for _, d := range s.specs {
		for _, name := range d.fileNames {
			// A file that is missing is an error of its table.
			if info, err := fs.Stat(s.fsys, name); err == nil && inodeOf(info) == (inode{}) {
				return "", nil
			}
		}
	}
	info, err := fs.Stat(s.fsys, ".")
	if err != nil {
		return "", err
	}
	dir := inodeOf(info)
	dir.changed = 0 // the directory may gain other files
	if dir == (inode{}) {
		return "", nil
	}
	options := s.options
	options.Index = "" // where indexes are stored changes no row
	sum := sha256.New()
	fmt.Fprintf(sum, "%x\n%#v\n%x %x\n%q\n", s.declared, options, dir.device, dir.number, s.where)
	return fmt.Sprintf("csv %x", sum.Sum(nil)), nil
}

// resolved returns the absolute path of a directory without links. Without a working directory,
// and behind a wall that has none, it is the path as it is.
func resolved(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute
	}
	return dir
}

// directory returns the path of the directory that a root has opened, which must be
// the one that the path still leads to; otherwise it returns the empty string.
func directory(root *os.Root) string {
	opened, err := root.Stat(".")
	if err != nil {
		return ""
	}
	path := resolved(root.Name())
	if now, err := os.Stat(path); err != nil || !os.SameFile(opened, now) {
		return ""
	}
	return path
}
