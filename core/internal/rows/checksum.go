package rows

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/zeebo/xxh3"
)

// Checksum is a running hash of records of one schema. It covers the names and
// types of the columns, and the validity, length and value of every row in order.
// It does not depend on how the rows are divided into records, on the bytes that
// buffers hold under a NULL, or on how a dictionary is built. Each column is
// hashed separately, which is many times faster than hashing row by row.
//
// A Checksum is not safe for concurrent use.
type Checksum struct {
	schema *arrow.Schema
	rows   int64
	sums   []*columnSum
}

// NewChecksum returns the checksum of no rows. Call [Checksum.Free] when done.
func NewChecksum(schema *arrow.Schema) *Checksum {
	c := &Checksum{schema: schema}
	for _, f := range schema.Fields() {
		c.sums = append(c.sums, newColumnSum(f.Type))
	}
	return c
}

// Add adds all rows of a record.
func (c *Checksum) Add(record arrow.RecordBatch) { c.AddSlice(record, 0, record.NumRows()) }

// AddSlice adds rows [from, to) of a record. It ignores columns beyond those of
// the schema.
func (c *Checksum) AddSlice(record arrow.RecordBatch, from, to int64) {
	c.rows += to - from
	for i, sum := range c.sums {
		sum.add(record.Column(i).Data(), int(from), int(to-from))
	}
}

// Sum returns the digest of the rows added so far: 128-bit XXH3, in hexadecimal.
func (c *Checksum) Sum() string {
	h := xxh3.New()
	writeInt(h, c.rows)
	for i, f := range c.schema.Fields() {
		// The length prefix distinguishes "ab","c" from "a","bc".
		text := fmt.Sprintf("%s\x00%s\x00%t", f.Name, f.Type, f.Nullable)
		writeInt(h, int64(len(text)))
		_, _ = h.WriteString(text)
		c.sums[i].writeTo(h)
	}
	digest := h.Sum128().Bytes()
	return hex.EncodeToString(digest[:])
}

func writeInt(h *xxh3.Hasher, n int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	_, _ = h.Write(b[:]) // writing to a hash cannot fail
}

// columnSum is the running hash of a column, or of a child of a nested column.
// The elements and fields of a NULL are not rows of the child.
type columnSum struct {
	t        arrow.DataType // the storage type
	rows     int64
	nulls    *xxh3.Hasher // the indexes of the rows that are NULL
	lengths  *xxh3.Hasher // of strings, binaries and lists; nil for fixed-width types
	values   *xxh3.Hasher // nil if only children have values
	children []*columnSum
}

// hasherPool reuses hashers: each takes more than a kilobyte, and even a small
// result needs dozens.
var hasherPool = sync.Pool{New: func() any { return xxh3.New() }}

func newHasher() *xxh3.Hasher {
	h := hasherPool.Get().(*xxh3.Hasher)
	h.Reset()
	return h
}

// Free returns the hashers to a pool. The checksum must not be used afterwards.
func (c *Checksum) Free() {
	for _, s := range c.sums {
		s.free()
	}
	c.sums = nil
}

func (s *columnSum) free() {
	for _, h := range []*xxh3.Hasher{s.nulls, s.lengths, s.values} {
		if h != nil {
			hasherPool.Put(h)
		}
	}
	for _, c := range s.children {
		c.free()
	}
}

func newColumnSum(t arrow.DataType) *columnSum {
	if e, ok := t.(arrow.ExtensionType); ok {
		t = e.StorageType()
	}
	s := &columnSum{t: t, nulls: newHasher()}
	switch t := t.(type) {
	case *arrow.NullType:
	case *arrow.DictionaryType:
		s.children = []*columnSum{newColumnSum(t.ValueType)}
	case *arrow.StringType, *arrow.BinaryType, *arrow.LargeStringType, *arrow.LargeBinaryType:
		s.lengths, s.values = newHasher(), newHasher()
	case *arrow.FixedSizeListType:
		s.children = []*columnSum{newColumnSum(t.Elem())}
	case arrow.ListLikeType:
		s.lengths = newHasher()
		s.children = []*columnSum{newColumnSum(t.Elem())}
	case *arrow.StructType:
		for i := range t.NumFields() {
			s.children = append(s.children, newColumnSum(t.Field(i).Type))
		}
	default:
		s.values = newHasher()
	}
	return s
}

func (s *columnSum) writeTo(h *xxh3.Hasher) {
	writeInt(h, s.rows)
	for _, part := range []*xxh3.Hasher{s.nulls, s.lengths, s.values} {
		if part != nil {
			digest := part.Sum128().Bytes()
			_, _ = h.Write(digest[:])
		}
	}
	for _, c := range s.children {
		c.writeTo(h)
	}
}

// add hashes rows [from, from+n) of a column, where from is relative to the
// column's offset.
func (s *columnSum) add(d arrow.ArrayData, from, n int) {
	from += d.Offset()
	if _, ok := s.t.(*arrow.NullType); ok {
		s.rows += int64(n)
		return
	}
	if !HasNulls(d) {
		s.rows += int64(n)
		s.addValid(d, from, n)
		return
	}
	bits := d.Buffers()[0].Bytes()
	isSet := func(i int) bool { return bits[i/8]>>(i%8)&1 == 1 }
	for end := from + n; from < end; {
		if !isSet(from) {
			writeInt(s.nulls, s.rows)
			s.rows++
			from++
			if s.lengths == nil && len(s.children) == 0 {
				s.addZero()
			}
			continue
		}
		run := from
		for from < end && isSet(from) {
			from++
		}
		s.rows += int64(from - run)
		s.addValid(d, run, from-run)
	}
}

