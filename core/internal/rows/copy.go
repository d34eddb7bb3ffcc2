package rows

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// Range is a range of adjacent rows of one of several records.
type Range struct {
	Record int // the index of the record
	From   int // the index of the first row in the record
	Rows   int // the number of rows
}

// CopyRanges returns a record that holds copies of the given ranges of records, in
// order. The records have the given schema, except for metadata. The caller
// releases the result, which shares no memory with the records except for a
// dictionary that they all have in common.
//
// CopyRanges allocates exactly what the result needs. If mem refuses, CopyRanges
// panics as described at [budget.Budget], after releasing what it had allocated.
func CopyRanges(mem memory.Allocator, schema *arrow.Schema, records []arrow.RecordBatch, ranges []Range) arrow.RecordBatch {
	c := copier{mem: mem}
	columns := make([]arrow.Array, 0, schema.NumFields())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	parts := make([]arrow.ArrayData, len(records))
	for i, field := range schema.Fields() {
		for j, r := range records {
			parts[j] = r.Column(i).Data()
		}
		columns = append(columns, c.array(field.Type, parts, ranges))
	}
	return array.NewRecordBatch(schema, columns, int64(Count(ranges)))
}

// CopyColumnRanges copies ranges of columns of type t into one column, as
// [CopyRanges] does for records. [Range.Record] is an index in columns.
func CopyColumnRanges(mem memory.Allocator, t arrow.DataType, columns []arrow.ArrayData, ranges []Range) arrow.Array {
	return copier{mem: mem}.array(t, columns, ranges)
}

// Concat copies the rows of all records into one record, as [CopyRanges] does.
func Concat(mem memory.Allocator, schema *arrow.Schema, records []arrow.RecordBatch) arrow.RecordBatch {
	ranges := make([]Range, len(records))
	for i, r := range records {
		ranges[i] = Range{Record: i, Rows: int(r.NumRows())}
	}
	return CopyRanges(mem, schema, records, ranges)
}

// Count returns the total number of rows in ranges.
func Count(ranges []Range) int {
	n := 0
	for _, r := range ranges {
		n += r.Rows
	}
	return n
}

// copier copies columns into buffers from mem. In its methods, parts are columns
// of one type, and the Record of a range or ref is an index in them.
type copier struct {
	mem memory.Allocator
}

func (c copier) array(t arrow.DataType, parts []arrow.ArrayData, ranges []Range) arrow.Array {
	data := c.data(t, parts, ranges)
	defer data.Release()
	return array.MakeFromData(data)
}

// buffer returns a buffer of n zero bytes: budgets zero what they allocate.
func (c copier) buffer(n int) *memory.Buffer {
	b := memory.NewResizableBuffer(c.mem)
	b.Resize(n)
	return b
}

// data copies ranges of one column. Every branch defers the release of the buffers
// and children that it makes: the result has retained them by then, and after a
// panic nothing is left.
func (c copier) data(t arrow.DataType, parts []arrow.ArrayData, ranges []Range) arrow.ArrayData {
	rows := Count(ranges)
	validity, nulls := c.validity(parts, ranges, rows)
	if validity != nil {
		defer validity.Release()
	}
	storage := t
	if e, ok := t.(arrow.ExtensionType); ok {
		storage = e.StorageType()
	}
	result := func(buffers []*memory.Buffer, children []arrow.ArrayData) arrow.ArrayData {
		return array.NewData(t, rows, buffers, children, nulls, 0)
	}
	switch s := storage.(type) {
	case *arrow.NullType:
		return array.NewData(t, rows, []*memory.Buffer{nil}, nil, rows, 0)
	case *arrow.BooleanType:
		values := c.buffer(int(bitutil.BytesForBits(int64(rows))))
		defer values.Release()
		row := 0
		for _, r := range ranges {
			if r.Rows == 0 {
				continue // an empty column may have no buffer
			}
			d := parts[r.Record]
			bitutil.CopyBitmap(d.Buffers()[1].Bytes(), d.Offset()+r.From, r.Rows, values.Bytes(), row)
			row += r.Rows
		}
		return result([]*memory.Buffer{validity, values}, nil)
	case *arrow.DictionaryType:
		return c.dictionary(t, s, parts, ranges, validity, nulls)
	case *arrow.StringType, *arrow.BinaryType:
		offsets, values := variable[int32](c, parts, ranges, rows)
		defer offsets.Release()
		defer values.Release()
		return result([]*memory.Buffer{validity, offsets, values}, nil)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		offsets, values := variable[int64](c, parts, ranges, rows)
		defer offsets.Release()
		defer values.Release()
		return result([]*memory.Buffer{validity, offsets, values}, nil)
	case *arrow.ListType:
		return list[int32](c, t, s.Elem(), parts, ranges, validity, nulls)
	case *arrow.MapType:
		return list[int32](c, t, s.Elem(), parts, ranges, validity, nulls)
	case *arrow.LargeListType:
		return list[int64](c, t, s.Elem(), parts, ranges, validity, nulls)
	case *arrow.FixedSizeListType:
		width := int(s.Len())
		child := c.child(s.Elem(), 0, parts, ranges, func(d arrow.ArrayData, r Range) (int, int) {
			return (r.From + d.Offset()) * width, r.Rows * width
		})
		defer child.Release()
		return result([]*memory.Buffer{validity}, []arrow.ArrayData{child})
	case *arrow.StructType:
		children := make([]arrow.ArrayData, 0, s.NumFields())
		defer func() {
			for _, child := range children {
				child.Release()
			}
		}()
		for i := range s.NumFields() {
			children = append(children, c.child(s.Field(i).Type, i, parts, ranges, func(d arrow.ArrayData, r Range) (int, int) {
				return r.From + d.Offset(), r.Rows
			}))
		}
		return result([]*memory.Buffer{validity}, children)
	case arrow.FixedWidthDataType:
		values := c.fixed(s.BitWidth()/8, parts, ranges, rows)
		defer values.Release()
		return result([]*memory.Buffer{validity, values}, nil)
	}
	panic(sources.Errorf(sources.Invalid, "", "", "rows of type %s cannot be copied", t))
}

