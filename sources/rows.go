package sources

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/float16"
)

// Row is one row of the result of a scan, for [FromRows].
type Row struct {
	// Values has a value for each column of the schema: nil for NULL, a bool, an
	// integer or float of any Go type, a string, []byte, time.Time for dates and
	// timestamps, time.Duration for times of day and durations, decimal128.Num or
	// decimal256.Num (unscaled), a [Value], or []any for the elements of a list or the
	// fields of a struct.
	//
	// A value must fit its column exactly. For example, 5 fits an int16 and a decimal,
	// but 1.5 does not fit an integer. Values are never rounded.
	Values []any
	// Cursor resumes the scan after this row, if the table has [CapResume].
	Cursor Cursor
}

// FromRows returns a scan with pages built from rows. Pages respect env.Page, and
// their memory comes from env.Mem. FromRows does not retain the slices of a Row, so
// the producer may reuse them.
//
// A page is handed on when it is full, or with a row that arrives when the page is due;
// see [Env.FlushAfter]. While the producer prepares its next row, FromRows cannot hand
// on the rows before it.
//
// If a value does not fit its column, the error is of kind [Invalid] and names the row
// and the column. Rows before an error are yielded first, except for rows without a
// cursor before an error of kind [Unavailable]: the engine could not retry the scan
// after them.
func FromRows(env Env, schema *arrow.Schema, rows iter.Seq2[Row, error]) Batches {
	limits := env.Page.OrDefault()
	schema = NormalizeSchema(schema) // not every extension type has a usable builder
	return func(yield func(Batch, error) bool) {
		p := pager{builder: array.NewRecordBuilder(env.Mem, schema), fields: schema.Fields()}
		defer p.builder.Release()
		pages, position := 0, int64(0)
		dueAt := env.DueAt(time.Now())
		flush := func(due bool) bool {
			batch := Batch{Record: p.builder.NewRecordBatch(), Cursor: p.cursor, Due: due}
			if schema.NumFields() == 0 { // the builder cannot count rows without columns
				batch.Record = array.NewRecordBatch(schema, nil, p.rows)
			}
			defer batch.Record.Release()
			p.rows, p.bytes = 0, 0
			pages++
			more := yield(batch, nil)
			dueAt = env.DueAt(time.Now())
			return more
		}
		for row, err := range rows {
			var size int64
			if err == nil {
				position++
				size, err = p.convert(position, row.Values)
			}
			if err != nil {
				if p.rows > 0 && (p.cursor != nil || KindOf(err) != Unavailable) && !flush(false) {
					return
				}
				yield(Batch{}, err)
				return
			}
			if p.rows > 0 && (p.rows >= limits.Rows || p.bytes+size > limits.Bytes) && !flush(false) {
				return
			}
			p.append(size)
			p.cursor = row.Cursor
			if !dueAt.IsZero() && time.Until(dueAt) <= 0 && !flush(true) {
				return
			}
		}
		if p.rows > 0 || pages == 0 {
			flush(false)
		}
	}
}

type pager struct {
	builder *array.RecordBuilder
	fields  []arrow.Field
	row     []any // the converted values of the row to append
	rows    int64
	bytes   int64
	cursor  Cursor
}

// convert converts the values of a row to the types of their columns, and returns
// their [Size]. The position of the row counts from 1.
func (p *pager) convert(position int64, values []any) (int64, error) {
	if len(values) != len(p.fields) {
		return 0, Errorf(Invalid, "", "", "row %d has %d values, but the table has %d columns", position, len(values), len(p.fields))
	}
	p.row = p.row[:0]
	var size int64
	for i, v := range values {
		f := &p.fields[i]
		x, n, err := convertAny(v, f.Type)
		if err == nil && x == nil && !f.Nullable {
			err = errors.New("NULL in a column that has none")
		}
		if err != nil {
			return 0, Errorf(Invalid, "", "", "row %d, column %q: %w", position, f.Name, err)
		}
		p.row = append(p.row, x)
		size += n
	}
	return size, nil
}

func (p *pager) append(size int64) {
	for i, x := range p.row {
		appendAny(p.builder.Field(i), x)
	}
	p.rows++
	p.bytes += size
}

var errNull = errors.New("NULL in a field that is not nullable")

