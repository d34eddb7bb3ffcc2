package rows

import (
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Arena owns what an operation allocates, so that a single deferred
// [Arena.Release] frees all of it, even if an allocation is refused halfway. An
// Arena is not safe for concurrent use.
type Arena struct {
	Mem   memory.Allocator
	owned []interface{ Release() }
}

// releaseFunc is a function called by [Arena.Release].
type releaseFunc func()

// Release calls r.
func (r releaseFunc) Release() { r() }

// NewArena returns an empty arena that allocates from mem.
func NewArena(mem memory.Allocator) *Arena { return &Arena{Mem: mem} }

// Release releases everything that the arena owns. The arena is then empty, and
// may be used again.
func (a *Arena) Release() {
	for i, v := range a.owned {
		v.Release()
		a.owned[i] = nil
	}
	a.owned = a.owned[:0]
}

// Keep transfers one reference to v to the arena, and returns v. It is valid
// until the arena is released.
func Keep[T interface{ Release() }](a *Arena, v T) T {
	a.owned = append(a.owned, v)
	return v
}

// OnRelease arranges for f to be called when the arena is released.
func (a *Arena) OnRelease(f func()) { a.owned = append(a.owned, releaseFunc(f)) }

// Retain retains a record that belongs to the caller until the arena is
// released, and returns it.
func (a *Arena) Retain(record arrow.RecordBatch) arrow.RecordBatch {
	record.Retain()
	return Keep(a, record)
}

// Bytes returns n zero bytes, which the arena owns.
func (a *Arena) Bytes(n int) []byte {
	if n == 0 {
		return nil
	}
	b := memory.NewResizableBuffer(a.Mem)
	b.Resize(n) // if this panics, b holds no memory
	return Keep(a, b).Bytes()
}

// Ints returns n zeros, which the arena owns.
func (a *Arena) Ints(n int) []int32 { return arrow.GetData[int32](a.Bytes(4 * n)) }

const refBytes = int(unsafe.Sizeof(Ref{}))

func castRefs(b []byte) []Ref {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*Ref)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/refBytes)
}

// Refs returns n zero refs, which the arena owns. Each refers to the first row of
// the first record.
func (a *Arena) Refs(n int) []Ref { return castRefs(a.Bytes(n * refBytes)) }
