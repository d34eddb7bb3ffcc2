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

// contiguousPage is a page in one piece of memory, with hardly anything beside it: what
// Arrow's own objects take for a page of ten columns is a good part of a small
// page. It is made once, never changed, and lent as often as it is asked for,
// without a copy. It is counted in a budget until the last who has a part of it
// releases that.
type contiguousPage struct {
	arena   []byte
	layout  []int32 // per column and child: rows, nulls, and where each buffer begins and how long it is
	rows    int64
	size    int64 // as sources.Size counts
	cursor  sources.Cursor
	skipped sources.Skipped

	refs   atomic.Int64
	budget *budget.Budget
	bytes  int64 // that the budget counts
}

// contiguousPageBytes is what a packed page takes beside its arena and layout.
const contiguousPageBytes = int64(unsafe.Sizeof(contiguousPage{}))

// pageAlign is where buffers begin, counted from the arena's own beginning.
const pageAlign = 64

// packPage copies a page, counted in the budget by room, which may make some. It
// returns nil where there is none, and where a column is of a type that is not
// packed.
func packPage(page sources.Batch, b *budget.Budget, room func(n int64) bool) *contiguousPage {
	p := packer{ok: true}
	for _, column := range page.Record.Columns() {
		p.column(column.Data(), column.Data().Offset(), column.Len())
	}
	if !p.ok || p.at > math.MaxInt32 {
		return nil
	}
	out := &contiguousPage{rows: page.Record.NumRows(), size: sources.Size(page.Record), cursor: slices.Clone(page.Cursor), skipped: page.Skipped, budget: b}
	out.skipped.Locations = slices.Clone(page.Skipped.Locations)
	out.bytes = contiguousPageBytes + heapSize(p.at) + heapSize(4*len(p.layout)) + int64(len(page.Cursor))
	for _, s := range page.Skipped.Locations {
		out.bytes += int64(len(s)) + 16
	}
	if !room(out.bytes) {
		return nil
	}
	p = packer{ok: true, arena: make([]byte, p.at), layout: make([]int32, 0, len(p.layout))}
	for _, column := range page.Record.Columns() {
		p.column(column.Data(), column.Data().Offset(), column.Len())
	}
	out.arena, out.layout = p.arena, p.layout
	out.refs.Store(1)
	return out
}

// heapSize is what Go's heap takes for n bytes at most.
func heapSize(n int) int64 {
	if n > 32<<10 {
		return int64(n+8191) &^ 8191
	}
	return int64(n + n/8)
}

func (p *contiguousPage) retain() { p.refs.Add(1) }

func (p *contiguousPage) release() {
	if p.refs.Add(-1) == 0 {
		p.budget.Uncharge(p.bytes)
	}
}

// lend returns rows [from, to) as a record of the schema that was packed. It is
// counted in the borrower's budget as well, where there is one, until it is
// released.
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
	root := memory.NewBufferWithAllocator(p.arena, &lentPage{page: p, borrower: borrower, charge: charge})
	defer root.Release()
	u := unpacker{root: root, layout: p.layout}
	columns := make([]arrow.Array, schema.NumFields())
	for i, f := range schema.Fields() {
		data := u.column(f.Type)
		columns[i] = array.MakeFromData(data)
		data.Release()
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

// lentPage ends what was lent, once every buffer of it is released.
type lentPage struct {
	page     *contiguousPage
	borrower *budget.Budget
	charge   int64
}

// Free is called once, by the last buffer.
func (l *lentPage) Free([]byte) {
	if l.borrower != nil {
		l.borrower.Uncharge(l.charge)
	}
	l.page.release()
}

// Allocate and Reallocate are never called: a lent buffer does not grow.
func (l *lentPage) Allocate(int) []byte { panic("core: a lent page is not written to") }

// Reallocate is never called.
func (l *lentPage) Reallocate(int, []byte) []byte { panic("core: a lent page is not written to") }

// packer copies columns into the arena. Without one it only counts.
type packer struct {
	arena  []byte
	at     int
	layout []int32
	ok     bool
}

// put takes n bytes of the arena, and notes where. It is nil while only counting.
func (p *packer) put(n int) []byte {
	p.layout = append(p.layout, int32(p.at), int32(n))
	from := p.at
	p.at = (p.at + n + pageAlign - 1) &^ (pageAlign - 1)
	if p.arena == nil {
		return nil
	}
	return p.arena[from : from+n]
}

// none notes a buffer that is not there.
func (p *packer) none() { p.layout = append(p.layout, -1, 0) }

// column packs rows [from, from+n) of a column, counted from the beginning of its
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
		if bits := p.put(int(bitutil.BytesForBits(int64(n)))); len(bits) > 0 {
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
		p.ok = false
	}
}

func (p *packer) validity(d arrow.ArrayData, from, n int) {
	nulls := 0
	if rows.HasNulls(d) {
		nulls = n - bitutil.CountSetBits(d.Buffers()[0].Bytes(), from, n)
	}
	p.layout = append(p.layout, int32(n), int32(nulls))
	if nulls == 0 {
		p.none()
		return
	}
	if bits := p.put(int(bitutil.BytesForBits(int64(n)))); bits != nil {
		bitutil.CopyBitmap(d.Buffers()[0].Bytes(), from, n, bits, 0)
	}
}

func (p *packer) fixed(d arrow.ArrayData, width, from, n int) {
	if to := p.put(n * width); len(to) > 0 {
		copy(to, d.Buffers()[1].Bytes()[from*width:(from+n)*width])
	}
}

// rebase packs offsets, which begin with 0 again, and returns what they spanned.
func rebase[O int32 | int64](p *packer, d arrow.ArrayData, from, n int) (first, last O) {
	to := p.put((n + 1) * int(unsafe.Sizeof(first)))
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
	if to := p.put(int(last - first)); len(to) > 0 {
		copy(to, d.Buffers()[2].Bytes()[first:last])
	}
}

func packList[O int32 | int64](p *packer, d arrow.ArrayData, from, n int) {
	first, last := rebase[O](p, d, from, n)
	child := d.Children()[0]
	p.column(child, child.Offset()+int(first), int(last-first))
}

// unpacker makes columns of slices of the arena, in the order of the packer.
type unpacker struct {
	root   *memory.Buffer
	layout []int32
}

func (u *unpacker) next() int {
	n := u.layout[0]
	u.layout = u.layout[1:]
	return int(n)
}

// buffer returns the next one with a reference of its own; nil where there was
// none.
func (u *unpacker) buffer() *memory.Buffer {
	at, n := u.next(), u.next()
	if at < 0 {
		return nil
	}
	return memory.SliceBuffer(u.root, at, n)
}

func (u *unpacker) column(t arrow.DataType) arrow.ArrayData {
	rows, nulls := u.next(), u.next()
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
