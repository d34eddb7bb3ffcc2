package rows

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// Ref is one row of one of several records; a negative record is no row.
type Ref struct{ Record, Row int32 }

// Take copies rows from anywhere in several columns of one type into a new one:
// what [CopyRanges] is for runs of rows, pick is for single ones. No row becomes NULL
// where nullable says so, else a zero. Rows that are a good part of
// one column, in its order, are given as a slice of it, without a copy. It allocates and panics as
// gather does.
func Take(mem memory.Allocator, t arrow.DataType, nullable bool, parts []arrow.ArrayData, refs []Ref) arrow.Array {
	// A slice keeps the whole column alive, so it must be much of it.
	if n := len(refs); n > 0 && contiguous(refs) && 2*n >= parts[refs[0].Record].Len() {
		data := array.NewSliceData(parts[refs[0].Record], int64(refs[0].Row), int64(refs[0].Row)+int64(n))
		defer data.Release()
		return array.MakeFromData(data)
	}
	g := copier{mem: mem}
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
	validity, nulls := g.takeValidity(nullable, parts, refs)
	buffers = append(buffers, validity)
	switch s := storage.(type) {
	case *arrow.BooleanType:
		buffers = append(buffers, g.takeBits(parts, refs))
	case *arrow.StringType, *arrow.BinaryType:
		buffers = takeText[int32](g, parts, refs, buffers)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		buffers = takeText[int64](g, parts, refs, buffers)
	case *arrow.NullType, *arrow.DictionaryType:
		return g.takeRanges(t, parts, refs)
	case arrow.FixedWidthDataType:
		buffers = append(buffers, g.takeFixed(s.BitWidth()/8, parts, refs))
	default:
		return g.takeRanges(t, parts, refs)
	}
	data := array.NewData(t, len(refs), buffers, nil, nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// contiguous reports whether refs are neighbours in one record.
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

// takeRanges leaves nested and odd types to gather. A column of one NULL stands
// for what is no row.
func (g copier) takeRanges(t arrow.DataType, parts []arrow.ArrayData, refs []Ref) arrow.Array {
	var spans []Range
	none := false
	for _, r := range refs {
		if r.Record < 0 {
			none = true
			r = Ref{Record: int32(len(parts))}
		}
		if n := len(spans); n > 0 && spans[n-1].Record == int(r.Record) && spans[n-1].From+spans[n-1].Rows == int(r.Row) {
			spans[n-1].Rows++
			continue
		}
		spans = append(spans, Range{Record: int(r.Record), From: int(r.Row), Rows: 1})
	}
	if none {
		null := array.MakeArrayOfNull(g.mem, t, 1)
		defer null.Release()
		parts = append(parts[:len(parts):len(parts)], null.Data())
	}
	return g.array(t, parts, spans)
}

func (g copier) takeValidity(nullable bool, parts []arrow.ArrayData, refs []Ref) (*memory.Buffer, int) {
	some := false
	for _, d := range parts {
		some = some || HasNulls(d)
	}
	if !some && nullable {
		for _, r := range refs {
			if r.Record < 0 {
				some = true
				break
			}
		}
	}
	if !some {
		return nil, 0
	}
	out := g.buffer(int(bitutil.BytesForBits(int64(len(refs)))))
	bits, nulls := out.Bytes(), 0
	bitmaps := make([][]byte, len(parts)) // nil: all valid
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

func (g copier) takeBits(parts []arrow.ArrayData, refs []Ref) *memory.Buffer {
	out := g.buffer(int(bitutil.BytesForBits(int64(len(refs)))))
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

func (g copier) takeFixed(width int, parts []arrow.ArrayData, refs []Ref) *memory.Buffer {
	out := g.buffer(len(refs) * width)
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
				at := (d.Offset() + int(r.Row)) * width
				copy(to[:width], d.Buffers()[1].Bytes()[at:])
			}
			to = to[width:]
		}
	}
	return out
}

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

// takeText appends the offsets and the contents to buffers, which the caller
// releases also when it panics.
func takeText[O int32 | int64](g copier, parts []arrow.ArrayData, refs []Ref, buffers []*memory.Buffer) []*memory.Buffer {
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
		panic(&sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("%s of text in one column do not fit one chunk: ask for smaller chunks", budget.FormatBytes(size))})
	}
	ends := g.buffer((len(refs) + 1) * sizeOf(O(0)))
	made := false
	defer func() {
		if !made {
			ends.Release()
		}
	}()
	values := g.buffer(int(size))
	made = true
	end, to, total := arrow.GetData[O](ends.Bytes()), values.Bytes(), O(0)
	for i, r := range refs {
		if r.Record >= 0 && offsets[r.Record] != nil {
			o := offsets[r.Record][r.Row:]
			total += O(copy(to[total:], contents[r.Record][o[0]:o[1]]))
		}
		end[i+1] = total
	}
	return append(buffers, ends, values)
}
