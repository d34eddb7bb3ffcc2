package outputs

import (
	"encoding/base64"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/sources"
)

// form describes the text of a column, which determines how a format quotes it.
type form uint8

const (
	bareForm   form = iota // a JSON number or boolean
	floatForm              // a JSON number, or NaN, Infinity, -Infinity
	plainForm              // ASCII without a character that JSON or CSV must escape
	textForm               // any text, perhaps not UTF-8
	nestedForm             // JSON already: a list, a map, a struct, a union
	jsonForm               // text that should be JSON
)

// cells converts the values of one array to text, which is the same in every format
// except for quotes. It is valid as long as its array is.
type cells struct {
	form form
	// null reports whether a row is NULL, also within a dictionary.
	null func(i int) bool
	// append appends the text of a row that is not NULL; nil for textForm and jsonForm.
	append func(dst []byte, i int) []byte
	// text returns the text of a row that is not NULL, in the array's memory; nil
	// unless the form is textForm or jsonForm.
	text func(i int) string
}

// json appends a row's value as JSON.
func (c *cells) json(dst []byte, i int) []byte {
	if c.null(i) {
		return append(dst, "null"...)
	}
	switch c.form {
	case textForm:
		return appendJSONString(dst, c.text(i))
	case jsonForm:
		return appendJSON(dst, c.text(i))
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

// plain appends a row's text without quotes. The row must not be NULL.
func (c *cells) plain(dst []byte, i int) []byte {
	if c.text != nil {
		return append(dst, c.text(i)...)
	}
	return c.append(dst, i)
}

// cellsOfAll returns the cells of a record's columns. The record must be normalized.
func cellsOfAll(record arrow.RecordBatch) []*cells {
	columns := make([]*cells, record.NumCols())
	for i := range columns {
		columns[i] = cellsOf(record.Schema().Field(i), record.Column(i))
	}
	return columns
}

// cellsOf returns the cells of a field's array. It allocates for each array, so that no
// row needs to.
func cellsOf(f arrow.Field, arr arrow.Array) *cells {
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
		c.form, c.text = formOfText(f), a.Value
	case *array.LargeString:
		c.form, c.text = formOfText(f), a.Value
	case *array.StringView:
		c.form, c.text = formOfText(f), a.Value
	case *array.Binary:
		return binaries(c, a.Value)
	case *array.LargeBinary:
		return binaries(c, a.Value)
	case *array.BinaryView:
		return binaries(c, a.Value)
	case *array.FixedSizeBinary:
		if !sources.IsUUID(f) {
			return binaries(c, a.Value)
		}
		c.append = func(dst []byte, i int) []byte { return sources.AppendUUID(dst, a.Value(i)) }
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
		f.Type = a.Dictionary().DataType()
		return indirect(c, cellsOf(f, a.Dictionary()), a.IsNull, a.GetValueIndex)
	case *array.RunEndEncoded:
		f.Type = a.Values().DataType()
		return indirect(c, cellsOf(f, a.Values()), func(int) bool { return false }, a.GetPhysicalIndex)
	case *array.Struct:
		return structs(c, a)
	case *array.Map:
		return maps(c, a)
	case array.ListLike:
		values := cellsOf(a.DataType().(arrow.ListLikeType).ElemField(), a.ListValues())
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

func formOfText(f arrow.Field) form {
	if sources.IsJSON(f) {
		return jsonForm
	}
	return textForm
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

// indirect makes c return the cells of target at another index.
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
