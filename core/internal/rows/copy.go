package rows

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// Range is a run of rows of one of several records.
type Range struct {
	Record int // which one
	From   int // its first row
	Rows   int
}

// CopyRanges copies spans of records into one record: the one primitive by which
// rows are moved. The records have the schema, up to metadata. It allocates
// exactly what the result needs, panics where that is refused, as [budget.Budget]
// says, and has given back what it took then.
func CopyRanges(mem memory.Allocator, schema *arrow.Schema, records []arrow.RecordBatch, spans []Range) arrow.RecordBatch {
	g := copier{mem: mem}
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
		columns = append(columns, g.array(field.Type, parts, spans))
	}
	return array.NewRecordBatch(schema, columns, int64(Count(spans)))
}

// CopyColumnRanges copies spans of columns of one type into one column, as [CopyRanges]
// does with records.
func CopyColumnRanges(mem memory.Allocator, t arrow.DataType, columns []arrow.ArrayData, spans []Range) arrow.Array {
	return copier{mem: mem}.array(t, columns, spans)
}

// Concat copies whole records into one.
func Concat(mem memory.Allocator, schema *arrow.Schema, records []arrow.RecordBatch) arrow.RecordBatch {
	spans := make([]Range, len(records))
	for i, r := range records {
		spans[i] = Range{Record: i, Rows: int(r.NumRows())}
	}
	return CopyRanges(mem, schema, records, spans)
}

func Count(spans []Range) int {
	n := 0
	for _, s := range spans {
		n += s.Rows
	}
	return n
}

type copier struct {
	mem memory.Allocator
}

func (g copier) array(t arrow.DataType, parts []arrow.ArrayData, spans []Range) arrow.Array {
	data := g.data(t, parts, spans)
	defer data.Release()
	return array.MakeFromData(data)
}

// buffer returns a buffer of n bytes, zeroed as every allocator of ours does.
func (g copier) buffer(n int) *memory.Buffer {
	b := memory.NewResizableBuffer(g.mem)
	b.Resize(n)
	return b
}

// data gathers one column. In every branch what is made is released again by a
// defer, which leaves it to the result, and leaves nothing after a panic.
func (g copier) data(t arrow.DataType, parts []arrow.ArrayData, spans []Range) arrow.ArrayData {
	rows := Count(spans)
	validity, nulls := g.validity(parts, spans, rows)
	if validity != nil {
		defer validity.Release()
	}
	storage := t
	if e, ok := t.(arrow.ExtensionType); ok {
		storage = e.StorageType()
	}
	make1 := func(buffers []*memory.Buffer, children []arrow.ArrayData) arrow.ArrayData {
		return array.NewData(t, rows, buffers, children, nulls, 0)
	}
	switch s := storage.(type) {
	case *arrow.NullType:
		return array.NewData(t, rows, []*memory.Buffer{nil}, nil, rows, 0)
	case *arrow.BooleanType:
		values := g.buffer(int(bitutil.BytesForBits(int64(rows))))
		defer values.Release()
		at := 0
		for _, s := range spans {
			if s.Rows == 0 {
				continue // an empty column may have no buffer
			}
			d := parts[s.Record]
			bitutil.CopyBitmap(d.Buffers()[1].Bytes(), d.Offset()+s.From, s.Rows, values.Bytes(), at)
			at += s.Rows
		}
		return make1([]*memory.Buffer{validity, values}, nil)
	case *arrow.DictionaryType:
		return g.dictionary(t, s, parts, spans, validity, nulls)
	case *arrow.StringType, *arrow.BinaryType:
		offsets, values := variable[int32](g, parts, spans, rows)
		defer offsets.Release()
		defer values.Release()
		return make1([]*memory.Buffer{validity, offsets, values}, nil)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		offsets, values := variable[int64](g, parts, spans, rows)
		defer offsets.Release()
		defer values.Release()
		return make1([]*memory.Buffer{validity, offsets, values}, nil)
	case *arrow.ListType:
		return list[int32](g, t, s.Elem(), parts, spans, validity, nulls)
	case *arrow.MapType:
		return list[int32](g, t, s.Elem(), parts, spans, validity, nulls)
	case *arrow.LargeListType:
		return list[int64](g, t, s.Elem(), parts, spans, validity, nulls)
	case *arrow.FixedSizeListType:
		width := int(s.Len())
		child := g.child(s.Elem(), 0, parts, spans, func(d arrow.ArrayData, s Range) (int, int) {
			return (s.From + d.Offset()) * width, s.Rows * width
		})
		defer child.Release()
		return make1([]*memory.Buffer{validity}, []arrow.ArrayData{child})
	case *arrow.StructType:
		children := make([]arrow.ArrayData, 0, s.NumFields())
		defer func() {
			for _, c := range children {
				c.Release()
			}
		}()
		for i := range s.NumFields() {
			children = append(children, g.child(s.Field(i).Type, i, parts, spans, func(d arrow.ArrayData, s Range) (int, int) {
				return s.From + d.Offset(), s.Rows
			}))
		}
		return make1([]*memory.Buffer{validity}, children)
	case arrow.FixedWidthDataType:
		values := g.fixed(s.BitWidth()/8, parts, spans, rows)
		defer values.Release()
		return make1([]*memory.Buffer{validity, values}, nil)
	}
	panic(&sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("columns of type %s cannot be copied row by row", t)})
}

