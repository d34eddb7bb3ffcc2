//go:build unix

package wasm

import (
	"golang.org/x/sys/unix"
)

// region is address space for as much as an instance may ever have. What it grows
// by is committed in its place, so nothing is copied and the module's memory
// never moves; the kernel gives each page when it is first touched, and takes all
// of them back at once in free. It is no part of Go's heap, which would keep
// as much again in reserve.
type region struct {
	space     []byte // nil where there was none to have
	committed int64
	fallback  slice
}

// reserve takes address space for most bytes. Where a limit on it forbids that,
// the region is Go's own memory.
func (r *region) reserve(most int64) {
	r.fallback.most = most
	if most == 0 {
		return
	}
	if space, err := unix.Mmap(-1, 0, int(most), unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
		r.space = space
	}
}

// grow returns the first size bytes, or nil where the system has no memory.
func (r *region) grow(size int64) []byte {
	if r.space == nil {
		return r.fallback.grow(size)
	}
	if size > int64(len(r.space)) {
		return nil
	}
	if size > r.committed {
		if err := unix.Mprotect(r.space[r.committed:size], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return nil
		}
		r.committed = size
	}
	return r.space[:size:size]
}

func (r *region) free() {
	if r.space != nil {
		_ = unix.Munmap(r.space) // it is what Mmap returned
	}
	*r = region{}
}
