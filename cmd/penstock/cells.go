package main

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// form says what a column's text is made of, and so how a format must quote it.
type form uint8

const (
	bareForm   form = iota // a JSON number or boolean
	floatForm              // a JSON number, or NaN, Infinity, -Infinity
	plainForm              // ASCII without a character that JSON or CSV must escape
	textForm               // any text, perhaps not UTF-8
	nestedForm             // JSON already: a list, a map, a struct, a union
)

// cells writes the values of one array as text. The text of a value is the same
// in every format; a format adds only its quotes. It is valid as long as its
// array is.
type cells struct {
	form form
	// null reports whether a row is NULL, through dictionaries and the like.
	null func(i int) bool
	// append adds the text of a row that is not NULL; nil for textForm.
	append func(dst []byte, i int) []byte
	// text returns the text of a row that is not NULL, for textForm only. It
	// lies in the array's memory.
	text func(i int) string
}

// json adds a row's value as JSON.
func (c *cells) json(dst []byte, i int) []byte {
	if c.null(i) {
		return append(dst, "null"...)
	}
	switch c.form {
	case textForm:
		return appendJSONString(dst, c.text(i))
	case plainForm:
		dst = append(dst, '"')
		return append(c.append(dst, i), '"')
	case floatForm:
		start := len(dst)
		dst = c.append(dst, i)
		if b := dst[len(dst)-1]; b == 'N' || b == 'y' {
			dst = append(dst, 0, 0)
			copy(dst[start+1:], dst[start:len(dst)-2])
			dst[start], dst[len(dst)-1] = '"', '"'
		}
		return dst
	}
	return c.append(dst, i)
}

// plain adds a row's text without quotes; the row is not NULL.
func (c *cells) plain(dst []byte, i int) []byte {
	if c.form == textForm {
		return append(dst, c.text(i)...)
	}
	return c.append(dst, i)
}

// cellsOfAll returns the writers of a record's columns.
func cellsOfAll(record arrow.RecordBatch) []*cells {
	columns := make([]*cells, record.NumCols())
	for i := range columns {
		columns[i] = cellsOf(record.Column(i))
	}
	return columns
}