// validity returns nil where every row is valid.
func (g copier) validity(parts []arrow.ArrayData, spans []Range, rows int) (*memory.Buffer, int) {
	some := false
	for _, s := range spans {
		some = some || HasNulls(parts[s.Record])
	}
	if !some {
		return nil, 0
	}
	bits := g.buffer(int(bitutil.BytesForBits(int64(rows))))
	at := 0
	for _, s := range spans {
		if d := parts[s.Record]; HasNulls(d) {
			bitutil.CopyBitmap(d.Buffers()[0].Bytes(), d.Offset()+s.From, s.Rows, bits.Bytes(), at)
		} else {
			bitutil.SetBitsTo(bits.Bytes(), int64(at), int64(s.Rows), true)
		}
		at += s.Rows
	}
	return bits, rows - bitutil.CountSetBits(bits.Bytes(), 0, rows)
}

// HasNulls reports whether a column has a bitmap that must be looked at.
func HasNulls(d arrow.ArrayData) bool {
	return d.NullN() != 0 && len(d.Buffers()) > 0 && d.Buffers()[0] != nil && d.Buffers()[0].Len() > 0
}

func (g copier) fixed(width int, parts []arrow.ArrayData, spans []Range, rows int) *memory.Buffer {
	values := g.buffer(rows * width)
	to := values.Bytes()
	for _, s := range spans {
		if s.Rows == 0 {
			continue // an empty column may have no buffer
		}
		d := parts[s.Record]
		from := (d.Offset() + s.From) * width
		n := s.Rows * width
		copy(to[:n], d.Buffers()[1].Bytes()[from:from+n])
		to = to[n:]
	}
	return values
}

// variable gathers the offsets and the contents of a text or binary column.
func variable[O int32 | int64](g copier, parts []arrow.ArrayData, spans []Range, rows int) (offsets, values *memory.Buffer) {
	size := int64(0)
	for _, s := range spans {
		if o := offsetsOf[O](parts[s.Record], s); o != nil {
			size += int64(o[s.Rows] - o[0])
		}
	}
	if size > math.MaxInt32 && int64(O(size)) != size {
		panic(&sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("%s of text in one column do not fit one chunk: ask for smaller chunks", budget.FormatBytes(size))})
	}
	var width O
	offsets = g.buffer((rows + 1) * sizeOf(width))
	made := false
	defer func() {
		if !made {
			offsets.Release()
		}
	}()
	values = g.buffer(int(size))
	made = true
	ends, at, total := arrow.GetData[O](offsets.Bytes()), 1, O(0)
	to := values.Bytes()
	for _, s := range spans {
		d := parts[s.Record]
		o := offsetsOf[O](d, s)
		if o == nil {
			for range s.Rows {
				ends[at] = total
				at++
			}
			continue
		}
		for _, end := range o[1 : s.Rows+1] {
			ends[at] = total + end - o[0]
			at++
		}
		if first, last := o[0], o[s.Rows]; last > first {
			copy(to[total:], d.Buffers()[2].Bytes()[first:last])
			total += last - first
		}
	}
	return offsets, values
}

func sizeOf[O int32 | int64](O) int {
	var o any = O(0)
	if _, ok := o.(int32); ok {
		return 4
	}
	return 8
}

// offsetsOf returns the offsets of a span's rows and one more; nil where the
// column has none, which is legal for a column without rows or contents.
func offsetsOf[O int32 | int64](d arrow.ArrayData, s Range) []O {
	if d.Buffers()[1] == nil || d.Buffers()[1].Len() == 0 {
		return nil
	}
	return arrow.GetData[O](d.Buffers()[1].Bytes())[d.Offset()+s.From:]
}

