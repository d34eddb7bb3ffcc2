package rows

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// Ref refers to one row of one of several records, by index. A negative Record
// refers to no row.
type Ref struct{ Record, Row int32 }

// Take returns a column of type t with the rows that refs refer to, in that order.
// The parts are columns of type t; [Ref.Record] is an index in them. A ref to no
// row yields NULL if nullable is true, and otherwise a zero value. The caller
// releases the result.
//
// If the rows are adjacent in one part and make up at least half of it, the result
// is a slice of that part. Otherwise Take copies the rows, and allocates and panics
// as [CopyRanges] does.
func Take(mem memory.Allocator, t arrow.DataType, nullable bool, parts []arrow.ArrayData, refs []Ref) arrow.Array {
	// A slice keeps the whole column alive, so it must be a large part of it.
	if n := len(refs); n > 0 && contiguous(refs) && 2*n >= parts[refs[0].Record].Len() {
		data := array.NewSliceData(parts[refs[0].Record], int64(refs[0].Row), int64(refs[0].Row)+int64(n))
		defer data.Release()
		return array.MakeFromData(data)
	}
	c := copier{mem: mem}
	storage := t
	if e, ok := t.(arrow.ExtensionType); ok {
		storage = e.StorageType()
	}
	var buffers []*memory.Buffer
	defer func() {
		for _, b := range buffers {
			if b != nil {
				b.Release()
			}
		}
	}()
	validity, nulls := c.takeValidity(nullable, parts, refs)
	buffers = append(buffers, validity)
	switch s := storage.(type) {
	case *arrow.BooleanType:
		buffers = append(buffers, c.takeBits(parts, refs))
	case *arrow.StringType, *arrow.BinaryType:
		buffers = takeText[int32](c, parts, refs, buffers)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		buffers = takeText[int64](c, parts, refs, buffers)
	case *arrow.NullType, *arrow.DictionaryType:
		return c.takeRanges(t, parts, refs)
	case arrow.FixedWidthDataType:
		buffers = append(buffers, c.takeFixed(s.BitWidth()/8, parts, refs))
	default:
		return c.takeRanges(t, parts, refs)
	}
	data := array.NewData(t, len(refs), buffers, nil, nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// contiguous reports whether refs, of which there is at least one, refer to
// adjacent rows of one record, in order.
func contiguous(refs []Ref) bool {
	first := refs[0]
	if first.Record < 0 {
		return false
	}
	for i, r := range refs {
		if r.Record != first.Record || int(r.Row-first.Row) != i {
			return false
		}
	}
	return true
}

// takeRanges takes rows of nested and unusual types by copying ranges. It copies
// refs to no row from an additional column that has one NULL.
func (c copier) takeRanges(t arrow.DataType, parts []arrow.ArrayData, refs []Ref) arrow.Array {
	var ranges []Range
	needsNull := false
	for _, r := range refs {
		if r.Record < 0 {
			needsNull = true
			r = Ref{Record: int32(len(parts))}
		}
		if n := len(ranges); n > 0 && ranges[n-1].Record == int(r.Record) && ranges[n-1].From+ranges[n-1].Rows == int(r.Row) {
			ranges[n-1].Rows++
			continue
		}
		ranges = append(ranges, Range{Record: int(r.Record), From: int(r.Row), Rows: 1})
	}
	if needsNull {
		null := array.MakeArrayOfNull(c.mem, t, 1)
		defer null.Release()
		parts = append(parts[:len(parts):len(parts)], null.Data())
	}
	return c.array(t, parts, ranges)
}

// takeValidity returns the bitmap of valid rows and the number of NULLs. The bitmap
// is nil if no row can be NULL.
func (c copier) takeValidity(nullable bool, parts []arrow.ArrayData, refs []Ref) (*memory.Buffer, int) {
	anyNulls := false
	for _, d := range parts {
		anyNulls = anyNulls || HasNulls(d)
	}
	if !anyNulls && nullable {
		for _, r := range refs {
			if r.Record < 0 {
				anyNulls = true
				break
			}
		}
	}
	if !anyNulls {
		return nil, 0
	}
	out := c.buffer(int(bitutil.BytesForBits(int64(len(refs)))))
	bits, nulls := out.Bytes(), 0
	bitmaps := make([][]byte, len(parts)) // nil if the part has no NULLs
	offsets := make([]int, len(parts))
	for i, d := range parts {
		offsets[i] = d.Offset()
		if HasNulls(d) {
			bitmaps[i] = d.Buffers()[0].Bytes()
		}
	}
	for i, r := range refs {
		valid := !nullable
		if r.Record >= 0 {
			b := bitmaps[r.Record]
			valid = b == nil || bitutil.BitIsSet(b, offsets[r.Record]+int(r.Row))
		}
		if valid {
			bitutil.SetBit(bits, i)
		} else {
			nulls++
		}
	}
	return out, nulls
}

// takeBits takes the values of a boolean column.
func (c copier) takeBits(parts []arrow.ArrayData, refs []Ref) *memory.Buffer {
	out := c.buffer(int(bitutil.BytesForBits(int64(len(refs)))))
	bits := out.Bytes()
	for i, r := range refs {
		if r.Record < 0 {
			continue
		}
		d := parts[r.Record]
		if bitutil.BitIsSet(d.Buffers()[1].Bytes(), d.Offset()+int(r.Row)) {
			bitutil.SetBit(bits, i)
		}
	}
	return out
}

// takeFixed takes values of a fixed width in bytes. Common widths have a faster path.
func (c copier) takeFixed(width int, parts []arrow.ArrayData, refs []Ref) *memory.Buffer {
	out := c.buffer(len(refs) * width)
	switch width {
	case 1:
		takeValues(arrow.GetData[uint8](out.Bytes()), parts, refs)
	case 2:
		takeValues(arrow.GetData[uint16](out.Bytes()), parts, refs)
	case 4:
		takeValues(arrow.GetData[uint32](out.Bytes()), parts, refs)
	case 8:
		takeValues(arrow.GetData[uint64](out.Bytes()), parts, refs)
	case 16:
		takeValues(arrow.GetData[decimal128.Num](out.Bytes()), parts, refs)
	default:
		to := out.Bytes()
		for _, r := range refs {
			if r.Record >= 0 {
				d := parts[r.Record]
				from := (d.Offset() + int(r.Row)) * width
				copy(to[:width], d.Buffers()[1].Bytes()[from:])
			}
			to = to[width:]
		}
	}
	return out
}

// takeValues takes values of type T into out, which is zero.
func takeValues[T arrow.FixedWidthType](out []T, parts []arrow.ArrayData, refs []Ref) {
	values := make([][]T, len(parts))
	for i, d := range parts {
		if d.Len() > 0 { // an empty column may have no buffer
			values[i] = arrow.GetData[T](d.Buffers()[1].Bytes())[d.Offset():]
		}
	}
	for i, r := range refs {
		if r.Record >= 0 {
			out[i] = values[r.Record][r.Row]
		}
	}
}

// takeText takes the rows of a string or binary column, and appends their offsets
// and contents to buffers. The caller releases buffers, also after a panic.
func takeText[O int32 | int64](c copier, parts []arrow.ArrayData, refs []Ref, buffers []*memory.Buffer) []*memory.Buffer {
	offsets, contents := make([][]O, len(parts)), make([][]byte, len(parts))
	for i, d := range parts {
		offsets[i] = offsetsOf[O](d, Range{})
		if d.Buffers()[2] != nil {
			contents[i] = d.Buffers()[2].Bytes()
		}
	}
	size := int64(0)
	for _, r := range refs {
		if r.Record >= 0 && offsets[r.Record] != nil {
			o := offsets[r.Record][r.Row:]
			size += int64(o[1] - o[0])
		}
	}
	if size > math.MaxInt32 && int64(O(size)) != size {
		panic(sources.Errorf(sources.Exhausted, "", "", "%s of text in one column exceeds what one chunk can hold; use smaller chunks", budget.FormatBytes(size)))
	}
	offsetsOut := c.buffer((len(refs) + 1) * sizeOf(O(0)))
	allocated := false
	defer func() {
		if !allocated {
			offsetsOut.Release()
		}
	}()
	values := c.buffer(int(size))
	allocated = true
	ends, to, total := arrow.GetData[O](offsetsOut.Bytes()), values.Bytes(), O(0)
	for i, r := range refs {
		if r.Record >= 0 && offsets[r.Record] != nil {
			o := offsets[r.Record][r.Row:]
			total += O(copy(to[total:], contents[r.Record][o[0]:o[1]]))
		}
		ends[i+1] = total
	}
	return append(buffers, offsetsOut, values)
}