// cellsOf returns the writer of an array's values. It allocates once for each
// array, so that writing a row need not.
func cellsOf(arr arrow.Array) *cells {
	c := &cells{form: plainForm, null: arr.IsNull}
	switch a := arr.(type) {
	case *array.Null:
		c.null = func(int) bool { return true }
	case *array.Boolean:
		c.form = bareForm
		c.append = func(dst []byte, i int) []byte { return strconv.AppendBool(dst, a.Value(i)) }
	case *array.Int8:
		return integers(c, a.Int8Values())
	case *array.Int16:
		return integers(c, a.Int16Values())
	case *array.Int32:
		return integers(c, a.Int32Values())
	case *array.Int64:
		return integers(c, a.Int64Values())
	case *array.Uint8:
		return integers(c, a.Uint8Values())
	case *array.Uint16:
		return integers(c, a.Uint16Values())
	case *array.Uint32:
		return integers(c, a.Uint32Values())
	case *array.Uint64:
		c.form = bareForm
		c.append = func(dst []byte, i int) []byte { return strconv.AppendUint(dst, a.Value(i), 10) }
	case *array.Float16:
		c.form = floatForm
		c.append = func(dst []byte, i int) []byte { return appendFloat(dst, float64(a.Value(i).Float32()), 32) }
	case *array.Float32:
		c.form = floatForm
		c.append = func(dst []byte, i int) []byte { return appendFloat(dst, float64(a.Value(i)), 32) }
	case *array.Float64:
		c.form = floatForm
		c.append = func(dst []byte, i int) []byte { return appendFloat(dst, a.Value(i), 64) }
	case *array.Decimal32:
		scale := scaleOf(a)
		c.append = func(dst []byte, i int) []byte { return appendDecimal(dst, int64(a.Value(i)), scale) }
	case *array.Decimal64:
		scale := scaleOf(a)
		c.append = func(dst []byte, i int) []byte { return appendDecimal(dst, int64(a.Value(i)), scale) }
	case *array.Decimal128:
		scale := scaleOf(a)
		c.append = func(dst []byte, i int) []byte {
			v := a.Value(i)
			if low := int64(v.LowBits()); v.HighBits() == low>>63 {
				return appendDecimal(dst, low, scale)
			}
			return appendBigDecimal(dst, v.BigInt(), scale)
		}
	case *array.Decimal256:
		scale := scaleOf(a)
		c.append = func(dst []byte, i int) []byte { return appendBigDecimal(dst, a.Value(i).BigInt(), scale) }
	case *array.String:
		c.form, c.text = textForm, a.Value
	case *array.LargeString:
		c.form, c.text = textForm, a.Value
	case *array.StringView:
		c.form, c.text = textForm, a.Value
	case *array.Binary:
		return binaries(c, a.Value)
	case *array.LargeBinary:
		return binaries(c, a.Value)
	case *array.BinaryView:
		return binaries(c, a.Value)
	case *array.FixedSizeBinary:
		return binaries(c, a.Value)
	case *array.Date32:
		c.append = func(dst []byte, i int) []byte { return appendDay(dst, int64(a.Value(i))) }
	case *array.Date64:
		c.append = func(dst []byte, i int) []byte { return appendDay(dst, floorDiv(int64(a.Value(i)), 86400e3)) }
	case *array.Time32:
		return clocks(c, a.Time32Values(), a.DataType().(*arrow.Time32Type).Unit)
	case *array.Time64:
		return clocks(c, a.Time64Values(), a.DataType().(*arrow.Time64Type).Unit)
	case *array.Timestamp:
		return timestamps(c, a)
	case *array.Duration:
		unit := a.DataType().(*arrow.DurationType).Unit
		c.append = func(dst []byte, i int) []byte {
			return appendSeconds(append(dst, 'P', 'T'), int64(a.Value(i)), unit)
		}
	case *array.MonthInterval:
		c.append = func(dst []byte, i int) []byte { return appendInterval(dst, int64(a.Value(i)), 0, 0, arrow.Second) }
	case *array.DayTimeInterval:
		c.append = func(dst []byte, i int) []byte {
			v := a.Value(i)
			return appendInterval(dst, 0, int64(v.Days), int64(v.Milliseconds), arrow.Millisecond)
		}
	case *array.MonthDayNanoInterval:
		c.append = func(dst []byte, i int) []byte {
			v := a.Value(i)
			return appendInterval(dst, int64(v.Months), int64(v.Days), v.Nanoseconds, arrow.Nanosecond)
		}
	case *array.Dictionary:
		return indirect(c, cellsOf(a.Dictionary()), a.IsNull, a.GetValueIndex)
	case *array.RunEndEncoded:
		return indirect(c, cellsOf(a.Values()), func(int) bool { return false }, a.GetPhysicalIndex)
	case array.ExtensionArray:
		if f, ok := a.Storage().(*array.FixedSizeBinary); ok && a.ExtensionType().ExtensionName() == "arrow.uuid" {
			c.append = func(dst []byte, i int) []byte { return appendUUID(dst, f.Value(i)) }
			return c
		}
		return cellsOf(a.Storage())
	case *array.Struct:
		return structs(c, a)
	case *array.Map:
		return maps(c, a)
	case array.ListLike:
		values := cellsOf(a.ListValues())
		c.form = nestedForm
		c.append = func(dst []byte, i int) []byte {
			dst = append(dst, '[')
			start, end := a.ValueOffsets(i)
			for j := start; j < end; j++ {
				if j > start {
					dst = append(dst, ',')
				}
				dst = values.json(dst, int(j))
			}
			return append(dst, ']')
		}
	case array.Union:
		return unions(c, a)
	default:
		c.form, c.text = textForm, arr.ValueStr
	}
	return c
}

func integers[T ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32](c *cells, values []T) *cells {
	c.form = bareForm
	c.append = func(dst []byte, i int) []byte { return strconv.AppendInt(dst, int64(values[i]), 10) }
	return c
}

func binaries(c *cells, value func(int) []byte) *cells {
	c.append = func(dst []byte, i int) []byte { return base64.StdEncoding.AppendEncode(dst, value(i)) }
	return c
}

// indirect makes c write what target writes at another index.
func indirect(c, target *cells, null func(int) bool, index func(int) int) *cells {
	c.form = target.form
	c.null = func(i int) bool { return null(i) || target.null(index(i)) }
	if target.text != nil {
		c.text = func(i int) string { return target.text(index(i)) }
	}
	if target.append != nil {
		c.append = func(dst []byte, i int) []byte { return target.append(dst, index(i)) }
	}
	return c
}