// validity returns the bitmap of valid rows and the number of NULLs. The bitmap is
// nil if no row is NULL.
func (c copier) validity(parts []arrow.ArrayData, ranges []Range, rows int) (*memory.Buffer, int) {
	anyNulls := false
	for _, r := range ranges {
		anyNulls = anyNulls || HasNulls(parts[r.Record])
	}
	if !anyNulls {
		return nil, 0
	}
	bits := c.buffer(int(bitutil.BytesForBits(int64(rows))))
	row := 0
	for _, r := range ranges {
		if d := parts[r.Record]; HasNulls(d) {
			bitutil.CopyBitmap(d.Buffers()[0].Bytes(), d.Offset()+r.From, r.Rows, bits.Bytes(), row)
		} else {
			bitutil.SetBitsTo(bits.Bytes(), int64(row), int64(r.Rows), true)
		}
		row += r.Rows
	}
	return bits, rows - bitutil.CountSetBits(bits.Bytes(), 0, rows)
}

// HasNulls reports whether a column has a validity bitmap that must be consulted.
func HasNulls(d arrow.ArrayData) bool {
	return d.NullN() != 0 && len(d.Buffers()) > 0 && d.Buffers()[0] != nil && d.Buffers()[0].Len() > 0
}

// fixed copies the values, each of width bytes, of a column of fixed width.
func (c copier) fixed(width int, parts []arrow.ArrayData, ranges []Range, rows int) *memory.Buffer {
	values := c.buffer(rows * width)
	to := values.Bytes()
	for _, r := range ranges {
		if r.Rows == 0 {
			continue // an empty column may have no buffer
		}
		d := parts[r.Record]
		from := (d.Offset() + r.From) * width
		n := r.Rows * width
		copy(to[:n], d.Buffers()[1].Bytes()[from:from+n])
		to = to[n:]
	}
	return values
}

// variable copies the offsets and contents of a string or binary column.
func variable[O int32 | int64](c copier, parts []arrow.ArrayData, ranges []Range, rows int) (offsets, values *memory.Buffer) {
	size := int64(0)
	for _, r := range ranges {
		if o := offsetsOf[O](parts[r.Record], r); o != nil {
			size += int64(o[r.Rows] - o[0])
		}
	}
	if size > math.MaxInt32 && int64(O(size)) != size {
		panic(sources.Errorf(sources.Exhausted, "", "", "%s of text in one column exceeds what one chunk can hold; use smaller chunks", budget.FormatBytes(size)))
	}
	var width O
	offsets = c.buffer((rows + 1) * sizeOf(width))
	allocated := false
	defer func() {
		if !allocated {
			offsets.Release()
		}
	}()
	values = c.buffer(int(size))
	allocated = true
	ends, next, total := arrow.GetData[O](offsets.Bytes()), 1, O(0)
	to := values.Bytes()
	for _, r := range ranges {
		d := parts[r.Record]
		o := offsetsOf[O](d, r)
		if o == nil {
			for range r.Rows {
				ends[next] = total
				next++
			}
			continue
		}
		for _, end := range o[1 : r.Rows+1] {
			ends[next] = total + end - o[0]
			next++
		}
		if first, last := o[0], o[r.Rows]; last > first {
			copy(to[total:], d.Buffers()[2].Bytes()[first:last])
			total += last - first
		}
	}
	return offsets, values
}

// sizeOf returns the size of an offset of type O in bytes.
func sizeOf[O int32 | int64](O) int {
	var o any = O(0)
	if _, ok := o.(int32); ok {
		return 4
	}
	return 8
}

// offsetsOf returns a column's offsets from the first row of r on: the contents of
// row i of the range lie between offsets i and i+1. It returns nil if the column
// has no offsets, which Arrow allows for a column without rows or contents.
func offsetsOf[O int32 | int64](d arrow.ArrayData, r Range) []O {
	if d.Buffers()[1] == nil || d.Buffers()[1].Len() == 0 {
		return nil
	}
	return arrow.GetData[O](d.Buffers()[1].Bytes())[d.Offset()+r.From:]
}

