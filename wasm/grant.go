package wasm

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/penstock-data/penstock/sources"
)

// grants holds the open directories that a module can read.
type grants struct {
	roots []*os.Root
	fs    wazero.FSConfig
}

// openGrants opens each directory once, so that none can be replaced later.
func openGrants(dirs []Dir, log *slog.Logger) (*grants, error) {
	g := &grants{fs: wazero.NewFSConfig()}
	// Paths outside of all granted directories are below the root, where every file
	// is denied.
	g.fs = g.fs.WithFSMount(deniedFS{log}, "/")
	for _, d := range dirs {
		root, err := os.OpenRoot(d.Host)
		if err != nil {
			g.close()
			if info, e := os.Stat(d.Host); e == nil && !info.IsDir() {
				err = sources.Errorf(sources.Invalid, "", "", "%s is not a directory: grant the one that contains it", d.Host)
			}
			return nil, sources.WithOp("open", "", err)
		}
		g.roots = append(g.roots, root)
		g.fs = g.fs.WithFSMount(readOnlyFS{root, log}, d.Guest)
	}
	return g, nil
}

func (g *grants) close() {
	for _, r := range g.roots {
		_ = r.Close() // nothing was written
	}
}

// deniedFS denies every file.
type deniedFS struct{ log *slog.Logger }

func (d deniedFS) Open(name string) (fs.File, error) {
	// The root itself can be opened, as many programs do at their start; it looks
	// empty.
	if name == "." {
		return rootDir{}, nil
	}
	d.log.Warn("denied: the module tried to open a file outside of its directories", "path", "/"+name)
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// readOnlyFS is a granted directory. Unlike a mounted path, an [os.Root] follows no
// link and no ".." out of the directory.
type readOnlyFS struct {
	root *os.Root
	log  *slog.Logger
}

func (r readOnlyFS) Open(name string) (fs.File, error) {
	// Opening a pipe or a device could block the host.
	info, err := r.root.Stat(name)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	if err != nil {
		return nil, r.denied(name, err)
	}
	f, err := r.root.Open(name)
	if err != nil {
		return nil, r.denied(name, err)
	}
	return f, nil
}

// denied turns the error for a path that leads out of the directory into one that
// the guest understands.
func (r readOnlyFS) denied(name string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.log.Warn("denied: the module tried to open a path outside of its directory, or one that is not a file", "path", name)
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