func structs(c *cells, a *array.Struct) *cells {
	names := jsonNames(a.DataType().(*arrow.StructType).Fields())
	fields := make([]*cells, a.NumField())
	for f := range fields {
		fields[f] = cellsOf(a.Field(f))
	}
	c.form = nestedForm
	c.append = func(dst []byte, i int) []byte {
		dst = append(dst, '{')
		for f, field := range fields {
			if f > 0 {
				dst = append(dst, ',')
			}
			dst = field.json(append(dst, names[f]...), i)
		}
		return append(dst, '}')
	}
	return c
}

// maps are written as a list of entries, since a key need not be a text and the
// order of the entries may matter.
func maps(c *cells, a *array.Map) *cells {
	keys, items := cellsOf(a.Keys()), cellsOf(a.Items())
	c.form = nestedForm
	c.append = func(dst []byte, i int) []byte {
		dst = append(dst, '[')
		start, end := a.ValueOffsets(i)
		for j := start; j < end; j++ {
			if j > start {
				dst = append(dst, ',')
			}
			dst = keys.json(append(dst, `{"key":`...), int(j))
			dst = items.json(append(dst, `,"value":`...), int(j))
			dst = append(dst, '}')
		}
		return append(dst, ']')
	}
	return c
}

func unions(c *cells, a array.Union) *cells {
	children := make([]*cells, a.NumFields())
	for f := range children {
		children[f] = cellsOf(a.Field(f))
	}
	at := func(i int) int { return i }
	if dense, ok := a.(*array.DenseUnion); ok {
		at = func(i int) int { return int(dense.ValueOffset(i)) }
	}
	c.form = nestedForm
	c.null = func(i int) bool { return children[a.ChildID(i)].null(at(i)) }
	c.append = func(dst []byte, i int) []byte { return children[a.ChildID(i)].json(dst, at(i)) }
	return c
}

func clocks[T ~int32 | ~int64](c *cells, values []T, unit arrow.TimeUnit) *cells {
	c.append = func(dst []byte, i int) []byte {
		per := int64(time.Second / unit.Multiplier())
		v := int64(values[i])
		return appendFraction(appendClock(dst, floorDiv(v, per)), v-floorDiv(v, per)*per, per)
	}
	return c
}

// timestamps are RFC 3339. A column with a zone holds instants and is written
// in UTC; one without holds what a clock on the wall showed, and has no offset.
func timestamps(c *cells, a *array.Timestamp) *cells {
	t := a.DataType().(*arrow.TimestampType)
	per := int64(time.Second / t.Unit.Multiplier())
	c.append = func(dst []byte, i int) []byte {
		v := int64(a.Value(i))
		seconds := floorDiv(v, per)
		day := floorDiv(seconds, 86400)
		dst = append(appendDay(dst, day), 'T')
		dst = appendFraction(appendClock(dst, seconds-day*86400), v-seconds*per, per)
		if t.TimeZone != "" {
			dst = append(dst, 'Z')
		}
		return dst
	}
	return c
}

func scaleOf(a arrow.Array) int { return int(a.DataType().(arrow.DecimalType).GetScale()) }

// appendFloat writes the shortest text that reads back as the same float, in
// the notation that JavaScript has.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

func appendDecimal(dst []byte, unscaled int64, scale int) []byte {
	magnitude := uint64(unscaled)
	if unscaled < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude
	}
	var digits [20]byte
	return appendPoint(dst, strconv.AppendUint(digits[:0], magnitude, 10), scale)
}

func appendBigDecimal(dst []byte, unscaled *big.Int, scale int) []byte {
	if unscaled.Sign() < 0 {
		dst = append(dst, '-')
	}
	var digits [80]byte
	return appendPoint(dst, new(big.Int).Abs(unscaled).Append(digits[:0], 10), scale)
}