// convertAny returns v in the form that appendAny accepts for type t, and its Size.
// The form is nil, the V of a Value, or a slice of such.
func convertAny(v any, t arrow.DataType) (any, int64, error) {
	switch t := t.(type) {
	case arrow.ListLikeType:
		// The size of the list without its elements, as Size counts it.
		size, fixed := int64(4), -1
		switch t := t.(type) {
		case *arrow.LargeListType:
			size = 8
		case *arrow.FixedSizeListType:
			size, fixed = 0, int(t.Len())
		}
		if v == nil {
			if fixed > 0 { // even a NULL has its elements
				_, n, err := convertAny(nil, t.Elem())
				return nil, int64(fixed) * n, err
			}
			return nil, size, nil
		}
		items, ok := v.([]any)
		if !ok {
			return nil, 0, fmt.Errorf("%T does not fit %s", v, t)
		}
		if fixed >= 0 && len(items) != fixed {
			return nil, 0, fmt.Errorf("%d elements do not fit %s", len(items), t)
		}
		out := make([]any, len(items))
		for i, item := range items {
			x, n, err := convertAny(item, t.Elem())
			if err == nil && x == nil && !t.ElemField().Nullable {
				err = errNull
			}
			if err != nil {
				return nil, 0, fmt.Errorf("element %d: %w", i+1, err)
			}
			out[i], size = x, size+n
		}
		return out, size, nil
	case *arrow.StructType:
		fields, ok := v.([]any)
		if v != nil && (!ok || len(fields) != t.NumFields()) {
			return nil, 0, fmt.Errorf("%T does not fit %s", v, t)
		}
		if v == nil {
			fields = make([]any, t.NumFields())
		}
		out, size := make([]any, t.NumFields()), int64(0)
		for i, field := range fields {
			x, n, err := convertAny(field, t.Field(i).Type)
			if err == nil && x == nil && v != nil && !t.Field(i).Nullable {
				err = errNull
			}
			if err != nil {
				return nil, 0, fmt.Errorf("field %q: %w", t.Field(i).Name, err)
			}
			out[i], size = x, size+n
		}
		if v == nil {
			return nil, size, nil
		}
		return out, size, nil
	}
	value, err := toValue(v, t)
	if err != nil {
		return nil, 0, err
	}
	fit, ok := Convert(value, t)
	if !ok {
		return nil, 0, fmt.Errorf("%s does not fit %s exactly", excerpt(value), t)
	}
	return fit.V, scalarSize(fit, t), nil
}

// maxExcerpt limits what an error repeats of a value, in bytes.
const maxExcerpt = 100

// excerpt returns a value for an error.
func excerpt(v Value) string {
	text := v.String()
	if len(text) <= maxExcerpt {
		return text
	}
	return strings.ToValidUTF8(text[:maxExcerpt], "") + "..."
}

func scalarSize(v Value, t arrow.DataType) int64 {
	text, _ := v.V.(string)
	switch t := t.(type) {
	case *arrow.StringType, *arrow.BinaryType:
		return 4 + int64(len(text))
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		return 8 + int64(len(text))
	case *arrow.BooleanType:
		return 1
	case arrow.FixedWidthDataType:
		return int64(t.BitWidth() / 8)
	}
	return 0
}

// toValue returns a Go value as a Value. The column's type t decides if the Go type
// is ambiguous.
func toValue(v any, t arrow.DataType) (Value, error) {
	switch x := v.(type) {
	case nil:
		return Null(t), nil
	case Value:
		return x, nil
	case bool:
		return Bool(x), nil
	case int:
		return Int(int64(x)), nil
	case int8:
		return Int(int64(x)), nil
	case int16:
		return Int(int64(x)), nil
	case int32:
		return Int(int64(x)), nil
	case int64:
		return Int(x), nil
	case uint:
		return Uint(uint64(x)), nil
	case uint8:
		return Uint(uint64(x)), nil
	case uint16:
		return Uint(uint64(x)), nil
	case uint32:
		return Uint(uint64(x)), nil
	case uint64:
		return Uint(x), nil
	case float32:
		return Float(float64(x)), nil
	case float64:
		return Float(x), nil
	case string:
		if isBinary(t) {
			return Bytes([]byte(x)), nil
		}
		return Text(x), nil
	case []byte:
		return Bytes(x), nil
	case decimal128.Num, decimal256.Num:
		if d, ok := t.(arrow.DecimalType); ok {
			return Value{Type: d, V: x}, nil
		}
	case time.Duration:
		switch classOf(t) {
		case timeClass:
			return Value{Type: &arrow.Time64Type{Unit: arrow.Nanosecond}, V: int64(x)}, nil
		case durationClass:
			return Value{Type: &arrow.DurationType{Unit: arrow.Nanosecond}, V: int64(x)}, nil
		}
	case time.Time:
		switch t := t.(type) {
		case *arrow.Date32Type, *arrow.Date64Type:
			return Date(x), nil
		case *arrow.TimestampType:
			n, ok := ticks(x, t.Unit)
			if !ok {
				return Value{}, fmt.Errorf("%s does not fit %s exactly", x.Format(time.RFC3339Nano), t)
			}
			return Value{Type: t, V: n}, nil
		}
	}
	return Value{}, fmt.Errorf("%T does not fit %s", v, t)
}

