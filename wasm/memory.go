package wasm

import (
	"fmt"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/penstock-data/penstock/sources"
)

// linear is the memory of one instance. It refuses to grow beyond the cap and
// remembers that it did: the module then dies of something that reads like a
// crash, and this tells what it was. The instance's goroutine alone grows and
// frees it.
type linear struct {
	most    int64
	region  region
	size    atomic.Int64
	refused atomic.Int64 // how much was asked for when it was refused
}

var _ experimental.LinearMemory = (*linear)(nil)

func (m *linear) Allocate(_, most uint64) experimental.LinearMemory {
	m.region.reserve(min(m.most, int64(min(most, maxMemory))))
	return m
}

func (m *linear) Reallocate(size uint64) []byte {
	var grown []byte
	if size <= uint64(m.most) {
		grown = m.region.grow(int64(size))
	}
	if grown == nil {
		m.refused.Store(int64(min(size, maxMemory)))
		return nil
	}
	m.size.Store(int64(size))
	return grown
}

// Free gives the memory back to the system. A second Free does nothing.
func (m *linear) Free() { m.region.free() }

// slice is a region in Go's own memory, for where there is nothing better: it is
// copied as it grows, and goes back when the garbage collector comes to it.
type slice struct {
	most int64
	buf  []byte
}

func (r *slice) grow(size int64) []byte {
	if size > int64(cap(r.buf)) {
		// A half more than is asked for, so that a module that grows page by page is
		// not copied at each; never beyond the most.
		grown := make([]byte, size, max(min(size+size/2, r.most), size))
		copy(grown, r.buf)
		r.buf = grown
	}
	if r.buf == nil {
		r.buf = []byte{}
	}
	r.buf = r.buf[:size]
	return r.buf
}

// exhausted returns the error of a module that ended after it was refused
// memory, or nil.
func (m *linear) exhausted(name string) error {
	asked := m.refused.Load()
	if asked == 0 {
		return nil
	}
	return &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf(
		"module %q held %s of its %s and wanted %s; raise the module's memory limit", name, mebibytes(m.size.Load()), mebibytes(m.most), mebibytes(asked))}
}

func mebibytes(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