// appendPoint writes digits with the decimal point that a scale puts in them.
func appendPoint(dst, digits []byte, scale int) []byte {
	if scale <= 0 {
		dst = append(dst, digits...)
		if len(digits) != 1 || digits[0] != '0' {
			for range -scale {
				dst = append(dst, '0')
			}
		}
		return dst
	}
	whole := len(digits) - scale
	if whole > 0 {
		dst = append(append(dst, digits[:whole]...), '.')
		return append(dst, digits[whole:]...)
	}
	dst = append(dst, '0', '.')
	for range -whole {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// appendDay writes a day, counted from 1970-01-01, as an ISO date of the
// proleptic Gregorian calendar. Years beyond four digits carry a sign, as ISO
// 8601 wants it.
func appendDay(dst []byte, day int64) []byte {
	// The days of an era of 400 years; a year is counted from its March, so that
	// the leap day is its last.
	const eraDays = 146097
	z := day + 719468
	era := floorDiv(z, eraDays)
	doe := z - era*eraDays
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d := doy - (153*mp+2)/5 + 1
	m := mp + 3
	y := yoe + era*400
	if m > 12 {
		m -= 12
		y++
	}
	switch {
	case y > 9999:
		dst = append(dst, '+')
	case y < 0:
		dst = append(dst, '-')
		y = -y
	}
	dst = append(appendPadded(dst, y, 4), '-')
	dst = append(appendPadded(dst, m, 2), '-')
	return appendPadded(dst, d, 2)
}

func appendClock(dst []byte, seconds int64) []byte {
	if seconds < 0 {
		dst, seconds = append(dst, '-'), -seconds
	}
	dst = append(appendPadded(dst, seconds/3600, 2), ':')
	dst = append(appendPadded(dst, seconds/60%60, 2), ':')
	return appendPadded(dst, seconds%60, 2)
}

// appendFraction writes ticks of 1/per second without trailing zeros.
func appendFraction(dst []byte, ticks, per int64) []byte {
	if ticks == 0 {
		return dst
	}
	width := 0
	for p := per; p > 1; p /= 10 {
		width++
	}
	dst = appendPadded(append(dst, '.'), ticks, width)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func appendPadded(dst []byte, n int64, width int) []byte {
	for p, w := int64(10), 1; w < width; p, w = p*10, w+1 {
		if n < p {
			dst = append(dst, '0')
		}
	}
	return strconv.AppendInt(dst, n, 10)
}

// appendSeconds writes a length of time as the seconds of an ISO 8601 duration.
func appendSeconds(dst []byte, ticks int64, unit arrow.TimeUnit) []byte {
	per := uint64(time.Second / unit.Multiplier())
	magnitude := uint64(ticks)
	if ticks < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude
	}
	dst = strconv.AppendUint(dst, magnitude/per, 10)
	return append(appendFraction(dst, int64(magnitude%per), int64(per)), 'S')
}

// appendInterval writes an interval as an ISO 8601 duration whose parts keep
// their own signs.
func appendInterval(dst []byte, months, days, ticks int64, unit arrow.TimeUnit) []byte {
	dst = append(dst, 'P')
	if months != 0 {
		dst = append(strconv.AppendInt(dst, months, 10), 'M')
	}
	if days != 0 {
		dst = append(strconv.AppendInt(dst, days, 10), 'D')
	}
	if ticks != 0 || months == 0 && days == 0 {
		dst = appendSeconds(append(dst, 'T'), ticks, unit)
	}
	return dst
}

func appendUUID(dst, u []byte) []byte {
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		start := 0
		if i > 0 {
			dst = append(dst, '-')
			start = [...]int{4, 6, 8, 10}[i-1]
		}
		dst = hex.AppendEncode(dst, u[start:end])
	}
	return dst
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

const hexDigits = "0123456789abcdef"

// appendJSONString writes s as a JSON string. A byte that is not UTF-8 becomes
// U+FFFD, so the output is valid whatever comes in. U+2028 and U+2029 are
// escaped for the sake of readers that take a line apart there.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if b >= ' ' && b != '"' && b != '\\' && b != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch b {
			case '"', '\\':
				dst = append(dst, '\\', b)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	return append(append(dst, s[start:]...), '"')
}

// jsonNames returns each field's name as it stands in a JSON object, with its
// colon. A name that was there before gets a number, so that no reader loses a
// value to a key that is there twice.
func jsonNames(fields []arrow.Field) [][]byte {
	taken := make(map[string]bool, len(fields))
	for _, f := range fields {
		taken[f.Name] = true
	}
	seen := make(map[string]bool, len(fields))
	names := make([][]byte, len(fields))
	for i, f := range fields {
		name := f.Name
		for n := 2; seen[name]; n++ {
			if next := f.Name + "_" + strconv.Itoa(n); !taken[next] {
				name = next
			}
		}
		seen[name], taken[name] = true, true
		names[i] = append(appendJSONString(nil, name), ':')
	}
	return names
}
