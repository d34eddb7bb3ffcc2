package rows

import (
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Arena owns what a piece of work allocates, so that one deferred release gives
// everything back, also where the work was refused memory half way. It is for
// one goroutine.
type Arena struct {
	Mem     memory.Allocator
	holding []interface{ Release() }
}

// releaseFunc is what must be called in the end.
type releaseFunc func()

func (r releaseFunc) Release() { r() }

func NewArena(mem memory.Allocator) *Arena { return &Arena{Mem: mem} }

func (s *Arena) Release() {
	for i, h := range s.holding {
		h.Release()
		s.holding[i] = nil
	}
	s.holding = s.holding[:0]
}

// Keep takes over what is released with the scope, and returns it.
func Keep[T interface{ Release() }](s *Arena, held T) T {
	s.holding = append(s.holding, held)
	return held
}

// OnRelease calls f when the scope is released.
func (s *Arena) OnRelease(f func()) { s.holding = append(s.holding, releaseFunc(f)) }

// Retain keeps a record of someone else's.
func (s *Arena) Retain(record arrow.RecordBatch) arrow.RecordBatch {
	record.Retain()
	return Keep(s, record)
}

// Bytes returns n zeroes.
func (s *Arena) Bytes(n int) []byte {
	if n == 0 {
		return nil
	}
	b := memory.NewResizableBuffer(s.Mem)
	b.Resize(n) // which has nothing to give back where it is refused
	return Keep(s, b).Bytes()
}

// Ints returns n zeroes.
func (s *Arena) Ints(n int) []int32 { return arrow.GetData[int32](s.Bytes(4 * n)) }

const refBytes = int(unsafe.Sizeof(Ref{}))

func castRefs(b []byte) []Ref {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*Ref)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/refBytes)
}

// Refs returns n refs to the first row of the first record.
func (s *Arena) Refs(n int) []Ref { return castRefs(s.Bytes(n * refBytes)) }
