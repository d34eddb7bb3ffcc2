package csv

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// vector builds one column of a page by writing directly into Arrow buffers. Its
// memory comes from the session's allocator. The array that finish returns owns the
// memory; before that, release frees it, also after a failed allocation.
type vector struct {
	mem    memory.Allocator
	column *column
	typ    arrow.DataType
	index  int // of the column in the table
	width  int // bytes of a value; 0 for text, -1 for bits
	first  int // the initial capacity, in rows
	fast   fastFormat

	rows   int
	nulls  int
	valid  []byte // the validity bitmap; nil while there is no NULL
	values []byte // of text, the offsets: one more than rows
	text   []byte
	used   int // bytes of text

	capacity int // in rows
	lastRows int // rows of the previous page, an estimate for this one
	lastText int
}

func newVector(mem memory.Allocator, c *column, index int) vector {
	v := vector{mem: mem, column: c, typ: c.dataType(), index: index, fast: c.fastFormat(), first: firstRows}
	switch t := v.typ.(type) {
	case *arrow.StringType:
	case *arrow.BooleanType:
		v.width = -1
	case arrow.FixedWidthDataType:
		v.width = t.BitWidth() / 8
	}
	return v
}

// fixedSize returns what a value adds to the page's size, as sources.Size counts it,
// without the bytes of text.
func (v *vector) fixedSize() int64 {
	switch v.width {
	case 0:
		return 4
	case -1:
		return 1
	}
	return int64(v.width)
}

// firstRows is the initial capacity of a vector whose pages have room for that many
// rows.
const firstRows = 32

// grow makes room for more rows.
func (v *vector) grow() {
	rows := max(2*v.capacity, v.lastRows, v.first)
	switch v.width {
	case 0:
		v.values = v.reallocate(v.values, 4*(rows+1))
	case -1:
		v.values = v.reallocate(v.values, (rows+7)/8)
	default:
		v.values = v.reallocate(v.values, v.width*rows)
	}
	if v.valid != nil {
		v.valid = v.reallocate(v.valid, (rows+7)/8)
	}
	v.capacity = rows
}

func (v *vector) reallocate(b []byte, n int) []byte {
	if b == nil {
		return v.mem.Allocate(n)
	}
	return v.mem.Reallocate(n, b)
}

// appendNull appends a NULL.
func (v *vector) appendNull() {
	if v.rows == v.capacity {
		v.grow()
	}
	if v.valid == nil {
		v.valid = v.mem.Allocate((v.capacity + 7) / 8)
		for i := range v.rows / 8 {
			v.valid[i] = 0xff
		}
		if rest := v.rows % 8; rest > 0 {
			v.valid[v.rows/8] = 1<<rest - 1
		}
	}
	switch v.width {
	case 0:
		binary.LittleEndian.PutUint32(v.values[4*v.rows+4:], uint32(v.used))
	case -1:
	default:
		clear(v.values[v.width*v.rows : v.width*(v.rows+1)])
	}
	v.nulls++
	v.rows++
}

// append appends a value.
func (v *vector) append(d datum) {
	i := v.rows
	if i == v.capacity {
		v.grow()
	}
	switch v.width {
	case 8:
		binary.LittleEndian.PutUint64(v.values[8*i:], uint64(d.n))
	case 0:
		end := v.used + len(d.text)
		if end > len(v.text) {
			v.growText(end)
		}
		copy(v.text[v.used:end], d.text)
		v.used = end
		binary.LittleEndian.PutUint32(v.values[4*i+4:], uint32(end))
	case 4:
		binary.LittleEndian.PutUint32(v.values[4*i:], uint32(d.n))
	case 16:
		binary.LittleEndian.PutUint64(v.values[16*i:], uint64(d.n))
		binary.LittleEndian.PutUint64(v.values[16*i+8:], uint64(d.high))
	case -1:
		if d.n != 0 {
			v.values[i/8] |= 1 << (i % 8)
		}
	}
	if v.valid != nil {
		v.valid[i/8] |= 1 << (i % 8)
	}
	v.rows++
}

func (v *vector) growText(need int) {
	v.text = v.reallocate(v.text, max(need, min(2*len(v.text), math.MaxInt32), v.lastText, 16*v.first))
}

// truncate removes the row at index rows, if there is one.
func (v *vector) truncate(rows int) {
	if v.rows <= rows {
		return
	}
	v.rows = rows
	bit := byte(1) << (rows % 8)
	if v.valid != nil {
		if v.valid[rows/8]&bit == 0 {
			v.nulls--
		}
		v.valid[rows/8] &^= bit
	}
	switch v.width {
	case 0:
		v.used = int(binary.LittleEndian.Uint32(v.values[4*rows:]))
	case -1:
		v.values[rows/8] &^= bit
	}
}

// maxBuffers is the most buffers that an array of a vector has.
const maxBuffers = 3

// finish returns the values as an array, which owns their memory, and empties the
// vector. The array keeps buffers, which must have room for maxBuffers and be unused.
func (v *vector) finish(buffers []*memory.Buffer) arrow.Array {
	buffers = append(buffers[:0], nil, nil)
	if v.valid != nil {
		buffers[0] = v.buffer(v.valid, (v.rows+7)/8)
	}
	switch v.width {
	case 0:
		buffers[1] = v.buffer(v.values, 4*(v.rows+1))
		buffers = append(buffers, v.buffer(v.text, v.used))
	case -1:
		buffers[1] = v.buffer(v.values, (v.rows+7)/8)
	default:
		buffers[1] = v.buffer(v.values, v.width*v.rows)
	}
	data := array.NewData(v.typ, v.rows, buffers, nil, v.nulls, 0)
	defer data.Release()
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	v.lastRows, v.lastText = max(v.lastRows, v.rows), max(v.lastText, v.used)
	v.valid, v.values, v.text = nil, nil, nil
	v.rows, v.nulls, v.used, v.capacity = 0, 0, 0, 0
	return array.MakeFromData(data)
}

// buffer returns a buffer of n bytes that owns the memory b.
func (v *vector) buffer(b []byte, n int) *memory.Buffer {
	if b == nil {
		return memory.NewBufferBytes(nil)
	}
	buffer := memory.NewBufferWithAllocator(b, v.mem)
	buffer.ResizeNoShrink(n)
	return buffer
}

// release frees the memory that no array owns.
func (v *vector) release() {
	for _, b := range [][]byte{v.valid, v.values, v.text} {
		if b != nil {
			v.mem.Free(b)
		}
	}
	v.valid, v.values, v.text = nil, nil, nil
}
