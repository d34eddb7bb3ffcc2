package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

var errEncoding = errors.New("text that is not valid UTF-8, in a database that does not know the encoding of its text (SQL_ASCII); " +
	"leave the column out, or if the text is LATIN1, for example, read a view with " +
	"convert_from(convert(convert_to(COLUMN::text, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'SQL_ASCII') AS COLUMN")

// appender decodes a value from PostgreSQL's binary format and appends it to a builder. The
// value is not NULL.
type appender func(raw []byte) error

func fixed[T any](width int, decode func([]byte) (T, error), add func(T)) appender {
	return func(raw []byte) error {
		if len(raw) != width {
			return wrongWidth(len(raw), width)
		}
		v, err := decode(raw)
		if err == nil {
			add(v)
		}
		return err
	}
}

// decodeMode configures the appenders of a scan.
type decodeMode struct {
	checkUTF8   bool // check text, since the server does not know its encoding
	specialNull bool // special values become NULL
}

// newAppender returns the appender for a codec and a builder.
func (r decodeMode) newAppender(f *codec, b array.Builder) appender {
	add := r.appenderOf(f, b)
	if !f.hasSpecial || !r.specialNull {
		return add
	}
	return func(raw []byte) error {
		err := add(raw)
		if errors.Is(err, errSpecial) {
			b.AppendNull()
			return nil
		}
		return err
	}
}

func (r decodeMode) appenderOf(f *codec, b array.Builder) appender {
	if f.labels != nil {
		return enumAppender(f, b)
	}
	switch b := b.(type) {
	case *array.BooleanBuilder:
		return fixed(1, func(raw []byte) (bool, error) { return raw[0] != 0, nil }, b.Append)
	case *array.Int16Builder:
		return fixed(2, func(raw []byte) (int16, error) { return int16(binary.BigEndian.Uint16(raw)), nil }, b.Append)
	case *array.Int32Builder:
		return fixed(4, func(raw []byte) (int32, error) { return int32(binary.BigEndian.Uint32(raw)), nil }, b.Append)
	case *array.Int64Builder:
		return fixed(8, func(raw []byte) (int64, error) { return int64(binary.BigEndian.Uint64(raw)), nil }, b.Append)
	case *array.Float32Builder:
		return fixed(4, func(raw []byte) (float32, error) { return math.Float32frombits(binary.BigEndian.Uint32(raw)), nil }, b.Append)
	case *array.Float64Builder:
		return fixed(8, func(raw []byte) (float64, error) { return math.Float64frombits(binary.BigEndian.Uint64(raw)), nil }, b.Append)
	case *array.Date32Builder:
		return fixed(4, func(raw []byte) (arrow.Date32, error) {
			v, err := decodeDate(int32(binary.BigEndian.Uint32(raw)))
			return arrow.Date32(v), err
		}, b.Append)
	case *array.TimestampBuilder:
		return fixed(8, func(raw []byte) (arrow.Timestamp, error) {
			v, err := decodeTimestamp(int64(binary.BigEndian.Uint64(raw)))
			return arrow.Timestamp(v), err
		}, b.Append)
	case *array.Time64Builder:
		return fixed(8, func(raw []byte) (arrow.Time64, error) {
			v, err := decodeTime(int64(binary.BigEndian.Uint64(raw)))
			return arrow.Time64(v), err
		}, b.Append)
	case *array.MonthDayNanoIntervalBuilder:
		return fixed(16, decodeInterval, b.Append)
	case *array.FixedSizeBinaryBuilder:
		return fixed(16, func(raw []byte) ([]byte, error) { return raw, nil }, b.Append)
	case *array.Decimal128Builder:
		return func(raw []byte) error {
			v, err := decodeDecimal128(raw, f.prec, f.scale)
			if err == nil {
				b.Append(v)
			}
			return err
		}
	case *array.Decimal256Builder:
		return func(raw []byte) error {
			v, err := decodeDecimal256(raw, f.prec, f.scale)
			if err == nil {
				b.Append(v)
			}
			return err
		}
	case *array.StringBuilder:
		return r.textAppender(f, b)
	case *array.BinaryBuilder:
		return func(raw []byte) error {
			b.Append(raw)
			return nil
		}
	case *array.ListBuilder:
		return r.listAppender(f, b)
	case *array.StructBuilder:
		return r.structAppender(f, b)
	}
	return func([]byte) error { return errors.New("there is no decoder for " + f.typ.String()) }
}

func (r decodeMode) textAppender(f *codec, b *array.StringBuilder) appender {
	jsonb := f.oid == oidJSONB
	return func(raw []byte) error {
		if jsonb {
			if len(raw) == 0 || raw[0] != 1 {
				return errJSONB
			}
			raw = raw[1:]
		}
		if r.checkUTF8 && !utf8.Valid(raw) {
			return errEncoding
		}
		b.BinaryBuilder.Append(raw)
		return nil
	}
}

func enumAppender(f *codec, b array.Builder) appender {
	index := func(raw []byte) (int, error) {
		i, ok := f.labels[string(raw)]
		if !ok {
			return 0, fmt.Errorf("the label %q is not one of its type: %w", raw, errChanged)
		}
		return i, nil
	}
	if b, ok := b.(*array.Int16Builder); ok {
		return func(raw []byte) error {
			i, err := index(raw)
			if err == nil {
				b.Append(int16(i))
			}
			return err
		}
	}
	wide := b.(*array.Int32Builder) // see codec.enum
	return func(raw []byte) error {
		i, err := index(raw)
		if err == nil {
			wide.Append(int32(i))
		}
		return err
	}
}

// listAppender returns the appender of an array.
func (r decodeMode) listAppender(f *codec, b *array.ListBuilder) appender {
	add := r.newAppender(f.elem, b.ValueBuilder())
	return func(raw []byte) error {
		n, items, err := readArray(raw)
		if err != nil {
			return err
		}
		b.Append(true)
		for range n {
			var v []byte
			if v, items, err = nextItem(items); err != nil {
				return err
			}
			if v == nil {
				b.ValueBuilder().AppendNull()
			} else if err := add(v); err != nil {
				return err
			}
		}
		if len(items) > 0 {
			return errNested
		}
		return nil
	}
}

// structAppender returns the appender of a row. Its format is the number of fields, and the
// type and value of each field.
func (r decodeMode) structAppender(f *codec, b *array.StructBuilder) appender {
	add := make([]appender, len(f.fields))
	for i, c := range f.fields {
		add[i] = r.newAppender(c, b.FieldBuilder(i))
	}
	return func(raw []byte) error {
		if len(raw) < 4 {
			return errNested
		}
		if int(binary.BigEndian.Uint32(raw)) != len(add) {
			return errChanged
		}
		items := raw[4:]
		b.Append(true)
		for i := range add {
			if len(items) < 4 {
				return errNested
			}
			v, rest, err := nextItem(items[4:])
			if err != nil {
				return err
			}
			items = rest
			if v == nil {
				b.FieldBuilder(i).AppendNull()
			} else if err := add[i](v); err != nil {
				return fmt.Errorf("field %q: %w", f.names[i], err)
			}
		}
		if len(items) > 0 {
			return errNested
		}
		return nil
	}
}
