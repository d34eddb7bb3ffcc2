//go:build linux || openbsd || dragonfly || solaris

package csv

import (
	"io/fs"
	"syscall"
)

// inodeOf returns the inode of a file; zero if the file system has none.
func inodeOf(info fs.FileInfo) inode {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	//nolint:unconvert // the type of Dev depends on the system
	return inode{device: uint64(s.Dev), number: uint64(s.Ino), changed: s.Ctim.Nano()}
}
