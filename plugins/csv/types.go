package csv

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// kind is how the text of a column is read.
type kind uint8

const (
	textKind kind = iota
	integerKind
	decimalKind
	booleanKind
	dateKind
	timeKind
	localKind   // timestamps without a zone
	instantKind // timestamps with one
	yearKind
	floatKind
	fileKind // the name of the file, which is in no field
)

// maxPrecision is how many digits a decimal has at most.
const maxPrecision = 38

// column is a column of a table: what it is called and how it is read.
type column struct {
	name     string
	kind     kind
	digits   int32    // of a decimal, at most; 0 is maxPrecision
	scale    int32    // of a decimal
	required bool     // it has no NULL
	inferred int      // from so many records; 0 where it is declared
	missing  []string // the texts that stand for NULL, beside the unquoted empty one
	words    bool     // missing has one that is not empty
	trues    []string // of a boolean; nil: true and false in any case
	falses   []string
	layout   string // of a date or time, in Go's form; empty: ISO 8601
	decimal  byte   // of a number; 0: a point
	group    string // between the digits of a number
	source   string // the declared type, for people
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

// describe names the column's type for an error.
func (c *column) describe() string {
	switch c.kind {
	case integerKind:
		return "an integer of 64 bits"
	case decimalKind:
		return fmt.Sprintf("a number with at most %d decimals and %d digits", c.scale, c.precision())
	case booleanKind:
		return "a boolean"
	case dateKind:
		return "a date"
	case timeKind:
		return "a time of day"
	case localKind:
		return "a date and time without a zone"
	case instantKind:
		return "a date and time with a zone"
	case yearKind:
		return "a year"
	case floatKind:
		return "a number that a float of 64 bits holds"
	}
	return "text in UTF-8: is the encoding another one?"
}

// isNull reports whether a field is NULL: an unquoted field without text, or one
// of the texts that stand for it. A quoted field without text is NULL only where
// the column's type has no empty value.
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

// datum is a value that is not NULL: a number in the unit of its column's type,
// a boolean's 0 or 1, a float's or a decimal's bits, or text in the scanner's
// buffer.
type datum struct {
	n    int64 // of a decimal, the low bits
	high int64
	text []byte
}

// parse reads a field that is not NULL, and reports whether the text is of the
// column's type. ascii says that there is nothing else in it.
func (c *column) parse(text []byte, ascii bool) (d datum, ok bool) {
	switch c.kind {
	case textKind:
		return datum{text: text}, ascii || utf8.Valid(text)
	case integerKind:
		n, ok := parseInteger(c.plain(text))
		return datum{n: n}, ok && (c.declared() || faithful(text, n == 0))
	case decimalKind:
		low, high, ok := parseDecimal(c.plain(text), c.precision(), c.scale, c.declared())
		return datum{n: low, high: high}, ok && (c.declared() || faithful(text, low|high == 0))
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

// declared reports whether the column's type is, rather than found in a sample.
func (c *column) declared() bool { return c.source != "" || c.inferred == 0 }

// faithful reports whether what was read as a number is written as this program
// would write it. In a column whose type was inferred anything else may be a
// code, and is no number only because the sample did not show it.
func faithful(text []byte, zero bool) bool {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	if text[0] == '+' || text[0] == '.' || negative && zero {
		return false
	}
	return text[0] != '0' || len(text) == 1 || text[1] == '.'
}

// plain brings a number's digits into their plain form, without group
// separators and with a point.
func (c *column) plain(text []byte) []byte {
	if c.group == "" && (c.decimal == 0 || c.decimal == '.') {
		return text
	}
	if c.group != "" {
		text = bytes.ReplaceAll(text, []byte(c.group), nil)
	}
	if c.decimal != 0 && c.decimal != '.' {
		if bytes.IndexByte(text, '.') >= 0 {
			return nil // the point is no decimal sign here
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
