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
	// compareExpr is the expression that compares and sorts as sources.Compare does. wire is
	// the type of its values and literals on the wire.
	compareExpr string
	wire        wireType
	// equalExpr is an expression that is correct only for equality, and orderExpr one that is
	// only a total order. If they are the column itself, its indexes support them.
	equalExpr, orderExpr string
	// selectExpr is the expression in the SELECT list.
	selectExpr string
	// nullExpr is a condition for NULL; it is empty if SQL cannot express it.
	nullExpr string
}

// wireType is a type to which parameters are cast.
type wireType struct {
	oid  uint32
	name string
	text bool // compared byte by byte, with COLLATE "C"
}

var (
	textWireType = wireType{oidText, "pg_catalog.text", true}
	// wireTypes holds the types whose own order is that of sources.Compare.
	wireTypes = map[uint32]wireType{
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

// columnInfo describes a column as the server does.
type columnInfo struct {
	name                string
	oid                 uint32
	typmod              int32
	shown               string // its type as PostgreSQL writes it
	nullable            bool
	comment             string
	deterministic       bool // its collation is deterministic
	bytewise            bool // its collation compares bytes
	defaults, generated string
}

// newColumn returns the column for a description.
func newColumn(i columnInfo, ts types, o *options) *column {
	c := &column{name: i.name, quoted: quote(i.name)}
	c.selectExpr = "t." + c.quoted
	base, _, t := ts.base(i.oid, i.typmod)
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
	wire, own := wireTypes[base]
	if own && c.codec.oid == base { // otherwise it is read and compared as text
		c.wire, c.compareExpr = wire, bare
		c.equalExpr, c.orderExpr = bare, bare
		if c.codec.hasSpecial && o.special == specialNull {
			c.compareExpr = c.finiteExpr(bare)
			c.equalExpr = c.compareExpr
		}
	} else {
		c.wire = textWireType
		// A cast to text would remove the padding of a bpchar, which its own comparison
		// ignores.
		if base == oidText || base == oidVarchar || base == oidName || base == oidJSON || base == oidJSONB || t != nil && t.send == "citextsend" {
			text = bare + "::pg_catalog.text"
		}
		c.compareExpr = "(" + text + `) COLLATE pg_catalog."C"`
		c.equalExpr, c.orderExpr = c.compareExpr, c.compareExpr
		if base == oidText || base == oidVarchar || base == oidName {
			c.orderExpr = bare
			if i.deterministic {
				c.equalExpr = bare
			}
			if i.bytewise { // an index supports the order too
				c.compareExpr = bare
			}
		}
	}
	switch {
	case !c.codec.hasSpecial || o.special != specialNull:
		c.nullExpr = bare + " IS NULL"
		if t != nil && t.kind == "c" { // IS NULL is also true for a row of NULLs
			c.nullExpr = bare + " IS NOT DISTINCT FROM NULL"
		}
	case own:
		c.nullExpr = c.compareExpr + " IS NULL"
	}
	nullable := i.nullable || c.codec.hasSpecial && o.special == specialNull
	c.field = arrow.Field{Name: i.name, Type: c.codec.typ, Nullable: nullable, Metadata: arrow.MetadataFrom(meta)}
	return c
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
	compare := sources.OpsOf(sources.OpEq, sources.OpNe, sources.OpLt, sources.OpLe, sources.OpGt, sources.OpGe, sources.OpIn)
	switch {
	case !c.wire.text:
		return null | compare
	case bytewise:
		return null | compare | sources.OpsOf(sources.OpPrefix, sources.OpLike)
	}
	return null
}
