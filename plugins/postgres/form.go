package postgres

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
)

// typeInfo is what the server says of a type.
type typeInfo struct {
	name   string // as format_type writes it
	kind   string // b, c, d, e, m or r: base, composite, domain, enum, multirange, range
	base   uint32 // of a domain
	typmod int32  // of a domain's base
	elem   uint32 // of a true array, else 0
	send   string // the function that makes its binary form, where it is built in or of citext
	output string // the function that makes its text, quoted
	plain  bool   // a cast to text gives what output gives
	labels []string

	fieldNames []string
	fieldTypes []uint32
	fieldMods  []int32
}

// types are all that the columns of a catalogue lead to, by OID.
type types map[uint32]*typeInfo

// form is how values of a type are read: which Arrow type they become and what
// they look like on the wire. It never changes.
type form struct {
	oid    uint32 // on the wire: of the base type of a domain
	typ    arrow.DataType
	prec   int32 // of a decimal
	scale  int32
	labels map[string]int // of an enum
	elem   *form          // of an array
	fields []*form        // of a composite, in their order
	names  []string       // of the fields
	// width is what each value adds to sources.Size, NULL too.
	width int64
	// special says that there are values which typ cannot hold.
	special bool
	meta    map[string]string
}

// base resolves domains to what they are made of.
func (ts types) base(oid uint32, typmod int32) (uint32, int32, *typeInfo) {
	t := ts[oid]
	for t != nil && t.kind == "d" {
		if typmod == -1 {
			typmod = t.typmod
		}
		oid = t.base
		t = ts[oid]
	}
	return oid, typmod, t
}

// form returns nil for a type whose values are read as text. A column's own form
// may be a dictionary; what is within another is not.
func (ts types) form(oid uint32, typmod int32, o *options, nested bool) *form {
	oid, typmod, t := ts.base(oid, typmod)
	if t == nil {
		return nil
	}
	f := &form{oid: oid}
	switch oid {
	case oidBool:
		f.typ, f.width = arrow.FixedWidthTypes.Boolean, 1
	case oidInt2:
		f.typ = arrow.PrimitiveTypes.Int16
	case oidInt4:
		f.typ = arrow.PrimitiveTypes.Int32
	case oidInt8:
		f.typ = arrow.PrimitiveTypes.Int64
	case oidFloat4:
		f.typ = arrow.PrimitiveTypes.Float32
	case oidFloat8:
		f.typ = arrow.PrimitiveTypes.Float64
	case oidBytea:
		f.typ, f.width = arrow.BinaryTypes.Binary, 4
	case oidDate:
		f.typ, f.special = arrow.FixedWidthTypes.Date32, true
	case oidTime:
		f.typ, f.special = arrow.FixedWidthTypes.Time64us, true
	case oidTimestamp:
		f.typ, f.special = &arrow.TimestampType{Unit: arrow.Microsecond}, true
	case oidTimestamptz:
		f.typ, f.special = arrow.FixedWidthTypes.Timestamp_us, true
	case oidInterval:
		f.typ, f.special = arrow.FixedWidthTypes.MonthDayNanoInterval, true
	case oidUUID:
		// The extension type itself would pull in parquet; its metadata says the
		// same to whoever knows it.
		f.typ, f.meta = &arrow.FixedSizeBinaryType{ByteWidth: 16}, extension("arrow.uuid", "")
	case oidNumeric:
		d := decimalOf(typmod)
		if d == (decimal{}) && typmod < 4 {
			d = o.numeric
		}
		if d == (decimal{}) {
			return nil
		}
		f.prec, f.scale, f.special = d.precision, d.scale, true
		f.typ = &arrow.Decimal128Type{Precision: d.precision, Scale: d.scale}
		if d.precision > 38 {
			f.typ = &arrow.Decimal256Type{Precision: d.precision, Scale: d.scale}
		}
	case oidJSON, oidJSONB:
		f.typ, f.width, f.meta = arrow.BinaryTypes.String, 4, extension("arrow.json", "")
	default:
		switch {
		case t.elem != 0:
			return ts.list(f, t, typmod, o)
		case t.kind == "c":
			return ts.composite(f, t, o)
		case t.kind == "e":
			f.enum(t, nested)
		case t.kind == "b" && isTextual(t.send):
			f.typ, f.width = arrow.BinaryTypes.String, 4
		default:
			return nil
		}
	}
	if f.special && o.special == asText {
		return nil
	}
	if w, ok := f.typ.(arrow.FixedWidthDataType); ok && f.width == 0 {
		f.width = int64(w.BitWidth() / 8)
	}
	return f
}

