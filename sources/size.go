package sources

import (
	"github.com/apache/arrow-go/v18/arrow"
)

// Size returns the size of a record's values in bytes: the width of fixed-width
// types, and for text, binary and lists 4 bytes, or 8 for the large types, plus the
// contents. A boolean counts as one byte, a dictionary-encoded value as its index.
// Validity is not counted.
//
// The size depends only on the values, not on their representation in memory: the
// sizes of a record's slices add up to that of the record. The memory that a record
// occupies is counted by the allocator.
func Size(r arrow.RecordBatch) int64 {
	var n int64
	for _, c := range r.Columns() {
		n += arraySize(c.Data(), int64(c.Data().Offset()), int64(c.Len()))
	}
	return n
}

// arraySize returns the size of rows [from, from+n) of the data's buffers.
func arraySize(d arrow.ArrayData, from, n int64) int64 {
	if n == 0 {
		return 0
	}
	t := d.DataType()
	if e, ok := t.(arrow.ExtensionType); ok {
		t = e.StorageType()
	}
	switch t := t.(type) {
	case *arrow.NullType:
		return 0
	case *arrow.BooleanType:
		return n
	case *arrow.StringType, *arrow.BinaryType:
		first, last := offsets32(d, from, n)
		return 4*n + last - first
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		first, last := offsets64(d, from, n)
		return 8*n + last - first
	case *arrow.ListType, *arrow.MapType:
		first, last := offsets32(d, from, n)
		return 4*n + childSize(d, 0, first, last-first)
	case *arrow.LargeListType:
		first, last := offsets64(d, from, n)
		return 8*n + childSize(d, 0, first, last-first)
	case *arrow.FixedSizeListType:
		width := int64(t.Len())
		return childSize(d, 0, from*width, n*width)
	case *arrow.StructType:
		var sum int64
		for i := range d.Children() {
			sum += childSize(d, i, from, n)
		}
		return sum
	case arrow.FixedWidthDataType:
		return n * int64(t.BitWidth()/8)
	}
	// Views, unions and run-end encoded arrays, which the sources of this module do
	// not make, count as the size of their buffers.
	var sum int64
	for _, b := range d.Buffers() {
		if b != nil {
			sum += int64(b.Len())
		}
	}
	for i := range d.Children() {
		c := d.Children()[i]
		sum += arraySize(c, int64(c.Offset()), int64(c.Len()))
	}
	return sum
}

// childSize returns the size of rows of a child, which has an offset of its own.
func childSize(d arrow.ArrayData, i int, from, n int64) int64 {
	c := d.Children()[i]
	return arraySize(c, from+int64(c.Offset()), n)
}

func offsets32(d arrow.ArrayData, from, n int64) (int64, int64) {
	if d.Buffers()[1] == nil || d.Buffers()[1].Len() == 0 {
		return 0, 0
	}
	o := arrow.Int32Traits.CastFromBytes(d.Buffers()[1].Bytes())
	return int64(o[from]), int64(o[from+n])
}

func offsets64(d arrow.ArrayData, from, n int64) (int64, int64) {
	if d.Buffers()[1] == nil || d.Buffers()[1].Len() == 0 {
		return 0, 0
	}
	o := arrow.Int64Traits.CastFromBytes(d.Buffers()[1].Bytes())
	return o[from], o[from+n]
}
