package csv

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// kind is how the text of a column is parsed.
type kind uint8

const (
	textKind kind = iota
	integerKind
	decimalKind
	booleanKind
	dateKind
	timeKind
	localKind   // timestamps without a time zone
	instantKind // timestamps with a time zone
	yearKind
	floatKind
	fileKind // the name of the file, which no field holds
)

// maxPrecision is the largest number of digits of a decimal.
const maxPrecision = 38

// column describes a column of a table and how its values are parsed. Its fields
// are part of the names of stored indexes: renaming one makes every index stale.
type column struct {
	name     string
	kind     kind
	digits   int32    // the precision of a decimal; 0 means maxPrecision
	scale    int32    // the scale of a decimal
	required bool     // it holds no NULL
	inferred string   // what the type was inferred from, as errors say it; empty if it is declared
	missing  []string // the texts that mean NULL, besides the empty unquoted field
	words    bool     // missing has a text that is not empty
	trues    []string // of a boolean; nil for true and false in any case
	falses   []string
	layout   string // of a date or time, as in package time; empty for ISO 8601
	decimal  byte   // the decimal separator of a number; 0 for a point
	group    string // the group separator of a number
	source   string // the declared type, for display
	comment  string
}

var utc = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

func (c *column) dataType() arrow.DataType {
	switch c.kind {
	case integerKind:
		return arrow.PrimitiveTypes.Int64
	case decimalKind:
		return &arrow.Decimal128Type{Precision: c.precision(), Scale: c.scale}
	case booleanKind:
		return arrow.FixedWidthTypes.Boolean
	case dateKind:
		return arrow.FixedWidthTypes.Date32
	case timeKind:
		return arrow.FixedWidthTypes.Time64us
	case localKind:
		return &arrow.TimestampType{Unit: arrow.Microsecond}
	case instantKind:
		return utc
	case yearKind:
		return arrow.PrimitiveTypes.Int32
	case floatKind:
		return arrow.PrimitiveTypes.Float64
	}
	return arrow.BinaryTypes.String
}

func (c *column) precision() int32 {
	if c.digits == 0 {
		return maxPrecision
	}
	return c.digits
}

// describe returns the column's type as errors name it.
func (c *column) describe() string {
	switch c.kind {
	case integerKind:
		return "a 64-bit integer"
	case decimalKind:
		return fmt.Sprintf("a number with at most %d decimals and %d digits", c.scale, c.precision())
	case booleanKind:
		return "a boolean"
	case dateKind:
		return "a date"
	case timeKind:
		return "a time of day"
	case localKind:
		return "a date and time without a time zone"
	case instantKind:
		return "a date and time with a time zone"
	case yearKind:
		return "a year"
	case floatKind:
		return "a number in the range of a 64-bit float"
	}
	return "valid UTF-8"
}

// isNull reports whether a field is NULL: it is empty and unquoted, or one of the
// texts that mean NULL. A quoted empty field is NULL only if the column's type has
// no empty value.
func (c *column) isNull(text []byte, quoted bool) bool {
	if len(text) == 0 && !quoted {
		return true
	}
	if len(c.missing) == 0 || len(text) > 0 && !c.words {
		return false
	}
	for _, m := range c.missing {
		if string(text) == m && (len(text) > 0 || c.kind != textKind) {
			return true
		}
	}
	return false
}

// datum is a value that is not NULL: a number in the unit of its column's type, 0
// or 1 for a boolean, the bits of a float or a decimal, or text in the scanner's
// buffer.
type datum struct {
	n    int64 // of a decimal, the low bits
	high int64
	text []byte
}

// parse parses a field that is not NULL and reports whether it is of the column's
// type. ascii tells that the text is known to be ASCII.
func (c *column) parse(text []byte, ascii bool) (d datum, ok bool) {
	switch c.kind {
	case textKind:
		return datum{text: text}, ascii || utf8.Valid(text)
	case integerKind:
		n, ok := parseInteger(c.plain(text))
		return datum{n: n}, ok && (c.declared() || isCanonical(text, n == 0))
	case decimalKind:
		low, high, ok := parseDecimal(c.plain(text), c.precision(), c.scale, c.declared())
		return datum{n: low, high: high}, ok && (c.declared() || isCanonical(text, low|high == 0))
	case dateKind:
		if c.layout != "" {
			n, ok := parseLayout(c.layout, text)
			return datum{n: floorDays(n)}, ok && n%dayMicros == 0
		}
		n, rest, ok := parseDate(text)
		return datum{n: n}, ok && len(rest) == 0
	case localKind, instantKind:
		if c.layout != "" {
			n, ok := parseLayout(c.layout, text)
			return datum{n: n}, ok
		}
		n, zoned, ok := parseTimestamp(text)
		return datum{n: n}, ok && zoned == (c.kind == instantKind)
	case timeKind:
		if c.layout != "" {
			n, ok := parseLayout(c.layout, text)
			return datum{n: n - floorDays(n)*dayMicros}, ok
		}
		n, rest, ok := parseClock(text)
		return datum{n: n}, ok && len(rest) == 0
	case booleanKind:
		v, ok := c.boolean(text)
		return datum{n: boolToInt(v)}, ok
	case yearKind:
		n, ok := parseInteger(text)
		return datum{n: n}, ok && n >= -9999 && n <= 9999
	case floatKind:
		f, ok := parseFloat(c.plain(text))
		return datum{n: int64(math.Float64bits(f))}, ok
	}
	return d, false
}

func floorDays(micros int64) int64 {
	days := micros / dayMicros
	if micros%dayMicros < 0 {
		days--
	}
	return days
}

func boolToInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// declared reports whether the column's type is declared rather than inferred.
func (c *column) declared() bool { return c.source != "" || c.inferred == "" }

// isCanonical reports whether a number is written as this program would write it.
// In a column of an inferred type, anything else may be a code, such as 007.
func isCanonical(text []byte, zero bool) bool {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	if text[0] == '+' || text[0] == '.' || negative && zero {
		return false
	}
	return text[0] != '0' || len(text) == 1 || text[1] == '.'
}

// plain returns a number without group separators and with a decimal point, or nil
// if that is not possible.
func (c *column) plain(text []byte) []byte {
	if c.group == "" && (c.decimal == 0 || c.decimal == '.') {
		return text
	}
	if c.group != "" {
		text = bytes.ReplaceAll(text, []byte(c.group), nil)
	}
	if c.decimal != 0 && c.decimal != '.' {
		if bytes.IndexByte(text, '.') >= 0 {
			return nil // a point is not the decimal separator here
		}
		text = bytes.ReplaceAll(text, []byte{c.decimal}, []byte{'.'})
	}
	return text
}

func (c *column) boolean(text []byte) (value, ok bool) {
	if c.trues == nil && c.falses == nil {
		switch {
		case bytes.EqualFold(text, []byte("true")):
			return true, true
		case bytes.EqualFold(text, []byte("false")):
			return false, true
		}
		return false, false
	}
	for _, t := range c.trues {
		if string(text) == t {
			return true, true
		}
	}
	for _, f := range c.falses {
		if string(text) == f {
			return false, true
		}
	}
	return false, false
}