// child gathers the child number i of a nested column: the rows that at gives
// for each span of the parent, counted from the start of the child's buffers
// without the child's own offset.
func (g copier) child(t arrow.DataType, i int, parts []arrow.ArrayData, spans []Range, at func(arrow.ArrayData, Range) (from, rows int)) arrow.ArrayData {
	children := make([]arrow.ArrayData, len(parts))
	for j, d := range parts {
		children[j] = d.Children()[i]
	}
	inner := make([]Range, 0, len(spans))
	for _, s := range spans {
		if from, rows := at(parts[s.Record], s); rows > 0 {
			inner = append(inner, Range{Record: s.Record, From: from, Rows: rows})
		}
	}
	return g.data(t, children, inner)
}

func list[O int32 | int64](g copier, t, elem arrow.DataType, parts []arrow.ArrayData, spans []Range, validity *memory.Buffer, nulls int) arrow.ArrayData {
	rows := Count(spans)
	var width O
	offsets := g.buffer((rows + 1) * sizeOf(width))
	defer offsets.Release()
	ends, at, total := arrow.GetData[O](offsets.Bytes()), 1, int64(0)
	for _, s := range spans {
		o := offsetsOf[O](parts[s.Record], s)
		for i := range s.Rows {
			if o != nil {
				total += int64(o[i+1] - o[i])
			}
			if int64(O(total)) != total {
				panic(&sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("%d elements in one column of lists do not fit one chunk: ask for smaller chunks", total)})
			}
			ends[at] = O(total)
			at++
		}
	}
	child := g.child(elem, 0, parts, spans, func(d arrow.ArrayData, s Range) (int, int) {
		o := offsetsOf[O](d, s)
		if o == nil {
			return 0, 0
		}
		return int(o[0]), int(o[s.Rows] - o[0])
	})
	defer child.Release()
	return array.NewData(t, rows, []*memory.Buffer{validity, offsets}, []arrow.ArrayData{child}, nulls, 0)
}

// dictionary keeps the dictionary where all records share it; else the result's
// is all of them, one after the other.
func (g copier) dictionary(t arrow.DataType, dt *arrow.DictionaryType, parts []arrow.ArrayData, spans []Range, validity *memory.Buffer, nulls int) arrow.ArrayData {
	rows := Count(spans)
	width := dt.IndexType.(arrow.FixedWidthDataType).BitWidth() / 8
	indices := g.fixed(width, parts, spans, rows)
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
	first, total := make([]int, len(parts)), 0
	whole := make([]Range, len(parts))
	for i, d := range dictionaries {
		first[i], whole[i] = total, Range{Record: i, Rows: d.Len()}
		total += d.Len()
	}
	all := g.data(dt.ValueType, dictionaries, whole)
	defer all.Release()
	at := 0
	for _, s := range spans {
		shift(dt.IndexType, indices.Bytes()[at*width:(at+s.Rows)*width], first[s.Record], total)
		at += s.Rows
	}
	return array.NewDataWithDictionary(t, rows, []*memory.Buffer{validity, indices}, nulls, 0, all.(*array.Data))
}

func equal(a, b arrow.ArrayData) bool {
	x, y := array.MakeFromData(a), array.MakeFromData(b)
	defer x.Release()
	defer y.Release()
	return array.Equal(x, y)
}

// shift adds by to every index, those under nulls too: they point somewhere in
// the dictionary still.
func shift(t arrow.DataType, indices []byte, by, total int) {
	bits := t.(arrow.FixedWidthDataType).BitWidth()
	if arrow.IsSignedInteger(t.ID()) {
		bits--
	}
	if bits < 63 && total > 1<<bits {
		panic(&sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("dictionaries of %d values together do not fit indices of type %s: ask for smaller chunks", total, t)})
	}
	switch t.(arrow.FixedWidthDataType).BitWidth() {
	case 8:
		for i := range indices {
			indices[i] += uint8(by)
		}
	case 16:
		add(arrow.GetData[uint16](indices), uint16(by))
	case 32:
		add(arrow.GetData[uint32](indices), uint32(by))
	default:
		add(arrow.GetData[uint64](indices), uint64(by))
	}
}

func add[T uint16 | uint32 | uint64](values []T, by T) {
	for i := range values {
		values[i] += by
	}
}
