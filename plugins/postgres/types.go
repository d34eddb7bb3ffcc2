package postgres

import (
	"fmt"
	"maps"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// The OIDs of the built-in types that have a form of their own here.
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

// column is what the source knows of one column: how it is named, read and
// compared in SQL. It is made with the catalogue and never changes.
type column struct {
	name   string // unquoted
	quoted string
	form   *form
	field  arrow.Field
	// compared is the expression that compares and sorts as sources.Compare
	// does; wire is the type that its values and literals have on the wire.
	compared string
	wire     wireType
	// equal is the same for equality alone, and key for an order that is only
	// total: where they are the bare column, its indexes serve them.
	equal, key string
	// read is the expression that is selected.
	read string
	// null is the condition that the column gives NULL; empty where it cannot be
	// said in SQL.
	null string
}

// wireType is a type that parameters are cast to.
type wireType struct {
	oid  uint32
	name string
	text bool // compares by bytes, and so is put under COLLATE "C"
}

var (
	textWire = wireType{oidText, "pg_catalog.text", true}
	// wires are those whose own order is that of sources.Compare.
	wires = map[uint32]wireType{
		oidBool:        {oidBool, "pg_catalog.bool", false},
		oidInt2:        {oidInt2, "pg_catalog.int2", false},
		oidInt4:        {oidInt4, "pg_catalog.int4", false},
		oidInt8:        {oidInt8, "pg_catalog.int8", false},
		oidFloat4:      {oidFloat4, "pg_catalog.float4", false},
		oidFloat8:      {oidFloat8, "pg_catalog.float8", false},
		oidBytea:       {oidBytea, "pg_catalog.bytea", false},
		oidDate:        {oidDate, "pg_catalog.date", false},
		oidTime:        {oidTime, "pg_catalog.time", false},
		oidTimestamp:   {oidTimestamp, "pg_catalog.timestamp", false},
		oidTimestamptz: {oidTimestamptz, "pg_catalog.timestamptz", false},
		oidUUID:        {oidUUID, "pg_catalog.uuid", false},
		oidNumeric:     {oidNumeric, "pg_catalog.numeric", false},
	}
)

// columnInfo is what the server says of a column.
type columnInfo struct {
	name                string
	oid                 uint32
	typmod              int32
	shown               string // its type in PostgreSQL's terms
	nullable            bool
	comment             string
	deterministic       bool // its collation tells unequal texts apart
	bytewise            bool // its collation is that of bytes
	defaults, generated string
}

// newColumn decides on a column's form.
func newColumn(i columnInfo, ts types, o *options) *column {
	c := &column{name: i.name, quoted: quote(i.name)}
	c.read = "t." + c.quoted
	base, _, t := ts.base(i.oid, i.typmod)
	meta := map[string]string{sources.MetaType: i.shown}
	for key, value := range map[string]string{sources.MetaComment: i.comment, sources.MetaDefault: i.defaults, sources.MetaGenerated: i.generated} {
		if value != "" {
			meta[key] = value
		}
	}
	c.form = ts.form(i.oid, i.typmod, o, false)
	bare := c.read
	text := t.text(c.read)
	switch {
	case c.form == nil:
		name := i.shown
		if t != nil {
			name = t.name
		}
		c.read = text
		c.form = &form{oid: oidText, typ: arrow.BinaryTypes.String, width: 4, meta: opaque(name)}
	case c.form.oid == oidTextArray:
		c.read += "::pg_catalog.text[]"
	}
	maps.Copy(meta, c.form.meta)
	wire, own := wires[base]
	if own && c.form.oid == base { // else it is read as text, and so compared
		c.wire, c.compared = wire, bare
		c.equal, c.key = bare, bare
		if c.form.special && o.special == makeNull {
			c.compared = c.finite(bare)
			c.equal = c.compared
		}
	} else {
		c.wire = textWire
		// A cast to text would strip the padding of a bpchar, whose own comparison
		// does not see it.
		if base == oidText || base == oidVarchar || base == oidName || base == oidJSON || base == oidJSONB || t != nil && t.send == "citextsend" {
			text = bare + "::pg_catalog.text"
		}
		c.compared = "(" + text + `) COLLATE pg_catalog."C"`
		c.equal, c.key = c.compared, c.compared
		if base == oidText || base == oidVarchar || base == oidName {
			c.key = bare
			if i.deterministic {
				c.equal = bare
			}
			if i.bytewise { // an index serves the order too
				c.compared = bare
			}
		}
	}
	switch {
	case !c.form.special || o.special != makeNull:
		c.null = bare + " IS NULL"
		if t != nil && t.kind == "c" { // IS NULL is true for a row of NULLs
			c.null = bare + " IS NOT DISTINCT FROM NULL"
		}
	case own:
		c.null = c.compared + " IS NULL"
	}
	nullable := i.nullable || c.form.special && o.special == makeNull
	c.field = arrow.Field{Name: i.name, Type: c.form.typ, Nullable: nullable, Metadata: arrow.MetadataFrom(meta)}
	return c
}

// finite is the expression of a column whose special values are NULL.
func (c *column) finite(expr string) string {
	condition := ""
	switch c.form.oid {
	case oidNumeric:
		limit := "1" + strings.Repeat("0", int(c.form.prec-c.form.scale))
		condition = fmt.Sprintf("pg_catalog.abs(%s) < %s AND pg_catalog.trunc(%[1]s, %[3]d) = %[1]s", expr, limit, c.form.scale)
	case oidTime:
		condition = expr + " < '24:00:00'"
	case oidDate:
		condition = "pg_catalog.isfinite(" + expr + ")" // every other fits
	default:
		condition = "pg_catalog.isfinite(" + expr + ") AND " + expr + " < '294247-01-10 04:00:54.775808+00'"
	}
	return "CASE WHEN " + condition + " THEN " + expr + " END"
}

// ops are the operators that a column takes with the meaning of sources.Eval.
func (c *column) ops(bytewise bool) sources.Ops {
	null := sources.OpsOf(sources.OpIsNull, sources.OpNotNull)
	if c.null == "" {
		null = 0
	}
	if !sources.Comparable(c.field.Type, c.field.Type) {
		return null
	}
	compare := sources.OpsOf(sources.OpEq, sources.OpNe, sources.OpLt, sources.OpLe, sources.OpGt, sources.OpGe, sources.OpIn)
	switch {
	case !c.wire.text:
		return null | compare
	case bytewise:
		return null | compare | sources.OpsOf(sources.OpPrefix, sources.OpLike)
	}
	return null
}
