package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// wireNumeric returns a numeric in binary format.
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

// FuzzNumeric checks that the fast decoder and a plain one agree on values and errors.
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

// nestedCodec is the codec of a nested row: struct<list<struct<text, numeric>>, list<date>>.
func nestedCodec() *codec {
	text := &codec{oid: oidText, typ: arrow.BinaryTypes.String, width: 4}
	number := &codec{oid: oidNumeric, typ: &arrow.Decimal128Type{Precision: 10, Scale: 2}, prec: 10, scale: 2, width: 16, hasSpecial: true}
	day := &codec{oid: oidDate, typ: arrow.FixedWidthTypes.Date32, width: 4, hasSpecial: true}
	row := func(names []string, fields ...*codec) *codec {
		f := &codec{fields: fields, names: names, hasSpecial: true}
		var types []arrow.Field
		for i, c := range fields {
			types = append(types, arrow.Field{Name: names[i], Type: c.typ, Nullable: true})
			f.width += c.width
		}
		f.typ = arrow.StructOf(types...)
		return f
	}
	list := func(of *codec) *codec { return &codec{elem: of, typ: arrow.ListOf(of.typ), width: 4, hasSpecial: true} }
	return row([]string{"a", "b"}, list(row([]string{"t", "n"}, text, number)), list(day))
}

// FuzzNested decodes rows of arrays of rows. Errors must not leak memory, and values must
// not be larger than predicted.
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
		form := nestedCodec()
		c := &column{name: "c", codec: form}
		schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: form.typ, Nullable: true}}, nil)
		p := newPageBuilder(mem, schema, []*column{c}, decodeMode{specialNull: null, checkUTF8: true})
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

// placeholder is a parameter in a statement. A statement may use one several times.
var placeholder = regexp.MustCompile(`\$[0-9]+`)

// FuzzCursor checks that arbitrary cursors and partitions are rejected, unless they belong
// to the query, and that the statement uses every value that it sends, and no other.
func FuzzCursor(f *testing.F) {
	o := options{snapshot: snapshotStrict}
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
	head := cursorHeader(byKeyset, &sources.Query{Table: "t", OrderBy: order}, keyset)
	f.Add(append(bytes.Clone(head), 255, 255, 255, 255, 0, 0, 0, 4, 0, 0, 0, 1), []byte(nil), true, false)
	f.Add(append(bytes.Clone(head), 0, 0, 0, 1, 'x', 0, 0, 0, 4, 0, 0, 0, 1), []byte(nil), true, false) // s is used twice
	f.Add(append(cursorHeader(byCount, &sources.Query{Table: "t"}, nil), make([]byte, digestBytes+8)...), []byte(nil), false, true)
	f.Add([]byte{}, []byte(blockRange{first: 1, end: 2, snapshot: make([]byte, digestBytes)}.partition()), false, false)
	f.Fuzz(func(t *testing.T, after, piece []byte, ordered, disk bool) {
		q := &sources.Query{Table: "t", After: after}
		if len(piece) > 0 {
			q.Part = piece
		}
		if ordered {
			q.OrderBy = order
		}
		w := keyOrder
		if disk {
			w = heapOrder
		}
		b, err := (&catalog{}).buildStatement(own, st, q, w)
		if err != nil {
			return
		}
		if q.Part != nil && !bytes.Equal(b.part.partition(), piece) {
			t.Errorf("the partition %x was read as %x", piece, b.part.partition())
		}
		used := map[string]bool{}
		for _, p := range placeholder.FindAllString(b.sql, -1) {
			used[p] = true
		}
		for i := range b.values {
			if p := fmt.Sprintf("$%d", i+1); !used[p] {
				t.Errorf("%s does not use %s", b.sql, p)
			}
		}
		if len(used) != len(b.values) || len(b.values) != len(b.oids) {
			t.Errorf("%d parameters in %s, %d values and %d types", len(used), b.sql, len(b.values), len(b.oids))
		}
	})
}
