package main

import "golang.org/x/sys/unix"

// hurry asks for huge pages, which come faster.
func hurry(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
