package core

import (
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// scope owns what a piece of work allocates, so that one deferred release gives
// everything back, also where the work was refused memory half way. It is for
// one goroutine.
type scope struct {
	mem     memory.Allocator
	holding []interface{ Release() }
}

// releaser is what must be called in the end.
type releaser func()

func (r releaser) Release() { r() }

func newScope(mem memory.Allocator) *scope { return &scope{mem: mem} }

func (s *scope) release() {
	for i, h := range s.holding {
		h.Release()
		s.holding[i] = nil
	}
	s.holding = s.holding[:0]
}

// keep takes over what is released with the scope, and returns it.
func keep[T interface{ Release() }](s *scope, held T) T {
	s.holding = append(s.holding, held)
	return held
}

// onRelease calls f when the scope is released.
func (s *scope) onRelease(f func()) { s.holding = append(s.holding, releaser(f)) }

// retain keeps a record of someone else's.
func (s *scope) retain(record arrow.RecordBatch) arrow.RecordBatch {
	record.Retain()
	return keep(s, record)
}

// bytes returns n zeroes.
func (s *scope) bytes(n int) []byte {
	if n == 0 {
		return nil
	}
	b := memory.NewResizableBuffer(s.mem)
	b.Resize(n) // which has nothing to give back where it is refused
	return keep(s, b).Bytes()
}

// ints returns n zeroes.
func (s *scope) ints(n int) []int32 { return arrow.GetData[int32](s.bytes(4 * n)) }

const refBytes = int(unsafe.Sizeof(ref{}))

func castRefs(b []byte) []ref {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*ref)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/refBytes)
}

// refs returns n refs to the first row of the first record.
func (s *scope) refs(n int) []ref { return castRefs(s.bytes(n * refBytes)) }
