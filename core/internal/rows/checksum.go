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

// Checksum is a running hash over records of one schema: over the columns'
// names and types, and the validity, lengths and values of every row in order.
// It does not depend on how the rows are divided into records, on what lies in
// the buffers under a NULL, or on how a dictionary is built. It sees each column
// by itself, which is many times as fast as going row by row.
type Checksum struct {
	schema *arrow.Schema
	rows   int64
	sums   []*columnSum
}

func NewChecksum(schema *arrow.Schema) *Checksum {
	c := &Checksum{schema: schema}
	for _, f := range schema.Fields() {
		c.sums = append(c.sums, newColumnSum(f.Type))
	}
	return c
}

func (c *Checksum) Add(record arrow.RecordBatch) { c.AddSlice(record, 0, record.NumRows()) }

// AddSlice adds rows [from, to). Columns behind those of the schema are not
// looked at.
func (c *Checksum) AddSlice(record arrow.RecordBatch, from, to int64) {
	c.rows += to - from
	for i, sum := range c.sums {
		sum.add(record.Column(i).Data(), int(from), int(to-from))
	}
}

// Sum returns the digest of what was added so far: XXH3 with 128 bits, in hex.
func (c *Checksum) Sum() string {
	h := xxh3.New()
	writeInt(h, c.rows)
	for i, f := range c.schema.Fields() {
		// The length before the text keeps "ab","c" from being "a","bc".
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
	_, _ = h.Write(b[:]) // a hash takes everything
}

// columnSum is the hash of a column or of a column's child. What lies below a
// NULL is no row of the child.
type columnSum struct {
	t        arrow.DataType // of the storage
	rows     int64
	nulls    *xxh3.Hasher // the numbers of the rows that are NULL
	lengths  *xxh3.Hasher // of texts and lists; nil where all are as long
	values   *xxh3.Hasher // nil where only children have values
	children []*columnSum
}

// hashers are those of checksums that are done: a hasher is a kilobyte and more,
// and a small answer has dozens.
var hashers = sync.Pool{New: func() any { return xxh3.New() }}

func newHasher() *xxh3.Hasher {
	h := hashers.Get().(*xxh3.Hasher)
	h.Reset()
	return h
}

// Free gives the hashers back. The checksum is not used any more.
func (c *Checksum) Free() {
	for _, s := range c.sums {
		s.free()
	}
	c.sums = nil
}

func (s *columnSum) free() {
	for _, h := range []*xxh3.Hasher{s.nulls, s.lengths, s.values} {
		if h != nil {
			hashers.Put(h)
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

// add hashes rows [from, from+n) of a column, not counting its offset.
func (s *columnSum) add(d arrow.ArrayData, from, n int) {
	from += d.Offset()
	if _, ok := s.t.(*arrow.NullType); ok {
		s.rows += int64(n)
		return
	}
	if !HasNulls(d) {
		s.rows += int64(n)
		s.valid(d, from, n)
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
				s.zero()
			}
			continue
		}
		run := from
		for from < end && isSet(from) {
			from++
		}
		s.rows += int64(from - run)
		s.valid(d, run, from-run)
	}
}

// zero stands for the value of a NULL of fixed width.
func (s *columnSum) zero() { _, _ = s.values.Write(zeros[:s.width()]) }

var zeros [64]byte

// width is how many bytes a value has, where all have as many.
func (s *columnSum) width() int {
	if t, ok := s.t.(arrow.FixedWidthDataType); ok && t.BitWidth() >= 8 {
		return min(t.BitWidth()/8, len(zeros))
	}
	return 1
}

// valid hashes rows without a NULL; from counts from the start of the buffers.
func (s *columnSum) valid(d arrow.ArrayData, from, n int) {
	if n == 0 {
		return
	}
	switch t := s.t.(type) {
	case *arrow.BooleanType:
		s.booleans(d.Buffers()[1].Bytes(), from, n)
	case *arrow.StringType, *arrow.BinaryType:
		text[int32](s, d, from, n)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		text[int64](s, d, from, n)
	case *arrow.ListType, *arrow.MapType:
		elements[int32](s, d, from, n)
	case *arrow.LargeListType:
		elements[int64](s, d, from, n)
	case *arrow.FixedSizeListType:
		s.children[0].add(d.Children()[0], from*int(t.Len()), n*int(t.Len()))
	case *arrow.StructType:
		for i, c := range s.children {
			c.add(d.Children()[i], from, n)
		}
	case *arrow.DictionaryType:
		s.decoded(t, d, from, n)
	case arrow.FixedWidthDataType:
		width := t.BitWidth() / 8
		_, _ = s.values.Write(d.Buffers()[1].Bytes()[from*width : (from+n)*width])
	default:
		// A type that no source of ours makes: its rows as text.
		a := array.MakeFromData(d)
		defer a.Release()
		for i := from - d.Offset(); i < from-d.Offset()+n; i++ {
			value := a.ValueStr(i)
			writeInt(s.values, int64(len(value)))
			_, _ = s.values.WriteString(value)
		}
	}
}

// scratchBytes is how much is put together before it is hashed.
const scratchBytes = 8 << 10

// scratches are what is put together in.
var scratches = sync.Pool{New: func() any { return new([scratchBytes]byte) }}

func (s *columnSum) booleans(bits []byte, from, n int) {
	scratch := scratches.Get().(*[scratchBytes]byte)
	defer scratches.Put(scratch)
	buffer := scratch[:]
	for n > 0 {
		step := min(n, len(buffer))
		for i := range step {
			at := from + i
			buffer[i] = bits[at/8] >> (at % 8) & 1
		}
		_, _ = s.values.Write(buffer[:step])
		from, n = from+step, n-step
	}
}

// hashLengths hashes the differences of the offsets.
func hashLengths[O int32 | int64](s *columnSum, offsets []O) {
	scratch := scratches.Get().(*[scratchBytes]byte)
	defer scratches.Put(scratch)
	buffer := scratch[:]
	at := 0
	for i := 1; i < len(offsets); i++ {
		binary.LittleEndian.PutUint64(buffer[at:], uint64(offsets[i]-offsets[i-1]))
		if at += 8; at == len(buffer) {
			_, _ = s.lengths.Write(buffer)
			at = 0
		}
	}
	_, _ = s.lengths.Write(buffer[:at])
}

func text[O int32 | int64](s *columnSum, d arrow.ArrayData, from, n int) {
	offsets := arrow.GetData[O](d.Buffers()[1].Bytes())[from : from+n+1]
	hashLengths(s, offsets)
	if offsets[n] > offsets[0] {
		_, _ = s.values.Write(d.Buffers()[2].Bytes()[offsets[0]:offsets[n]])
	}
}

func elements[O int32 | int64](s *columnSum, d arrow.ArrayData, from, n int) {
	offsets := arrow.GetData[O](d.Buffers()[1].Bytes())[from : from+n+1]
	hashLengths(s, offsets)
	s.children[0].add(d.Children()[0], int(offsets[0]), int(offsets[n]-offsets[0]))
}

// decoded hashes a dictionary's values in the place of its indices. What it
// puts together is bounded, and not of the stream's budget, which a sum must
// not be refused by.
func (s *columnSum) decoded(t *arrow.DictionaryType, d arrow.ArrayData, from, n int) {
	indices := array.MakeFromData(d).(*array.Dictionary)
	defer indices.Release()
	from -= d.Offset()
	spans := make([]Range, 0, min(n, 256))
	for n > 0 {
		spans = spans[:0]
		for len(spans) < 256 && n > 0 {
			spans = append(spans, Range{From: indices.GetValueIndex(from), Rows: 1})
			from, n = from+1, n-1
		}
		values := copier{mem: memory.DefaultAllocator}.data(t.ValueType, []arrow.ArrayData{d.Dictionary()}, spans)
		s.children[0].add(values, 0, values.Len())
		values.Release()
	}
}
