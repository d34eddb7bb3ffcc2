package postgres

import (
	"fmt"
	"maps"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// The OIDs of the built-in types that have a codec.
const (
	oidBool        = 16
	oidBytea       = 17
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidTID         = 27
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidInterval    = 1186
	oidTextArray   = 1009
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
)

// column describes how a column is named, read and compared in SQL. It is made with the
// catalog and is immutable.
type column struct {
	name   string // unquoted
	quoted string
	codec  *codec
	field  arrow.Field
	// compareExpr is the expression that compares and sorts with the column's order. wire is
	// the type of its values and literals on the wire.
	compareExpr string
	wire        wireType
	// equalExpr is an expression that is correct only for equality, and orderExpr one that is
	// only a total order. If they are the column itself, its indexes support them.
	equalExpr, orderExpr string
	// equalWire is the type with which equalExpr is compared.
	equalWire wireType
	// textExpr is the text of the column, compared byte by byte. It is empty for columns that
	// are not text.
	textExpr string
	meaning  sources.Meaning
	// typeName is the name of the type, with its schema. For a domain it is that of its base.
	typeName string
	row      bool // the type is a row type
	// blind is the collation, quoted, if it takes different texts for equal; else empty.
	blind string
	base  uint32 // the type, or for a domain its base
	// infinities tells that a numeric can be infinite, which depends on the server.
	infinities bool
	// selectExpr is the expression in the SELECT list.
	selectExpr string
	// nullExpr is a condition for NULL; it is empty if SQL cannot express it.
	nullExpr string
}

// wireType is a type to which parameters are cast.
type wireType struct {
	oid  uint32
	name string
	text bool // its values and literals are text
	// own are the operators of a type that is compared by its own default operator class: <,
	// <=, =, >=, >, each with its schema. Its values are sent as text, and cast. For other
	// types it is nil, and their operators are found in pg_catalog.
	own []string
	// single tells that several values travel as an array of texts, and each is cast: there
	// are no arrays of arrays, and unnest turns an array of rows into columns.
	single bool
	// input is the function that reads the text of a value. It is set for the names of
	// objects, since a cast from text reads fewer of them.
	input string
}

// operator returns an operator of the type, between spaces. Without its schema, the server
// could silently choose that of another type. There is no <>.
func (w wireType) operator(op sources.Op) string {
	if w.own == nil {
		return operators[op]
	}
	return " OPERATOR(" + w.own[ownOperators[op]] + ") "
}

// ownOperators has the positions of operators among those of a type.
var ownOperators = map[sources.Op]int{sources.OpLt: 0, sources.OpLe: 1, sources.OpEq: 2, sources.OpGe: 3, sources.OpGt: 4}

var (
	textWireType = wireType{oid: oidText, name: "pg_catalog.text", text: true}
	// wireTypes holds the types whose own order is that of sources.Compare.
	wireTypes = map[uint32]wireType{
		oidBool:        {oid: oidBool, name: "pg_catalog.bool"},
		oidInt2:        {oid: oidInt2, name: "pg_catalog.int2"},
		oidInt4:        {oid: oidInt4, name: "pg_catalog.int4"},
		oidInt8:        {oid: oidInt8, name: "pg_catalog.int8"},
		oidFloat4:      {oid: oidFloat4, name: "pg_catalog.float4"},
		oidFloat8:      {oid: oidFloat8, name: "pg_catalog.float8"},
		oidBytea:       {oid: oidBytea, name: "pg_catalog.bytea"},
		oidDate:        {oid: oidDate, name: "pg_catalog.date"},
		oidTime:        {oid: oidTime, name: "pg_catalog.time"},
		oidTimestamp:   {oid: oidTimestamp, name: "pg_catalog.timestamp"},
		oidTimestamptz: {oid: oidTimestamptz, name: "pg_catalog.timestamptz"},
		oidUUID:        {oid: oidUUID, name: "pg_catalog.uuid"},
		oidNumeric:     {oid: oidNumeric, name: "pg_catalog.numeric"},
	}
)

// columnInfo describes a column as the server does.
type columnInfo struct {
	name                string
	oid                 uint32
	typmod              int32
	shown               string // its type as PostgreSQL writes it
	nullable            bool
	comment             string
	blind               string // its collation, quoted, if that takes different texts for equal; else empty
	bytewise            bool   // its collation compares bytes
	defaults, generated string
	infinities          bool // numerics can be infinite
}

// newColumn returns the column for a description.
func newColumn(i columnInfo, ts types, o *options) *column {
	c := &column{name: i.name, quoted: quote(i.name)}
	c.selectExpr = "t." + c.quoted
	base, _, t := ts.base(i.oid, i.typmod)
	c.base, c.blind, c.infinities = base, i.blind, i.infinities
	meta := map[string]string{sources.MetaType: i.shown}
	for key, value := range map[string]string{sources.MetaComment: i.comment, sources.MetaDefault: i.defaults, sources.MetaGenerated: i.generated} {
		if value != "" {
			meta[key] = value
		}
	}
	c.codec = ts.codec(i.oid, i.typmod, o, false)
	bare := c.selectExpr
	text := t.text(c.selectExpr)
	switch {
	case c.codec == nil:
		name := i.shown
		if t != nil {
			name = t.name
		}
		c.selectExpr = text
		c.codec = &codec{oid: oidText, typ: arrow.BinaryTypes.String, width: 4, meta: opaque(name)}
	case c.codec.oid == oidTextArray:
		c.selectExpr += "::pg_catalog.text[]"
	}
	maps.Copy(meta, c.codec.meta)
	if t != nil {
		c.typeName, c.row = t.quoted, t.kind == "c"
	}
	wire, own := wireTypes[base]
	switch {
	case own && c.codec.oid == base: // otherwise it is read as text
		c.wire, c.compareExpr = wire, bare
		c.equalExpr, c.orderExpr = bare, bare
		if c.codec.hasSpecial && o.special == specialNull {
			c.compareExpr = c.finiteExpr(bare)
			c.equalExpr = c.compareExpr
		}
		c.equalWire = c.wire
	case base == oidNumeric:
		c.exactNumber(wire, bare, text)
	default:
		c.compareText(t, i.bytewise, bare, text)
		// With special=null, some values are NULL that the server compares.
		if special := c.codec.hasSpecial && o.special == specialNull; !special && ts.comparable(i.oid) {
			c.compareByServer(t, bare)
		}
	}
	maps.Copy(meta, c.meaning.Metadata())
	switch {
	case !c.codec.hasSpecial || o.special != specialNull:
		c.nullExpr = bare + " IS NULL"
		if c.row { // IS NULL is also true for a row of NULLs
			c.nullExpr = bare + " IS NOT DISTINCT FROM NULL"
		}
	case own:
		c.nullExpr = c.compareExpr + " IS NULL"
	}
	nullable := i.nullable || c.codec.hasSpecial && o.special == specialNull
	c.field = arrow.Field{Name: i.name, Type: c.codec.typ, Nullable: nullable, Metadata: arrow.MetadataFrom(meta)}
	return c
}

// exactNumber makes the column the text of numbers of any size, which the server compares
// as numbers.
func (c *column) exactNumber(wire wireType, bare, text string) {
	c.meaning = sources.Meaning{Equality: sources.ByNumber, Order: sources.ByNumber}
	c.wire, c.equalWire = wire, wire
	c.compareExpr, c.equalExpr, c.orderExpr = bare, bare, bare
	c.textExpr = "(" + text + `) COLLATE pg_catalog."C"`
}

// compareText makes the column compare its text byte by byte. bytewise tells that its
// collation does so too.
func (c *column) compareText(t *typeInfo, bytewise bool, bare, text string) {
	c.wire, c.equalWire = textWireType, textWireType
	// A cast to text would remove the padding of a bpchar, which its own comparison
	// ignores.
	isText := c.base == oidText || c.base == oidVarchar || c.base == oidName
	if isText || c.base == oidJSON || c.base == oidJSONB || t != nil && t.send == "citextsend" {
		text = bare + "::pg_catalog.text"
	}
	c.compareExpr = "(" + text + `) COLLATE pg_catalog."C"`
	c.textExpr = c.compareExpr
	c.equalExpr, c.orderExpr = c.compareExpr, c.compareExpr
	if isText {
		c.orderExpr = bare
		if c.blind == "" {
			c.equalExpr = bare
		}
		if bytewise { // an index supports the order too
			c.compareExpr = bare
		}
	}
}

// compareByServer makes the column compare with the operators of its type, where they
// differ from a comparison of text. Text keeps the order of its bytes.
func (c *column) compareByServer(t *typeInfo, bare string) {
	switch c.base {
	case oidText, oidVarchar, oidName:
		if c.blind != "" { // different texts can be equal
			c.meaning.Equality, c.equalExpr = sources.BySource, bare
		}
		return
	}
	own := wireType{oid: oidText, name: t.quoted, text: true, own: t.operators, single: t.elem != 0 || t.kind == "c"}
	if name, ok := strings.CutPrefix(t.quoted, "pg_catalog.reg"); ok {
		own.single, own.input = true, "pg_catalog.reg"+name+"in"
	}
	c.equalExpr, c.equalWire = bare, own
	switch {
	case c.base == oidBpchar: // which ignores padding
		c.meaning.Equality = sources.BySource
		return
	case c.codec.labels != nil:
		c.meaning = sources.Meaning{Order: sources.ByLabels, Labels: t.labels}
	default:
		c.meaning = sources.Meaning{Equality: sources.BySource, Order: sources.BySource}
	}
	c.compareExpr, c.orderExpr, c.wire = bare, bare, own
}

// finiteExpr returns an expression that is NULL for special values.
func (c *column) finiteExpr(expr string) string {
	condition := ""
	switch c.codec.oid {
	case oidNumeric:
		limit := "1" + strings.Repeat("0", int(c.codec.prec-c.codec.scale))
		condition = fmt.Sprintf("pg_catalog.abs(%s) < %s AND pg_catalog.trunc(%[1]s, %[3]d) = %[1]s", expr, limit, c.codec.scale)
	case oidTime:
		condition = expr + " < '24:00:00'"
	case oidDate:
		condition = "pg_catalog.isfinite(" + expr + ")" // all other dates fit
	default:
		condition = "pg_catalog.isfinite(" + expr + ") AND " + expr + " < '294247-01-10 04:00:54.775808+00'"
	}
	return "CASE WHEN " + condition + " THEN " + expr + " END"
}

// ops returns the operators that can be evaluated with the meaning of sources.Eval.
func (c *column) ops(bytewise bool) sources.Ops {
	null := sources.OpsOf(sources.OpIsNull, sources.OpNotNull)
	if c.nullExpr == "" {
		null = 0
	}
	if !sources.Comparable(c.field.Type, c.field.Type) {
		return null
	}
	all := null | sources.OpsOf(sources.OpEq, sources.OpNe, sources.OpLt, sources.OpLe, sources.OpGt, sources.OpGe, sources.OpIn)
	switch {
	case c.textExpr != "" && bytewise:
		return all | sources.OpsOf(sources.OpPrefix, sources.OpLike)
	case !c.wire.text || c.wire.own != nil:
		return all
	}
	return null
}

// keysetExpr returns the expression whose values are a term of a cursor: they are sent back
// as a parameter.
func (c *column) keysetExpr(expr string) string {
	if c.wire.own != nil {
		return c.textExpr
	}
	return expr
}