// isTextual reports whether a type's binary form is its text.
func isTextual(send string) bool {
	switch send {
	case "textsend", "varcharsend", "bpcharsend", "namesend", "citextsend":
		return true
	}
	return false
}

func extension(name, metadata string) map[string]string {
	return map[string]string{"ARROW:extension:name": name, "ARROW:extension:metadata": metadata}
}

// opaque says that a text stands for a value of a type that Arrow does not have.
func opaque(typeName string) map[string]string {
	b, err := json.Marshal(map[string]string{"type_name": typeName, "vendor_name": "PostgreSQL"})
	if err != nil { // strings do marshal
		panic(err)
	}
	return extension("arrow.opaque", string(b))
}

// enum makes a dictionary of all labels in their order, so that every page has
// the same one.
func (f *form) enum(t *typeInfo, nested bool) {
	if nested {
		f.typ, f.width = arrow.BinaryTypes.String, 4
		return
	}
	f.labels = make(map[string]int, len(t.labels))
	for i, l := range t.labels {
		f.labels[l] = i
	}
	index := arrow.PrimitiveTypes.Int16
	if f.width = 2; len(t.labels) > math.MaxInt16 {
		index, f.width = arrow.PrimitiveTypes.Int32, 4
	}
	f.typ = &arrow.DictionaryType{IndexType: index, ValueType: arrow.BinaryTypes.String}
}

// list reads an array. What its elements are cannot always be read within it: then
// the elements come as text, or where that would not be exact the whole.
func (ts types) list(f *form, t *typeInfo, typmod int32, o *options) *form {
	if o.special == asText { // an array may have more dimensions than one
		return nil
	}
	f.special, f.width = true, 4
	f.elem = ts.form(t.elem, typmod, o, true)
	if f.elem == nil {
		_, _, elem := ts.base(t.elem, -1)
		if elem == nil || elem.elem != 0 || elem.kind == "c" || !elem.plain {
			return nil
		}
		f.oid = oidTextArray
		f.elem = &form{oid: oidText, typ: arrow.BinaryTypes.String, width: 4, meta: opaque(elem.name)}
	}
	f.typ = arrow.ListOfField(arrow.Field{Name: "item", Type: f.elem.typ, Nullable: true, Metadata: arrow.MetadataFrom(f.elem.meta)})
	return f
}

// composite reads a row type whose fields can all be read within it.
func (ts types) composite(f *form, t *typeInfo, o *options) *form {
	if o.special == asText || len(t.fieldNames) == 0 {
		return nil
	}
	seen := map[string]bool{}
	fields := make([]arrow.Field, len(t.fieldNames))
	for i, name := range t.fieldNames {
		c := ts.form(t.fieldTypes[i], t.fieldMods[i], o, true)
		if c == nil || c.oid == oidTextArray && c.elem.meta != nil || seen[name] {
			return nil
		}
		seen[name] = true
		f.fields, f.names = append(f.fields, c), append(f.names, name)
		f.width += c.width
		f.special = f.special || c.special
		meta := map[string]string{}
		for k, v := range c.meta {
			meta[k] = v
		}
		fields[i] = arrow.Field{Name: name, Type: c.typ, Nullable: true, Metadata: arrow.MetadataFrom(meta)}
	}
	f.typ = arrow.StructOf(fields...)
	return f
}

