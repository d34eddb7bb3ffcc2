package postgres

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// wireNumeric makes a numeric as the server sends it.
func wireNumeric(weight int16, sign uint16, digits ...uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(digits)))
	b = binary.BigEndian.AppendUint16(b, uint16(weight))
	b = binary.BigEndian.AppendUint16(b, sign)
	b = binary.BigEndian.AppendUint16(b, 0)
	for _, d := range digits {
		b = binary.BigEndian.AppendUint16(b, d)
	}
	return b
}

// FuzzNumeric holds the fast decoder against the plain one: they agree on every
// value and on what is none.
func FuzzNumeric(f *testing.F) {
	f.Add(wireNumeric(0, 0, 1), int8(2))
	f.Add(wireNumeric(2, numericNegative, 12, 3400, 1, 5000), int8(10))
	f.Add(wireNumeric(-2, 0, 100), int8(6))
	f.Add(wireNumeric(0, numericNaN), int8(0))
	f.Add(wireNumeric(9, 0, 9999, 9999, 9999), int8(0))
	f.Fuzz(func(t *testing.T, raw []byte, scale int8) {
		s := int32(scale) & 31
		a, err := decodeDecimal128(raw, 38, s)
		b, err2 := decodeDecimal256(raw, 38, s)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%x at %d: %v and %v", raw, s, err, err2)
		}
		if err == nil && a.ToString(s) != b.ToString(s) {
			t.Fatalf("%x at %d: %s and %s", raw, s, a.ToString(s), b.ToString(s))
		}
	})
}

// nestedForm is a row with everything in it that nests: struct<list<struct<text,
// numeric>>, list<date>>.
func nestedForm() *form {
	text := &form{oid: oidText, typ: arrow.BinaryTypes.String, width: 4}
	number := &form{oid: oidNumeric, typ: &arrow.Decimal128Type{Precision: 10, Scale: 2}, prec: 10, scale: 2, width: 16, special: true}
	day := &form{oid: oidDate, typ: arrow.FixedWidthTypes.Date32, width: 4, special: true}
	row := func(names []string, fields ...*form) *form {
		f := &form{fields: fields, names: names, special: true}
		var types []arrow.Field
		for i, c := range fields {
			types = append(types, arrow.Field{Name: names[i], Type: c.typ, Nullable: true})
			f.width += c.width
		}
		f.typ = arrow.StructOf(types...)
		return f
	}
	list := func(of *form) *form { return &form{elem: of, typ: arrow.ListOf(of.typ), width: 4, special: true} }
	return row([]string{"a", "b"}, list(row([]string{"t", "n"}, text, number)), list(day))
}

// FuzzNested reads what looks like a row of arrays of rows. What is refused
// leaves nothing behind, and what is read is no larger than was foreseen.
func FuzzNested(f *testing.F) {
	value := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	field := func(b []byte) []byte { return append([]byte{0, 0, 0, 25}, value(b)...) }
	array1 := func(items ...[]byte) []byte {
		b := []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, byte(len(items)), 0, 0, 0, 1}
		for _, i := range items {
			b = append(b, value(i)...)
		}
		return b
	}
	inner := append([]byte{0, 0, 0, 2}, append(field([]byte("text")), field(wireNumeric(0, 0, 12))...)...)
	null := []byte{0, 0, 0, 25, 255, 255, 255, 255}
	f.Add(append([]byte{0, 0, 0, 2}, append(field(array1(inner, inner)), field(array1([]byte{0, 0, 0, 1}))...)...), false)
	f.Add(append([]byte{0, 0, 0, 2}, append(null, field(make([]byte, 12))...)...), true)
	f.Add([]byte{0, 0, 0, 2}, false)
	f.Fuzz(func(t *testing.T, raw []byte, null bool) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		defer mem.AssertSize(t, 0)
		form := nestedForm()
		c := &column{name: "c", form: form}
		schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: form.typ, Nullable: true}}, nil)
		p := newPage(mem, schema, []*column{c}, reading{null: null, ascii: true})
		defer p.release()
		size := p.size([][]byte{raw})
		if _, err := p.append([][]byte{raw}); err != nil {
			return
		}
		r := p.record(mem)
		defer r.Release()
		if got := sources.Size(r); got > size {
			t.Errorf("a row of %d bytes was foreseen as one of %d", got, size)
		}
	})
}

// FuzzCursor gives scans cursors and partitions that nobody wrote: they are
// refused, or are of the query.
func FuzzCursor(f *testing.F) {
	o := options{snapshot: strict}
	ts := types{oidInt4: {name: "integer", kind: "b"}, oidText: {name: "text", kind: "b", send: "textsend"}}
	own := &table{oid: 1, from: `"t"`, order: []string{"id"}, heap: true, columns: map[string]*column{}}
	var fields []arrow.Field
	for _, i := range []columnInfo{{name: "id", oid: oidInt4, typmod: -1}, {name: "s", oid: oidText, typmod: -1, nullable: true}} {
		own.columns[i.name] = newColumn(i, ts, &o)
		fields = append(fields, own.columns[i.name].field)
	}
	st := &sources.Table{Name: "t", Schema: arrow.NewSchema(fields, nil), Capabilities: sources.CapResume}
	order := []sources.Sort{{Column: "s"}}
	keyset := (&statement{terms: own.terms(order)}).terms
	head := cursorOf(byKeyset, &sources.Query{Table: "t", OrderBy: order}, keyset)
	f.Add(append(head, 255, 255, 255, 255, 0, 0, 0, 4, 0, 0, 0, 1), []byte(nil), true, false)
	f.Add(append(cursorOf(byCount, &sources.Query{Table: "t"}, nil), make([]byte, digestBytes+8)...), []byte(nil), false, true)
	f.Add([]byte{}, []byte(part{first: 1, end: 2, moment: make([]byte, digestBytes)}.write()), false, false)
	f.Fuzz(func(t *testing.T, after, piece []byte, ordered, disk bool) {
		q := &sources.Query{Table: "t", After: after}
		if len(piece) > 0 {
			q.Part = piece
		}
		if ordered {
			q.OrderBy = order
		}
		w := byOrder
		if disk {
			w = byDisk
		}
		b, err := build(own, st, q, w)
		if err != nil {
			return
		}
		if q.Part != nil && !bytes.Equal(b.part.write(), piece) {
			t.Errorf("the partition %x was read as %x", piece, b.part.write())
		}
		if n := strings.Count(b.sql, "$"); n != len(b.values) || len(b.values) != len(b.oids) {
			t.Errorf("%d parameters in %s, and %d values", n, b.sql, len(b.values))
		}
	})
}