// child copies the child with index i of a nested column. For each range of the
// parent, childRange returns the range of the child, relative to the child's own
// offset.
func (c copier) child(t arrow.DataType, i int, parts []arrow.ArrayData, ranges []Range, childRange func(arrow.ArrayData, Range) (from, rows int)) arrow.ArrayData {
	children := make([]arrow.ArrayData, len(parts))
	for j, d := range parts {
		children[j] = d.Children()[i]
	}
	childRanges := make([]Range, 0, len(ranges))
	for _, r := range ranges {
		if from, rows := childRange(parts[r.Record], r); rows > 0 {
			childRanges = append(childRanges, Range{Record: r.Record, From: from, Rows: rows})
		}
	}
	return c.data(t, children, childRanges)
}

// list copies ranges of a list or map column with offsets of type O.
func list[O int32 | int64](c copier, t, elem arrow.DataType, parts []arrow.ArrayData, ranges []Range, validity *memory.Buffer, nulls int) arrow.ArrayData {
	rows := Count(ranges)
	var width O
	offsets := c.buffer((rows + 1) * sizeOf(width))
	defer offsets.Release()
	ends, next, total := arrow.GetData[O](offsets.Bytes()), 1, int64(0)
	for _, r := range ranges {
		o := offsetsOf[O](parts[r.Record], r)
		for i := range r.Rows {
			if o != nil {
				total += int64(o[i+1] - o[i])
			}
			if int64(O(total)) != total {
				panic(sources.Errorf(sources.Exhausted, "", "", "%d list elements in one column exceed what one chunk can hold; use smaller chunks", total))
			}
			ends[next] = O(total)
			next++
		}
	}
	child := c.child(elem, 0, parts, ranges, func(d arrow.ArrayData, r Range) (int, int) {
		o := offsetsOf[O](d, r)
		if o == nil {
			return 0, 0
		}
		return int(o[0]), int(o[r.Rows] - o[0])
	})
	defer child.Release()
	return array.NewData(t, rows, []*memory.Buffer{validity, offsets}, []arrow.ArrayData{child}, nulls, 0)
}

// dictionary copies ranges of a dictionary column. If all parts have equal
// dictionaries, the result shares the first one; otherwise its dictionary is their
// concatenation.
func (c copier) dictionary(t arrow.DataType, dt *arrow.DictionaryType, parts []arrow.ArrayData, ranges []Range, validity *memory.Buffer, nulls int) arrow.ArrayData {
	rows := Count(ranges)
	width := dt.IndexType.(arrow.FixedWidthDataType).BitWidth() / 8
	indices := c.fixed(width, parts, ranges, rows)
	defer indices.Release()
	dictionaries := make([]arrow.ArrayData, len(parts))
	same := true
	for i, d := range parts {
		dictionaries[i] = d.Dictionary()
		same = same && (dictionaries[i] == dictionaries[0] || equal(dictionaries[i], dictionaries[0]))
	}
	if same && len(parts) > 0 {
		return array.NewDataWithDictionary(t, rows, []*memory.Buffer{validity, indices}, nulls, 0, dictionaries[0].(*array.Data))
	}
	firstIndex, total := make([]int, len(parts)), 0 // in the concatenated dictionary
	whole := make([]Range, len(parts))
	for i, d := range dictionaries {
		firstIndex[i], whole[i] = total, Range{Record: i, Rows: d.Len()}
		total += d.Len()
	}
	concatenated := c.data(dt.ValueType, dictionaries, whole)
	defer concatenated.Release()
	row := 0
	for _, r := range ranges {
		shiftIndices(dt.IndexType, indices.Bytes()[row*width:(row+r.Rows)*width], firstIndex[r.Record], total)
		row += r.Rows
	}
	return array.NewDataWithDictionary(t, rows, []*memory.Buffer{validity, indices}, nulls, 0, concatenated.(*array.Data))
}

func equal(a, b arrow.ArrayData) bool {
	x, y := array.MakeFromData(a), array.MakeFromData(b)
	defer x.Release()
	defer y.Release()
	return array.Equal(x, y)
}

// shiftIndices adds delta to every index, including those under NULLs, which remain
// valid indexes. The dictionary that they refer to then has total values.
func shiftIndices(t arrow.DataType, indices []byte, delta, total int) {
	bits := t.(arrow.FixedWidthDataType).BitWidth()
	if arrow.IsSignedInteger(t.ID()) {
		bits--
	}
	if bits < 63 && total > 1<<bits {
		panic(sources.Errorf(sources.Exhausted, "", "", "dictionaries of %d values in total exceed the range of their %s indexes; use smaller chunks", total, t))
	}
	switch t.(arrow.FixedWidthDataType).BitWidth() {
	case 8:
		for i := range indices {
			indices[i] += uint8(delta)
		}
	case 16:
		addTo(arrow.GetData[uint16](indices), uint16(delta))
	case 32:
		addTo(arrow.GetData[uint32](indices), uint32(delta))
	default:
		addTo(arrow.GetData[uint64](indices), uint64(delta))
	}
}

func addTo[T uint16 | uint32 | uint64](values []T, delta T) {
	for i := range values {
		values[i] += delta
	}
}
