package postgres

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// typeInfo describes a type as the server does.
type typeInfo struct {
	name   string // as returned by format_type
	kind   string // b, c, d, e, m or r: base, composite, domain, enum, multirange, range
	base   uint32 // of a domain
	typmod int32  // of a domain's base
	elem   uint32 // of a true array, else 0
	send   string // the function for the binary format, if it is built in or that of citext
	output string // the function for the text format, quoted
	plain  bool   // a cast to text returns the same as output
	labels []string
	// quoted is the name with its schema, for casts.
	quoted string
	// operators are those of the default operator class: <, <=, =, >=, >, each with its
	// schema; nil if there is none.
	operators []string

	fieldNames []string
	fieldTypes []uint32
	fieldMods  []int32
}

// types holds all types that the columns use, by OID.
type types map[uint32]*typeInfo

// codec describes how values of a type are decoded: their Arrow type and their binary
// format. It is immutable.
type codec struct {
	oid    uint32 // of the type on the wire; for a domain, of its base type
	typ    arrow.DataType
	prec   int32 // the precision of a decimal
	scale  int32
	labels map[string]int // the labels of an enum
	elem   *codec         // the elements of an array
	fields []*codec       // the fields of a composite type, in order
	names  []string       // the names of the fields
	// width is what each value, even NULL, adds to sources.Size.
	width int64
	// hasSpecial tells that typ cannot represent some values.
	hasSpecial bool
	meta       map[string]string
}

// base resolves domains to their base types.
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

// comparable reports whether the server can compare values of a type. Arrays and rows
// have operators, which fail if those of their parts are missing.
func (ts types) comparable(oid uint32) bool {
	oid, _, t := ts.base(oid, -1)
	switch {
	case t == nil:
		return false
	case oid == oidVarchar: // is compared as text
		return true
	case len(t.operators) != 5:
		return false
	case t.elem != 0:
		return ts.comparable(t.elem)
	case t.kind == "c":
		for _, f := range t.fieldTypes {
			if !ts.comparable(f) {
				return false
			}
		}
	}
	return true
}

// codec returns the codec of a type, or nil if its values are read as text. Only a column's
// own codec may be a dictionary, not that of a nested type.
func (ts types) codec(oid uint32, typmod int32, o *options, nested bool) *codec {
	oid, typmod, t := ts.base(oid, typmod)
	if t == nil {
		return nil
	}
	f := &codec{oid: oid}
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
		f.typ, f.hasSpecial = arrow.FixedWidthTypes.Date32, true
	case oidTime:
		f.typ, f.hasSpecial = arrow.FixedWidthTypes.Time64us, true
	case oidTimestamp:
		f.typ, f.hasSpecial = &arrow.TimestampType{Unit: arrow.Microsecond}, true
	case oidTimestamptz:
		f.typ, f.hasSpecial = arrow.FixedWidthTypes.Timestamp_us, true
	case oidInterval:
		f.typ, f.hasSpecial = arrow.FixedWidthTypes.MonthDayNanoInterval, true
	case oidUUID:
		// Arrow's Go type for the extension would import parquet. The metadata has the
		// same effect.
		f.typ, f.meta = &arrow.FixedSizeBinaryType{ByteWidth: 16}, extension("arrow.uuid", "")
	case oidNumeric:
		d := decimalOf(typmod)
		if d == (decimal{}) && typmod < 4 {
			d = o.numeric
		}
		if d == (decimal{}) {
			return nil
		}
		f.prec, f.scale, f.hasSpecial = d.precision, d.scale, true
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
	if f.hasSpecial && o.special == specialText {
		return nil
	}
	if w, ok := f.typ.(arrow.FixedWidthDataType); ok && f.width == 0 {
		f.width = int64(w.BitWidth() / 8)
	}
	return f
}

// hasText reports whether values contain text, which the server converts to UTF-8.
func (f *codec) hasText() bool {
	return f.labels == nil && f.typ.ID() == arrow.STRING || f.elem != nil && f.elem.hasText() || slices.ContainsFunc(f.fields, (*codec).hasText)
}

// isTextual reports whether a type's binary format is its text.
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

