package csv

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
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
	}
	return "text in UTF-8: is this a CSV file?"
}

// isNull reports whether a field is NULL: an unquoted field without text, or one
// of the texts that stand for it. A quoted field without text is NULL only where
// the column's type has no empty value.
func (c *column) isNull(text []byte, quoted bool) bool {
	if len(text) == 0 && !quoted {
		return true
	}
	for _, m := range c.missing {
		if string(text) == m && (len(text) > 0 || c.kind != textKind) {
			return true
		}
	}
	return false
}

// datum is a value that is not NULL: a number in the unit of its column's type,
// a boolean's 0 or 1, a decimal's 128 bits, or text in the scanner's buffer.
type datum struct {
	n    int64 // of a decimal, the low bits
	high int64
	text []byte
}

// parse reads a field that is not NULL, and reports whether the text is of the
// column's type.
func (c *column) parse(text []byte) (d datum, ok bool) {
	switch c.kind {
	case textKind:
		return datum{text: text}, utf8.Valid(text) && bytes.IndexByte(text, 0) < 0
	case integerKind:
		n, ok := parseInteger(c.plain(text))
		return datum{n: n}, ok && c.faithful(text)
	case yearKind:
		n, ok := parseInteger(text)
		return datum{n: n}, ok && n >= -9999 && n <= 9999
	case decimalKind:
		n, ok := parseDecimal(c.plain(text), c.precision(), c.scale)
		return datum{n: int64(n.LowBits()), high: n.HighBits()}, ok && c.faithful(text)
	case booleanKind:
		v, ok := c.boolean(text)
		return datum{n: boolToInt(v)}, ok
	case dateKind:
		t, _, ok := c.moment(text)
		return datum{n: t.Unix() / 86400}, ok && t.Unix()%86400 == 0
	case timeKind:
		n, ok := c.timeOfDay(text)
		return datum{n: n}, ok
	case localKind, instantKind:
		t, zoned, ok := c.moment(text)
		return datum{n: t.UnixMicro()}, ok && zoned == (c.kind == instantKind)
	}
	return d, false
}

func boolToInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// appendTo adds the value to the builder of its column.
func (d datum) appendTo(b array.Builder) {
	switch b := b.(type) {
	case *array.StringBuilder:
		b.BinaryBuilder.Append(d.text)
	case *array.Int64Builder:
		b.Append(d.n)
	case *array.Int32Builder:
		b.Append(int32(d.n))
	case *array.Decimal128Builder:
		b.Append(decimal128.New(d.high, uint64(d.n)))
	case *array.BooleanBuilder:
		b.Append(d.n != 0)
	case *array.Date32Builder:
		b.Append(arrow.Date32(d.n))
	case *array.Time64Builder:
		b.Append(arrow.Time64(d.n))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(d.n))
	}
}

// faithful reports whether a number in a column whose type was inferred is
// written as this program would write it: else it may be a code, and is no
// number only because the sample did not show it.
func (c *column) faithful(text []byte) bool {
	if c.source != "" || c.inferred == 0 {
		return true
	}
	_, _, ok := number(text)
	return ok
}

