package cache

import (
	"math"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// contiguousPage is a copy of a page in one block of memory. The objects that
// Arrow allocates for a page of ten columns would take much of a small page's
// memory; contiguousPage needs almost none. It is immutable, and lends its rows as
// records without a copy. It stays charged to its budget until its last reference
// and the last record that it lent are released.
type contiguousPage struct {
	data    []byte  // all buffers
	layout  []int32 // for each column and child: rows, nulls, each buffer's offset and length
	rows    int64
	size    int64 // as [sources.Size] counts
	cursor  sources.Cursor
	skipped sources.Skipped

	refs   atomic.Int64
	budget *budget.Budget
	bytes  int64 // charged to the budget
}

// contiguousPageBytes is the memory of a page beside its data and layout.
const contiguousPageBytes = int64(unsafe.Sizeof(contiguousPage{}))

// pageAlign is the alignment of buffers within data, in bytes.
const pageAlign = 64

// packPage copies a page. It calls charge with the bytes that the copy takes,
// before it allocates; they are later uncharged from b. packPage returns nil if
// charge returns false, or if a column has a type that it does not support.
func packPage(page sources.Batch, b *budget.Budget, charge func(n int64) bool) *contiguousPage {
	p := packer{supported: true}
	for _, column := range page.Record.Columns() {
		p.column(column.Data(), column.Data().Offset(), column.Len())
	}
	if !p.supported || p.offset > math.MaxInt32 {
		return nil
	}
	out := &contiguousPage{rows: page.Record.NumRows(), size: sources.Size(page.Record), cursor: slices.Clone(page.Cursor), skipped: page.Skipped, budget: b}
	out.skipped.Locations = slices.Clone(page.Skipped.Locations)
	out.bytes = contiguousPageBytes + heapSize(p.offset) + heapSize(4*len(p.layout)) + int64(len(page.Cursor))
	for _, s := range page.Skipped.Locations {
		out.bytes += int64(len(s)) + 16
	}
	if !charge(out.bytes) {
		return nil
	}
	p = packer{supported: true, data: make([]byte, p.offset), layout: make([]int32, 0, len(p.layout))}
	for _, column := range page.Record.Columns() {
		p.column(column.Data(), column.Data().Offset(), column.Len())
	}
	out.data, out.layout = p.data, p.layout
	out.refs.Store(1)
	return out
}

// heapSize returns an upper bound of the heap memory for n bytes, which includes
// the rounding to a size class.
func heapSize(n int) int64 {
	if n > 32<<10 {
		return int64(n+8191) &^ 8191
	}
	return int64(n + n/8)
}

func (p *contiguousPage) retain() { p.refs.Add(1) }

// release drops a reference. The last one uncharges the page's memory.
func (p *contiguousPage) release() {
	if p.refs.Add(-1) == 0 {
		p.budget.Uncharge(p.bytes)
	}
}

// lend returns rows [from, to) as a record, which the caller releases. The schema
// must be that of the page that was copied. The record is also charged to the
// borrower's budget, if any, until it is released; if that budget refuses, lend
// returns its error.
func (p *contiguousPage) lend(borrower *budget.Budget, schema *arrow.Schema, from, to int64) (arrow.RecordBatch, error) {
	charge := p.bytes
	if to-from < p.rows {
		charge = charge * (to - from) / p.rows
	}
	if borrower != nil {
		if err := borrower.Charge(charge); err != nil {
			return nil, err
		}
	}
	p.retain()
	root := memory.NewBufferWithAllocator(p.data, &lentPage{page: p, borrower: borrower, charge: charge})
	defer root.Release()
	u := unpacker{root: root, layout: p.layout}
	columns := make([]arrow.Array, schema.NumFields())
	for i, f := range schema.Fields() {
		columnData := u.column(f.Type)
		columns[i] = array.MakeFromData(columnData)
		columnData.Release()
	}
	record := array.NewRecordBatch(schema, columns, p.rows)
	for _, c := range columns {
		c.Release()
	}
	if to-from < p.rows {
		defer record.Release()
		return record.NewSlice(from, to), nil
	}
	return record, nil
}

// lentPage is the allocator of a lent record's buffers. It ends the loan when the
// last of them is released.
type lentPage struct {
	page     *contiguousPage
	borrower *budget.Budget
	charge   int64
}

// Free is called once, when the last buffer is released.
func (l *lentPage) Free([]byte) {
	if l.borrower != nil {
		l.borrower.Uncharge(l.charge)
	}
	l.page.release()
}

// Allocate and Reallocate are never called, since lent buffers do not grow.
func (l *lentPage) Allocate(int) []byte { panic("cache: a lent buffer is read-only") }

// Reallocate is never called.
func (l *lentPage) Reallocate(int, []byte) []byte { panic("cache: a lent buffer is read-only") }

// packer copies columns into data. While data is nil, it only computes their
// layout.
type packer struct {
	data      []byte
	offset    int
	layout    []int32
	supported bool
}

// alloc appends a buffer of n bytes to the layout and returns its part of data;
// nil if there is no data.
func (p *packer) alloc(n int) []byte {
	p.layout = append(p.layout, int32(p.offset), int32(n))
	from := p.offset
	p.offset = (p.offset + n + pageAlign - 1) &^ (pageAlign - 1)
	if p.data == nil {
		return nil
	}
	return p.data[from : from+n]
}

// noBuffer appends an absent buffer to the layout.
func (p *packer) noBuffer() { p.layout = append(p.layout, -1, 0) }

// column copies rows [from, from+n) of a column, counted from the beginning of its
// buffers.
func (p *packer) column(d arrow.ArrayData, from, n int) {
	t := d.DataType()
	if e, ok := t.(arrow.ExtensionType); ok {
		t = e.StorageType()
	}
	switch t := t.(type) {
	case *arrow.NullType:
		p.layout = append(p.layout, int32(n), int32(n))
	case *arrow.BooleanType:
		p.validity(d, from, n)
		if bits := p.alloc(int(bitutil.BytesForBits(int64(n)))); len(bits) > 0 {
			bitutil.CopyBitmap(d.Buffers()[1].Bytes(), from, n, bits, 0)
		}
	case *arrow.DictionaryType:
		p.validity(d, from, n)
		p.fixed(d, t.IndexType.(arrow.FixedWidthDataType).BitWidth()/8, from, n)
		dictionary := d.Dictionary()
		p.column(dictionary, dictionary.Offset(), dictionary.Len())
	case *arrow.StringType, *arrow.BinaryType:
		p.validity(d, from, n)
		packText[int32](p, d, from, n)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		p.validity(d, from, n)
		packText[int64](p, d, from, n)
	case *arrow.ListType, *arrow.MapType:
		p.validity(d, from, n)
		packList[int32](p, d, from, n)
	case *arrow.LargeListType:
		p.validity(d, from, n)
		packList[int64](p, d, from, n)
	case *arrow.FixedSizeListType:
		p.validity(d, from, n)
		child, width := d.Children()[0], int(t.Len())
		p.column(child, child.Offset()+from*width, n*width)
	case *arrow.StructType:
		p.validity(d, from, n)
		for _, child := range d.Children() {
			p.column(child, child.Offset()+from, n)
		}
	case arrow.FixedWidthDataType:
		p.validity(d, from, n)
		p.fixed(d, t.BitWidth()/8, from, n)
	default:
		p.supported = false
	}
}

// validity appends the number of rows and nulls to the layout, and copies the
// validity bitmap if there are nulls.
func (p *packer) validity(d arrow.ArrayData, from, n int) {
	nulls := 0
	if rows.HasNulls(d) {
		nulls = n - bitutil.CountSetBits(d.Buffers()[0].Bytes(), from, n)
	}
	p.layout = append(p.layout, int32(n), int32(nulls))
	if nulls == 0 {
		p.noBuffer()
		return
	}
	if bits := p.alloc(int(bitutil.BytesForBits(int64(n)))); bits != nil {
		bitutil.CopyBitmap(d.Buffers()[0].Bytes(), from, n, bits, 0)
	}
}

// fixed copies values of a fixed width in bytes.
func (p *packer) fixed(d arrow.ArrayData, width, from, n int) {
	if to := p.alloc(n * width); len(to) > 0 {
		copy(to, d.Buffers()[1].Bytes()[from*width:(from+n)*width])
	}
}

// rebase copies n+1 offsets so that they begin with 0, and returns the first and
// the last of the original ones.
func rebase[O int32 | int64](p *packer, d arrow.ArrayData, from, n int) (first, last O) {
	to := p.alloc((n + 1) * int(unsafe.Sizeof(first)))
	var old []O
	if b := d.Buffers()[1]; b != nil && b.Len() > 0 {
		old = arrow.GetData[O](b.Bytes())[from : from+n+1]
		first, last = old[0], old[n]
	}
	if to != nil && old != nil {
		offsets := arrow.GetData[O](to)
		for i, o := range old {
			offsets[i] = o - first
		}
	}
	return first, last
}

func packText[O int32 | int64](p *packer, d arrow.ArrayData, from, n int) {
	first, last := rebase[O](p, d, from, n)
	if to := p.alloc(int(last - first)); len(to) > 0 {
		copy(to, d.Buffers()[2].Bytes()[first:last])
	}
}

func packList[O int32 | int64](p *packer, d arrow.ArrayData, from, n int) {
	first, last := rebase[O](p, d, from, n)
	child := d.Children()[0]
	p.column(child, child.Offset()+int(first), int(last-first))
}

// unpacker makes columns from slices of a page's data, in the order in which
// packer wrote them.
type unpacker struct {
	root   *memory.Buffer
	layout []int32
}

// nextInt returns the next number of the layout.
func (u *unpacker) nextInt() int {
	n := u.layout[0]
	u.layout = u.layout[1:]
	return int(n)
}

// buffer returns the next buffer with a reference of its own; nil if it is absent.
func (u *unpacker) buffer() *memory.Buffer {
	offset, n := u.nextInt(), u.nextInt()
	if offset < 0 {
		return nil
	}
	return memory.SliceBuffer(u.root, offset, n)
}

// column makes the next column. The caller releases it.
func (u *unpacker) column(t arrow.DataType) arrow.ArrayData {
	rows, nulls := u.nextInt(), u.nextInt()
	storage := t
	if e, ok := t.(arrow.ExtensionType); ok {
		storage = e.StorageType()
	}
	var buffers []*memory.Buffer
	var children []arrow.ArrayData
	var dictionary *array.Data
	switch s := storage.(type) {
	case *arrow.NullType:
		buffers = []*memory.Buffer{nil}
	case *arrow.StringType, *arrow.BinaryType, *arrow.LargeStringType, *arrow.LargeBinaryType:
		buffers = []*memory.Buffer{u.buffer(), u.buffer(), u.buffer()}
	case *arrow.DictionaryType:
		buffers = []*memory.Buffer{u.buffer(), u.buffer()}
		dictionary = u.column(s.ValueType).(*array.Data)
		defer dictionary.Release()
	case *arrow.FixedSizeListType:
		buffers = []*memory.Buffer{u.buffer()}
		children = []arrow.ArrayData{u.column(s.Elem())}
	case *arrow.StructType:
		buffers = []*memory.Buffer{u.buffer()}
		for _, f := range s.Fields() {
			children = append(children, u.column(f.Type))
		}
	case arrow.ListLikeType:
		buffers = []*memory.Buffer{u.buffer(), u.buffer()}
		children = []arrow.ArrayData{u.column(s.Elem())}
	default:
		buffers = []*memory.Buffer{u.buffer(), u.buffer()}
	}
	defer func() {
		for _, b := range buffers {
			if b != nil {
				b.Release()
			}
		}
		for _, c := range children {
			c.Release()
		}
	}()
	if dictionary != nil {
		return array.NewDataWithDictionary(t, rows, buffers, nulls, 0, dictionary)
	}
	return array.NewData(t, rows, buffers, children, nulls, 0)
}
