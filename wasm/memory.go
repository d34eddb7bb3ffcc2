package wasm

import (
	"fmt"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/penstock-data/penstock/sources"
)

// linear is the memory of one instance. It refuses to grow beyond the cap and
// remembers that it did: the module then dies of something that reads like a
// crash, and this tells what it was.
type linear struct {
	most    int64
	buf     []byte
	size    atomic.Int64
	refused atomic.Int64 // how much was asked for when it was refused
}

var _ experimental.LinearMemory = (*linear)(nil)

func (m *linear) Allocate(_, _ uint64) experimental.LinearMemory { return m }

func (m *linear) Reallocate(size uint64) []byte {
	if size > uint64(m.most) {
		m.refused.Store(int64(min(size, maxMemory)))
		return nil
	}
	if size > uint64(cap(m.buf)) {
		// A half more than is asked for, so that a module that grows page by page is
		// not copied at each; never beyond the cap.
		grown := make([]byte, size, min(size+size/2, uint64(m.most)))
		copy(grown, m.buf)
		m.buf = grown
	}
	m.buf = m.buf[:size]
	m.size.Store(int64(size))
	return m.buf
}

func (m *linear) Free() { m.buf = nil }

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