// opaque returns metadata for text that represents values of a type that Arrow lacks.
func opaque(typeName string) map[string]string {
	b, err := json.Marshal(map[string]string{"type_name": typeName, "vendor_name": "PostgreSQL"})
	if err != nil { // strings can be marshaled
		panic(err)
	}
	return extension("arrow.opaque", string(b))
}

// enum makes f a dictionary of all labels in their order, the same in every page, or text if
// that is not possible.
func (f *codec) enum(t *typeInfo, nested bool) {
	invalid := func(label string) bool { return !utf8.ValidString(label) }
	if nested || slices.ContainsFunc(t.labels, invalid) {
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

// list returns the codec of an array. Elements that cannot be decoded inside an array are
// read as text, if the text is exact; otherwise list returns nil.
func (ts types) list(f *codec, t *typeInfo, typmod int32, o *options) *codec {
	if o.special == specialText { // an array may have several dimensions
		return nil
	}
	f.hasSpecial, f.width = true, 4
	f.elem = ts.codec(t.elem, typmod, o, true)
	if f.elem == nil {
		_, _, elem := ts.base(t.elem, -1)
		if elem == nil || elem.elem != 0 || elem.kind == "c" || !elem.plain {
			return nil
		}
		f.oid = oidTextArray
		f.elem = &codec{oid: oidText, typ: arrow.BinaryTypes.String, width: 4, meta: opaque(elem.name)}
	}
	f.typ = arrow.ListOfField(arrow.Field{Name: "item", Type: f.elem.typ, Nullable: true, Metadata: arrow.MetadataFrom(f.elem.meta)})
	return f
}

// composite returns the codec of a row type, or nil if a field cannot be decoded inside it.
func (ts types) composite(f *codec, t *typeInfo, o *options) *codec {
	if o.special == specialText || len(t.fieldNames) == 0 {
		return nil
	}
	seen := map[string]bool{}
	fields := make([]arrow.Field, len(t.fieldNames))
	for i, name := range t.fieldNames {
		c := ts.codec(t.fieldTypes[i], t.fieldMods[i], o, true)
		if c == nil || c.oid == oidTextArray && c.elem.meta != nil || seen[name] {
			return nil
		}
		seen[name] = true
		f.fields, f.names = append(f.fields, c), append(f.names, name)
		f.width += c.width
		f.hasSpecial = f.hasSpecial || c.hasSpecial
		meta := map[string]string{}
		for k, v := range c.meta {
			meta[k] = v
		}
		fields[i] = arrow.Field{Name: name, Type: c.typ, Nullable: true, Metadata: arrow.MetadataFrom(meta)}
	}
	f.typ = arrow.StructOf(fields...)
	return f
}

// decimalOf returns the precision and scale of a numeric's typmod, or the zero value if no
// decimal type can represent all its values.
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

// extra returns what a value adds to sources.Size beyond its width. It ignores malformed
// values, for which decoding returns an error.
func (f *codec) extra(raw []byte) int64 {
	switch {
	case f.elem != nil:
		n, items, err := readArray(raw)
		if err != nil {
			return 0
		}
		switch sum := int64(n) * f.elem.width; {
		case !f.elem.varies():
			return sum
		case f.elem.elem == nil && f.elem.fields == nil: // texts, each preceded by its length
			return sum + int64(len(items)-4*n)
		default:
			for range n {
				var v []byte
				if v, items, err = nextItem(items); err != nil {
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
			v, rest, err := nextItem(items[4:])
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

// varies reports whether the size of values varies.
func (f *codec) varies() bool {
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

// nextItem returns the first of a sequence of values, each preceded by its length. The
// value is nil if and only if it is NULL.
func nextItem(items []byte) (value, rest []byte, err error) {
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

// readArray decodes the header of an array: the number of dimensions, whether there are
// NULLs, the type of the elements, and for each dimension its length and lower bound.
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

// text returns an expression for the text of a value as psql shows it. A cast can differ:
// that of inet includes the netmask of a single address.
func (t *typeInfo) text(expr string) string {
	if t == nil {
		return expr + "::pg_catalog.text"
	}
	return "pg_catalog.textin(" + t.output + "(" + expr + "))"
}