// decimalOf returns the digits of a numeric's typmod, or none where no decimal
// holds every value of it.
func decimalOf(typmod int32) decimal {
	if typmod < 4 {
		return decimal{}
	}
	precision := (typmod - 4) >> 16 & 0xffff
	scale := (typmod - 4) & 0x7ff // 11 bits, signed
	if scale > 1023 {
		scale -= 2048
	}
	precision = max(precision, scale)
	if scale < 0 || precision > 76 {
		return decimal{}
	}
	return decimal{precision, scale}
}

// extra is what a value adds to sources.Size beyond its width. What is not in
// form is not counted: reading it will say so.
func (f *form) extra(raw []byte) int64 {
	switch {
	case f.elem != nil:
		n, items, err := readArray(raw)
		if err != nil {
			return 0
		}
		switch sum := int64(n) * f.elem.width; {
		case !f.elem.varies():
			return sum
		case f.elem.elem == nil && f.elem.fields == nil: // texts, each with a length before it
			return sum + int64(len(items)-4*n)
		default:
			for range n {
				var v []byte
				if v, items, err = next(items); err != nil {
					return 0
				}
				if v != nil {
					sum += f.elem.extra(v)
				}
			}
			return sum
		}
	case f.fields != nil:
		var sum int64
		items := raw[min(4, len(raw)):]
		for _, c := range f.fields {
			if len(items) < 4 {
				return 0
			}
			v, rest, err := next(items[4:])
			if err != nil {
				return 0
			}
			if v != nil && c.varies() {
				sum += c.extra(v)
			}
			items = rest
		}
		return sum
	}
	return int64(len(raw))
}

// varies reports whether some values of the form are larger than others.
func (f *form) varies() bool {
	if f.elem != nil {
		return true
	}
	for _, c := range f.fields {
		if c.varies() {
			return true
		}
	}
	switch f.typ.ID() {
	case arrow.STRING, arrow.BINARY:
		return true
	}
	return false
}

// next takes a value off a sequence of them, each with its length before it: nil
// for NULL, and never nil for another.
func next(items []byte) (value, rest []byte, err error) {
	if len(items) < 4 {
		return nil, nil, errNested
	}
	n := int32(binary.BigEndian.Uint32(items))
	items = items[4:]
	switch {
	case n == -1:
		return nil, items, nil
	case n < 0 || int64(n) > int64(len(items)):
		return nil, nil, errNested
	}
	return items[:n:n], items[n:], nil
}

// readArray reads an array's head: the number of dimensions, whether there are
// NULLs, the type of the elements, and for each dimension its length and where
// it begins.
func readArray(raw []byte) (n int, items []byte, err error) {
	if len(raw) < 12 {
		return 0, nil, errNested
	}
	dimensions := binary.BigEndian.Uint32(raw)
	raw = raw[12:]
	switch {
	case dimensions == 0:
		return 0, raw, nil
	case dimensions > 1:
		return 0, nil, fmt.Errorf("%w: it has %d", errDimensions, dimensions)
	case len(raw) < 8:
		return 0, nil, errNested
	}
	length, first := int32(binary.BigEndian.Uint32(raw)), int32(binary.BigEndian.Uint32(raw[4:]))
	raw = raw[8:]
	switch {
	case length < 0 || int64(length)*4 > int64(len(raw)):
		return 0, nil, errNested
	case first != 1:
		return 0, nil, fmt.Errorf("%w: it begins at %d", errBounds, first)
	}
	return int(length), raw, nil
}

// text is the expression of a type's text, as psql shows it. A cast can be
// another: that of inet shows the mask of a single address.
func (t *typeInfo) text(expr string) string {
	if t == nil {
		return expr + "::pg_catalog.text"
	}
	return "pg_catalog.textin(" + t.output + "(" + expr + "))"
}