// plain brings a number's digits into their plain form, without group
// separators and with a point.
func (c *column) plain(text []byte) []byte {
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

// parseInteger reads an integer of 64 bits.
func parseInteger(text []byte) (int64, bool) {
	digits, negative := text, false
	if len(digits) > 0 && (digits[0] == '-' || digits[0] == '+') {
		negative = digits[0] == '-'
		digits = digits[1:]
	}
	if len(digits) == 0 {
		return 0, false
	}
	if len(digits) > 18 {
		n, err := strconv.ParseInt(string(text), 10, 64)
		return n, err == nil
	}
	n := int64(0)
	for _, b := range digits {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

// parseDecimal reads a number of at most so many digits and decimals, and never
// rounds.
func parseDecimal(text []byte, precision, scale int32) (decimal128.Num, bool) {
	negative := false
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		negative = text[0] == '-'
		text = text[1:]
	}
	whole, fraction, pointed := bytes.Cut(text, []byte{'.'})
	if len(whole)+len(fraction) == 0 || pointed && len(fraction) == 0 {
		return decimal128.Num{}, false
	}
	fraction = bytes.TrimRight(fraction, "0")
	whole = bytes.TrimLeft(whole, "0")
	if len(fraction) > int(scale) || len(whole)+int(scale) > int(precision) {
		return decimal128.Num{}, false
	}
	// Up to 18 digits fit an int64, and most numbers have no more.
	if len(whole)+int(scale) <= 18 {
		n, ok := int64(0), true
		for _, part := range [][]byte{whole, fraction} {
			for _, b := range part {
				ok = ok && b >= '0' && b <= '9'
				n = n*10 + int64(b-'0')
			}
		}
		for range int(scale) - len(fraction) {
			n *= 10
		}
		if negative {
			n = -n
		}
		return decimal128.FromI64(n), ok
	}
	n := decimal128.Num{}
	ten := decimal128.FromI64(10)
	for _, part := range [][]byte{whole, fraction} {
		for _, b := range part {
			if b < '0' || b > '9' {
				return decimal128.Num{}, false
			}
			n = n.Mul(ten).Add(decimal128.FromI64(int64(b - '0')))
		}
	}
	for range int(scale) - len(fraction) {
		n = n.Mul(ten)
	}
	if negative {
		n = n.Negate()
	}
	return n, true
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

// moment reads a date, or a date and time; zoned says whether the text named its
// zone. A date alone is a moment only in a column of dates.
func (c *column) moment(text []byte) (t time.Time, zoned, ok bool) {
	if c.layout != "" {
		t, err := time.Parse(c.layout, string(text))
		// Parse takes a fraction that the layout lacks.
		return t.UTC(), c.kind == instantKind, err == nil && t.Nanosecond()%1000 == 0
	}
	if c.kind == dateKind {
		t, rest, ok := parseDate(text)
		return t, false, ok && len(rest) == 0
	}
	return parseTimestamp(text)
}

func (c *column) timeOfDay(text []byte) (int64, bool) {
	if c.layout != "" {
		t, err := time.Parse(c.layout, string(text))
		return t.Sub(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())).Microseconds(), err == nil && t.Nanosecond()%1000 == 0
	}
	n, rest, ok := parseClock(text)
	return n, ok && len(rest) == 0
}

// digits reads n digits.
func digits(text []byte, n int) (value int, rest []byte, ok bool) {
	if len(text) < n {
		return 0, nil, false
	}
	for _, b := range text[:n] {
		if b < '0' || b > '9' {
			return 0, nil, false
		}
		value = value*10 + int(b-'0')
	}
	return value, text[n:], true
}

// parseDate reads YYYY-MM-DD.
func parseDate(text []byte) (t time.Time, rest []byte, ok bool) {
	year, rest, ok1 := digits(text, 4)
	if !ok1 || len(rest) == 0 || rest[0] != '-' {
		return t, nil, false
	}
	month, rest, ok2 := digits(rest[1:], 2)
	if !ok2 || len(rest) == 0 || rest[0] != '-' {
		return t, nil, false
	}
	day, rest, ok3 := digits(rest[1:], 2)
	if !ok3 {
		return t, nil, false
	}
	t = time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return t, rest, t.Day() == day && int(t.Month()) == month && t.Year() == year
}

// parseClock reads HH:MM:SS with up to six decimals, in microseconds.
func parseClock(text []byte) (micros int64, rest []byte, ok bool) {
	hour, rest, ok1 := digits(text, 2)
	if !ok1 || hour > 23 || len(rest) == 0 || rest[0] != ':' {
		return 0, nil, false
	}
	minute, rest, ok2 := digits(rest[1:], 2)
	if !ok2 || minute > 59 || len(rest) == 0 || rest[0] != ':' {
		return 0, nil, false
	}
	second, rest, ok3 := digits(rest[1:], 2)
	if !ok3 || second > 59 {
		return 0, nil, false
	}
	micros = int64(hour*3600+minute*60+second) * 1e6
	if len(rest) == 0 || rest[0] != '.' {
		return micros, rest, true
	}
	rest = rest[1:]
	unit, n := int64(1e5), 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		if unit == 0 && rest[n] != '0' {
			return 0, nil, false // beyond a microsecond: nothing is rounded
		}
		micros += int64(rest[n]-'0') * unit
		unit /= 10
		n++
	}
	return micros, rest[n:], n > 0
}

// parseTimestamp reads a date, T or a space, a time of day, and perhaps a zone.
func parseTimestamp(text []byte) (t time.Time, zoned, ok bool) {
	t, rest, ok := parseDate(text)
	if !ok || len(rest) == 0 || rest[0] != 'T' && rest[0] != ' ' {
		return t, false, false
	}
	micros, rest, ok := parseClock(rest[1:])
	if !ok {
		return t, false, false
	}
	t = t.Add(time.Duration(micros) * time.Microsecond)
	if len(rest) == 0 {
		return t, false, true
	}
	if rest[0] == 'Z' {
		return t, true, len(rest) == 1
	}
	if rest[0] != '+' && rest[0] != '-' {
		return t, false, false
	}
	hours, after, ok := digits(rest[1:], 2)
	minutes := 0
	if ok && len(after) > 0 {
		after = bytes.TrimPrefix(after, []byte{':'})
		minutes, after, ok = digits(after, 2)
	}
	if !ok || len(after) > 0 || hours > 23 || minutes > 59 {
		return t, false, false
	}
	shift := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if rest[0] == '+' {
		shift = -shift
	}
	return t.Add(shift), true, true
}
