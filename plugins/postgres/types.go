package postgres

import (
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
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
)

// column is what the source knows of one column: how it is named, read and
// compared in SQL. It is made with the catalogue and never changes.
type column struct {
	name   string // unquoted
	quoted string
	oid    uint32 // of the base type of a domain; 0 for what is read as text
	scale  int32  // of a decimal
	prec   int32
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
}

// wireType is a type that parameters are cast to.
type wireType struct {
	oid  uint32
	name string
	text bool // compares by bytes, and so is put under COLLATE "C"
}

// newColumn decides on a column's form. The type is the base type where the
// column's is a domain, and shown is its name in PostgreSQL's terms.
func newColumn(name string, oid uint32, typmod int32, shown, comment string, nullable, deterministic bool) column {
	c := column{name: name, quoted: quote(name), oid: oid}
	c.read = "t." + c.quoted
	c.compared = c.read
	text := wireType{oidText, "pg_catalog.text", true}
	meta := map[string]string{sources.MetaType: shown}
	if comment != "" {
		meta[sources.MetaComment] = comment
	}
	var t arrow.DataType
	switch oid {
	case oidBool:
		t, c.wire = arrow.FixedWidthTypes.Boolean, wireType{oid, "pg_catalog.bool", false}
	case oidInt2:
		t, c.wire = arrow.PrimitiveTypes.Int16, wireType{oid, "pg_catalog.int2", false}
	case oidInt4:
		t, c.wire = arrow.PrimitiveTypes.Int32, wireType{oid, "pg_catalog.int4", false}
	case oidInt8:
		t, c.wire = arrow.PrimitiveTypes.Int64, wireType{oid, "pg_catalog.int8", false}
	case oidFloat4:
		t, c.wire = arrow.PrimitiveTypes.Float32, wireType{oid, "pg_catalog.float4", false}
	case oidFloat8:
		t, c.wire = arrow.PrimitiveTypes.Float64, wireType{oid, "pg_catalog.float8", false}
	case oidBytea:
		t, c.wire = arrow.BinaryTypes.Binary, wireType{oid, "pg_catalog.bytea", false}
	case oidDate:
		t, c.wire = arrow.FixedWidthTypes.Date32, wireType{oid, "pg_catalog.date", false}
	case oidTime:
		t, c.wire = arrow.FixedWidthTypes.Time64us, wireType{oid, "pg_catalog.time", false}
	case oidTimestamp:
		t, c.wire = &arrow.TimestampType{Unit: arrow.Microsecond}, wireType{oid, "pg_catalog.timestamp", false}
	case oidTimestamptz:
		t, c.wire = arrow.FixedWidthTypes.Timestamp_us, wireType{oid, "pg_catalog.timestamptz", false}
	case oidUUID:
		// The extension type itself would pull in parquet; its metadata says the
		// same to whoever knows it.
		t, c.wire = &arrow.FixedSizeBinaryType{ByteWidth: 16}, wireType{oid, "pg_catalog.uuid", false}
		meta["ARROW:extension:name"], meta["ARROW:extension:metadata"] = "arrow.uuid", ""
	case oidNumeric:
		t = decimalType(typmod)
		if d, ok := t.(arrow.DecimalType); ok {
			c.prec, c.scale = d.GetPrecision(), d.GetScale()
			c.wire = wireType{oid, "pg_catalog.numeric", false}
		}
	case oidText, oidVarchar, oidName:
		t, c.wire = arrow.BinaryTypes.String, text
		c.compared = c.read + "::pg_catalog.text"
	case oidBpchar:
		// A cast to text would strip the padding, and bpchar's own comparison
		// does not see it.
		t, c.wire = arrow.BinaryTypes.String, text
		c.compared = "pg_catalog.textin(pg_catalog.bpcharout(" + c.read + "))"
	case oidJSON, oidJSONB:
		t, c.wire = arrow.BinaryTypes.String, text
		c.compared = c.read + "::pg_catalog.text"
		meta["ARROW:extension:name"], meta["ARROW:extension:metadata"] = "arrow.json", ""
	}
	if t == nil {
		t, c.wire, c.oid = arrow.BinaryTypes.String, text, 0
		c.read += "::pg_catalog.text"
		c.compared = c.read
	}
	if c.wire.text {
		c.compared = "(" + c.compared + `) COLLATE pg_catalog."C"`
	}
	c.equal, c.key = c.compared, c.compared
	if oid == oidText || oid == oidVarchar || oid == oidName {
		c.key = "t." + c.quoted
		if deterministic {
			c.equal = c.key
		}
	}
	c.field = arrow.Field{Name: name, Type: t, Nullable: nullable, Metadata: arrow.MetadataFrom(meta)}
	return c
}

// decimalType returns the decimal of a numeric's typmod, or nil where no
// decimal holds every value of it.
func decimalType(typmod int32) arrow.DataType {
	if typmod < 4 {
		return nil
	}
	precision := (typmod - 4) >> 16 & 0xffff
	scale := (typmod - 4) & 0x7ff // 11 bits, signed
	if scale > 1023 {
		scale -= 2048
	}
	precision = max(precision, scale)
	switch {
	case scale < 0, precision > 76:
		return nil
	case precision > 38:
		return &arrow.Decimal256Type{Precision: precision, Scale: scale}
	}
	return &arrow.Decimal128Type{Precision: precision, Scale: scale}
}

// ops are the operators that a column takes with the meaning of sources.Eval.
func (c *column) ops(bytewise bool) sources.Ops {
	null := sources.OpsOf(sources.OpNull, sources.OpHas)
	compare := sources.OpsOf(sources.Eq, sources.Ne, sources.Lt, sources.Le, sources.Gt, sources.Ge, sources.OpIn)
	switch {
	case !c.wire.text:
		return null | compare
	case bytewise:
		return null | compare | sources.OpsOf(sources.OpStart, sources.OpLike)
	}
	return null
}
