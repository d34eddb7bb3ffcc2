//go:build darwin || freebsd || netbsd

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
	return inode{device: uint64(s.Dev), number: uint64(s.Ino), changed: s.Ctimespec.Nano()}
}