// addZero hashes a zero in place of the value of a NULL of fixed width.
func (s *columnSum) addZero() { _, _ = s.values.Write(zeros[:s.width()]) }

var zeros [64]byte

// width returns how many zero bytes stand for the NULL of a fixed-width type.
func (s *columnSum) width() int {
	if t, ok := s.t.(arrow.FixedWidthDataType); ok && t.BitWidth() >= 8 {
		return min(t.BitWidth()/8, len(zeros))
	}
	return 1
}

// addValid hashes rows that are not NULL, where from is relative to the start of
// the buffers.
func (s *columnSum) addValid(d arrow.ArrayData, from, n int) {
	if n == 0 {
		return
	}
	switch t := s.t.(type) {
	case *arrow.BooleanType:
		s.addBooleans(d.Buffers()[1].Bytes(), from, n)
	case *arrow.StringType, *arrow.BinaryType:
		addText[int32](s, d, from, n)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		addText[int64](s, d, from, n)
	case *arrow.ListType, *arrow.MapType:
		addElements[int32](s, d, from, n)
	case *arrow.LargeListType:
		addElements[int64](s, d, from, n)
	case *arrow.FixedSizeListType:
		s.children[0].add(d.Children()[0], from*int(t.Len()), n*int(t.Len()))
	case *arrow.StructType:
		for i, c := range s.children {
			c.add(d.Children()[i], from, n)
		}
	case *arrow.DictionaryType:
		s.addDictionary(t, d, from, n)
	case arrow.FixedWidthDataType:
		width := t.BitWidth() / 8
		_, _ = s.values.Write(d.Buffers()[1].Bytes()[from*width : (from+n)*width])
	default:
		// A type that is not handled above is hashed as text.
		a := array.MakeFromData(d)
		defer a.Release()
		for i := from - d.Offset(); i < from-d.Offset()+n; i++ {
			value := a.ValueStr(i)
			writeInt(s.values, int64(len(value)))
			_, _ = s.values.WriteString(value)
		}
	}
}

// scratchBytes is the size of the buffers in which small values are assembled
// before they are hashed.
const scratchBytes = 8 << 10

// scratchPool reuses these buffers.
var scratchPool = sync.Pool{New: func() any { return new([scratchBytes]byte) }}

// addBooleans hashes one byte, 0 or 1, for each bit.
func (s *columnSum) addBooleans(bits []byte, from, n int) {
	scratch := scratchPool.Get().(*[scratchBytes]byte)
	defer scratchPool.Put(scratch)
	buffer := scratch[:]
	for n > 0 {
		count := min(n, len(buffer))
		for i := range count {
			bit := from + i
			buffer[i] = bits[bit/8] >> (bit % 8) & 1
		}
		_, _ = s.values.Write(buffer[:count])
		from, n = from+count, n-count
	}
}

// addLengths hashes the differences between consecutive offsets.
func addLengths[O int32 | int64](s *columnSum, offsets []O) {
	scratch := scratchPool.Get().(*[scratchBytes]byte)
	defer scratchPool.Put(scratch)
	buffer := scratch[:]
	used := 0
	for i := 1; i < len(offsets); i++ {
		binary.LittleEndian.PutUint64(buffer[used:], uint64(offsets[i]-offsets[i-1]))
		if used += 8; used == len(buffer) {
			_, _ = s.lengths.Write(buffer)
			used = 0
		}
	}
	_, _ = s.lengths.Write(buffer[:used])
}

// addText hashes rows of a string or binary column with offsets of type O.
func addText[O int32 | int64](s *columnSum, d arrow.ArrayData, from, n int) {
	offsets := arrow.GetData[O](d.Buffers()[1].Bytes())[from : from+n+1]
	addLengths(s, offsets)
	if offsets[n] > offsets[0] {
		_, _ = s.values.Write(d.Buffers()[2].Bytes()[offsets[0]:offsets[n]])
	}
}

// addElements hashes rows of a list column with offsets of type O.
func addElements[O int32 | int64](s *columnSum, d arrow.ArrayData, from, n int) {
	offsets := arrow.GetData[O](d.Buffers()[1].Bytes())[from : from+n+1]
	addLengths(s, offsets)
	s.children[0].add(d.Children()[0], int(offsets[0]), int(offsets[n]-offsets[0]))
}

// addDictionary hashes the values that the indices of a dictionary column refer
// to. It decodes a few hundred rows at a time, in memory outside the stream's
// budget, so that a checksum is never refused memory.
func (s *columnSum) addDictionary(t *arrow.DictionaryType, d arrow.ArrayData, from, n int) {
	indices := array.MakeFromData(d).(*array.Dictionary)
	defer indices.Release()
	from -= d.Offset()
	ranges := make([]Range, 0, min(n, 256))
	for n > 0 {
		ranges = ranges[:0]
		for len(ranges) < 256 && n > 0 {
			ranges = append(ranges, Range{From: indices.GetValueIndex(from), Rows: 1})
			from, n = from+1, n-1
		}
		values := copier{mem: memory.DefaultAllocator}.data(t.ValueType, []arrow.ArrayData{d.Dictionary()}, ranges)
		s.children[0].add(values, 0, values.Len())
		values.Release()
	}
}
