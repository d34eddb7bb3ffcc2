package postgres

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

var errEncoding = errors.New("text that is not UTF-8")

// appender appends one value in PostgreSQL's binary form to a column that is
// being built. The value is not NULL.
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

// newAppender chooses the appender of a column, once for a scan. Text is
// checked where the server does not know its encoding.
func newAppender(c *column, b array.Builder, check bool) appender {
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
	case *array.FixedSizeBinaryBuilder:
		return fixed(16, func(raw []byte) ([]byte, error) { return raw, nil }, b.Append)
	case *array.Decimal128Builder:
		return func(raw []byte) error {
			v, err := decodeDecimal128(raw, c.prec, c.scale)
			if err == nil {
				b.Append(v)
			}
			return err
		}
	case *array.Decimal256Builder:
		return func(raw []byte) error {
			v, err := decodeDecimal256(raw, c.prec, c.scale)
			if err == nil {
				b.Append(v)
			}
			return err
		}
	case *array.StringBuilder:
		jsonb := c.oid == oidJSONB
		return func(raw []byte) error {
			if jsonb {
				if len(raw) == 0 || raw[0] != 1 {
					return errJSONB
				}
				raw = raw[1:]
			}
			if check && !utf8.Valid(raw) {
				return errEncoding
			}
			b.BinaryBuilder.Append(raw)
			return nil
		}
	case *array.BinaryBuilder:
		return func(raw []byte) error {
			b.Append(raw)
			return nil
		}
	}
	return func([]byte) error { return errors.New("there is no appender for " + c.field.Type.String()) }
}

// page is a page being built.
type page struct {
	schema  *arrow.Schema
	fields  []array.Builder
	add     []appender
	varying []int // the columns whose values have a width of their own
	width   int64 // of the others, and of the offsets
	rows    int64
	bytes   int64
}

// size is what a row adds to the page, as sources.Size counts. A jsonb's
// version byte is counted too: a page may be that much smaller.
func (p *page) size(raw [][]byte) int64 {
	n := p.width
	for _, i := range p.varying {
		n += int64(len(raw[i]))
	}
	return n
}

// append adds a row. It returns the index of the column that refused its value.
func (p *page) append(raw [][]byte) (int, error) {
	for i, add := range p.add {
		v := raw[i]
		if v == nil {
			if !p.schema.Field(i).Nullable {
				return i, errNullValue
			}
			p.fields[i].AppendNull()
			continue
		}
		if err := add(v); err != nil {
			return i, err
		}
	}
	p.rows++
	return 0, nil
}

// record hands out what was built; the page is empty after it.
func (p *page) record() arrow.RecordBatch {
	columns := make([]arrow.Array, 0, len(p.fields))
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for _, f := range p.fields {
		columns = append(columns, f.NewArray())
	}
	r := array.NewRecordBatch(p.schema, columns, p.rows)
	p.rows, p.bytes = 0, 0
	return r
}

func (p *page) release() {
	for _, f := range p.fields {
		f.Release()
	}
}
