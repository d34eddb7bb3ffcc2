//go:build unix

package wasm

import (
	"golang.org/x/sys/unix"
)

// region reserves address space for the largest size of an instance's memory.
// Growing commits more of it, so nothing is copied and the memory never moves. The
// kernel allocates each page when it is first used; free returns all of them at
// once. On Go's heap the garbage collector would keep up to as much again.
type region struct {
	space     []byte // nil if it could not be reserved
	committed int64
	fallback  heapRegion
}

// reserve reserves address space for that many bytes. If the system refuses, the
// region is on Go's heap.
func (r *region) reserve(limit int64) {
	r.fallback.limit = limit
	if limit == 0 {
		return
	}
	if space, err := unix.Mmap(-1, 0, int(limit), unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
		r.space = space
	}
}

// grow returns the first size bytes, or nil if the system has no memory.
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
		_ = unix.Munmap(r.space) // cannot fail for a mapping of Mmap
	}
	*r = region{}
}
