package wasm

import (
	"fmt"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/penstock-data/penstock/sources"
)

// linear is the linear memory of one instance. It refuses to grow beyond its limit,
// and records the refusal: the module then ends with what looks like a crash, and
// exhausted returns the actual cause. Only the instance's goroutine grows and frees
// it.
type linear struct {
	limit   int64
	region  region
	size    atomic.Int64
	refused atomic.Int64 // the size that was refused last, in bytes
}

var _ experimental.LinearMemory = (*linear)(nil)

func (m *linear) Allocate(_, limit uint64) experimental.LinearMemory {
	m.region.reserve(min(m.limit, int64(min(limit, maxMemory))))
	return m
}

func (m *linear) Reallocate(size uint64) []byte {
	var grown []byte
	if size <= uint64(m.limit) {
		grown = m.region.grow(int64(size))
	}
	if grown == nil {
		m.refused.Store(int64(min(size, maxMemory)))
		return nil
	}
	m.size.Store(int64(size))
	return grown
}

// Free returns the memory to the system. Calling it again has no effect.
func (m *linear) Free() { m.region.free() }

// heapRegion is a region on Go's heap, for systems without address space to reserve.
// It is copied when it grows, and freed by the garbage collector.
type heapRegion struct {
	limit int64
	buf   []byte
}

func (r *heapRegion) grow(size int64) []byte {
	if size > int64(cap(r.buf)) {
		// Half as much again as requested, up to the limit, so that a module that grows
		// page by page is not copied each time.
		grown := make([]byte, size, max(min(size+size/2, r.limit), size))
		copy(grown, r.buf)
		r.buf = grown
	}
	if r.buf == nil {
		r.buf = []byte{}
	}
	r.buf = r.buf[:size]
	return r.buf
}

// exhausted returns the error of a module that ended because its memory could not
// grow, or nil.
func (m *linear) exhausted(name string) error {
	requested := m.refused.Load()
	if requested == 0 {
		return nil
	}
	return sources.Errorf(sources.Exhausted, "", "",
		"module %q held %s of its %s and requested %s; raise the module's memory limit", name, mebibytes(m.size.Load()), mebibytes(m.limit), mebibytes(requested))
}

func mebibytes(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
