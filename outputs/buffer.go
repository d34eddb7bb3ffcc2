package outputs

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// minBuffer is the smallest buffer that a writer settles for, in bytes.
const minBuffer = 64

// buffer gathers output in a block of the allocator's memory and passes it on
// when the block is full.
type buffer struct {
	w      io.Writer
	mem    memory.Allocator
	size   int    // bytes to gather
	most   int    // bytes that size grows to
	block  []byte // owned; nil after free
	text   []byte // what is gathered: within block, unless a row has outgrown it
	offset int64  // length of the output without text
}

func newBuffer(w io.Writer, o Options) *buffer {
	b := &buffer{w: w, mem: o.Allocator, size: o.Buffer, offset: o.Offset}
	if b.size == 0 {
		b.size = DefaultBuffer
	}
	b.most = maxGrowth * b.size
	return b
}

// allocate allocates the block, with some room for a row that does not end at
// size, or a smaller one if the allocator refuses it.
func (b *buffer) allocate() error {
	for size := max(b.size+b.size/16, minBuffer); ; size = max(size/2, minBuffer) {
		block, err := sources.GuardCall("write", "", func() ([]byte, error) { return b.mem.Allocate(size), nil })
		if err == nil {
			b.block, b.text = block, block[:0]
			return nil
		}
		if size == minBuffer {
			return err
		}
	}
}

// Write implements [io.Writer]. Bytes that do not fit into the block bypass it.
func (b *buffer) Write(p []byte) (int, error) {
	if len(b.text)+len(p) > cap(b.text) {
		if err := b.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) <= cap(b.text) {
		b.text = append(b.text, p...)
		return len(p), nil
	}
	n, err := b.w.Write(p)
	b.offset += int64(n)
	return n, err
}

// maxGrowth bounds how far the block grows, as a multiple of its first size.
const maxGrowth = 4

// endRow passes the text on if the next row may not fit into the block. If the
// row has outgrown the block, later ones probably would too, so the block grows.
func (b *buffer) endRow() error {
	if len(b.text) < len(b.block)-len(b.block)/17 {
		return nil
	}
	outgrown := cap(b.text) > cap(b.block)
	if err := b.flush(); err != nil || !outgrown || b.size == b.most {
		return err
	}
	b.size = min(2*b.size, b.most)
	b.free()
	return b.allocate()
}

// flush passes the text on.
func (b *buffer) flush() error {
	if len(b.text) == 0 {
		return nil
	}
	n, err := b.w.Write(b.text)
	b.offset += int64(n)
	if err == nil && n < len(b.text) {
		err = io.ErrShortWrite
	}
	b.text = b.block[:0]
	return err
}

func (b *buffer) free() {
	if b.block != nil {
		b.mem.Free(b.block)
	}
	b.block, b.text = nil, nil
}