// ticks returns t in units since 1970-01-01 UTC, and whether it is an integral number
// in range.
func ticks(t time.Time, unit arrow.TimeUnit) (int64, bool) {
	perSecond := int64(time.Second / unit.Multiplier())
	nanos := int64(t.Nanosecond())
	if nanos%int64(unit.Multiplier()) != 0 {
		return 0, false
	}
	n := t.Unix()*perSecond + nanos/int64(unit.Multiplier())
	back := arrow.Timestamp(n).ToTime(unit)
	return n, back.Equal(t)
}

// appendAny appends what convertAny returned.
func appendAny(b array.Builder, x any) {
	if x == nil {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(x.(bool))
	case *array.Int8Builder:
		b.Append(int8(x.(int64)))
	case *array.Int16Builder:
		b.Append(int16(x.(int64)))
	case *array.Int32Builder:
		b.Append(int32(x.(int64)))
	case *array.Int64Builder:
		b.Append(x.(int64))
	case *array.Uint8Builder:
		b.Append(uint8(x.(uint64)))
	case *array.Uint16Builder:
		b.Append(uint16(x.(uint64)))
	case *array.Uint32Builder:
		b.Append(uint32(x.(uint64)))
	case *array.Uint64Builder:
		b.Append(x.(uint64))
	case *array.Float16Builder:
		b.Append(float16.New(float32(x.(float64))))
	case *array.Float32Builder:
		b.Append(float32(x.(float64)))
	case *array.Float64Builder:
		b.Append(x.(float64))
	case *array.Decimal32Builder:
		b.Append(decimal.Decimal32(int32(x.(decimal128.Num).LowBits())))
	case *array.Decimal64Builder:
		b.Append(decimal.Decimal64(int64(x.(decimal128.Num).LowBits())))
	case *array.Decimal128Builder:
		b.Append(x.(decimal128.Num))
	case *array.Decimal256Builder:
		b.Append(x.(decimal256.Num))
	case *array.StringBuilder:
		if d, ok := x.(Digits); ok {
			x = string(d)
		}
		b.Append(x.(string))
	case *array.LargeStringBuilder:
		b.Append(x.(string))
	case *array.BinaryBuilder: // binary and large binary
		b.AppendString(x.(string))
	case *array.FixedSizeBinaryBuilder:
		b.Append([]byte(x.(string)))
	case *array.Date32Builder:
		b.Append(arrow.Date32(x.(int64)))
	case *array.Date64Builder:
		b.Append(arrow.Date64(x.(int64)))
	case *array.Time32Builder:
		b.Append(arrow.Time32(x.(int64)))
	case *array.Time64Builder:
		b.Append(arrow.Time64(x.(int64)))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(x.(int64)))
	case *array.DurationBuilder:
		b.Append(arrow.Duration(x.(int64)))
	case array.ListLikeBuilder:
		b.Append(true)
		for _, item := range x.([]any) {
			appendAny(b.ValueBuilder(), item)
		}
	case *array.StructBuilder:
		b.Append(true)
		for i, field := range x.([]any) {
			appendAny(b.FieldBuilder(i), field)
		}
	default:
		panic(Errorf(Invalid, "", "", "rows cannot build a column of type %s", b.Type()))
	}
}

// AppendValue appends v to b. The value must have the type of the builder; see
// [Convert].
func AppendValue(b array.Builder, v Value) { appendAny(b, v.V) }
