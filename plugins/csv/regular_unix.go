//go:build unix

package csv

import "syscall"

// openWithoutWaiting is a flag for opening files.
const openWithoutWaiting = syscall.O_NONBLOCK
