package csv

import (
	"io/fs"
	"syscall"
)

// inodeOf returns the inode of a file; zero if the runtime of the module tells none.
func inodeOf(info fs.FileInfo) inode {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Ino == 0 || s.Ctime == 0 {
		return inode{}
	}
	return inode{device: s.Dev, number: s.Ino, changed: int64(s.Ctime)}
}
