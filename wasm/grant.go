package wasm

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/penstock-data/penstock/sources"
)

// grants are the open directories that a module can read.
type grants struct {
	roots []*os.Root
	fs    wazero.FSConfig
}

// openGrants opens every directory once, so that none can be swapped for another
// later.
func openGrants(dirs []Dir, log *slog.Logger) (*grants, error) {
	g := &grants{fs: wazero.NewFSConfig()}
	// What lies nowhere in a granted directory is under the root, which answers
	// everything with the same word.
	g.fs = g.fs.WithFSMount(denied{log}, "/")
	for _, d := range dirs {
		root, err := os.OpenRoot(d.Host)
		if err != nil {
			g.close()
			if info, e := os.Stat(d.Host); e == nil && !info.IsDir() {
				err = &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%s is not a directory; grant the one that it is in", d.Host)}
			}
			return nil, sources.WithOp("open", "", err)
		}
		g.roots = append(g.roots, root)
		g.fs = g.fs.WithFSMount(readOnly{root, log}, d.Guest)
	}
	return g, nil
}

func (g *grants) close() {
	for _, r := range g.roots {
		_ = r.Close() // it was only read from
	}
}

// denied is the file system of what was not granted.
type denied struct{ log *slog.Logger }

func (d denied) Open(name string) (fs.File, error) {
	// The root itself can be opened, as every program that looks for its
	// directories does; it shows nothing.
	if name == "." {
		return rootDir{}, nil
	}
	d.log.Warn("denied: the module wants a file that was not granted", "path", "/"+name)
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// readOnly is a granted directory. An [os.Root] follows no link and no ".." out
// of it, which a mounted path would.
type readOnly struct {
	root *os.Root
	log  *slog.Logger
}

func (r readOnly) Open(name string) (fs.File, error) {
	// A pipe or a device would block the host, or worse, when it is opened.
	info, err := r.root.Stat(name)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	if err != nil {
		return nil, r.refused(name, err)
	}
	f, err := r.root.Open(name)
	if err != nil {
		return nil, r.refused(name, err)
	}
	return f, nil
}

// refused gives a path that leads out of the directory the word that a guest
// understands.
func (r readOnly) refused(name string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.log.Warn("denied: the module wants a file outside of its directory, or one that is no file", "path", name)
	return &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// rootDir is an empty directory.
type rootDir struct{}

func (rootDir) Stat() (fs.FileInfo, error)                   { return rootInfo{}, nil }
func (rootDir) Read([]byte) (int, error)                     { return 0, syscall.EISDIR }
func (rootDir) Close() error                                 { return nil }
func (rootDir) ReadDir(int) (entries []fs.DirEntry, _ error) { return nil, nil }

type rootInfo struct{}

func (rootInfo) Name() string       { return "." }
func (rootInfo) Size() int64        { return 0 }
func (rootInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o555 }
func (rootInfo) ModTime() time.Time { return time.Time{} }
func (rootInfo) IsDir() bool        { return true }
func (rootInfo) Sys() any           { return nil }
