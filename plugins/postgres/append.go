package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
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

// reading is how a scan's values are read.
type reading struct {
	ascii bool // text is checked, for the server does not know its encoding
	null  bool // a special value becomes NULL
}

// newAppender chooses the appender of a form, once for a scan.
func (r reading) newAppender(f *form, b array.Builder) appender {
	add := r.appenderOf(f, b)
	if !f.special || !r.null {
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

func (r reading) appenderOf(f *form, b array.Builder) appender {
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
	return func([]byte) error { return errors.New("there is no appender for " + f.typ.String()) }
}

func (r reading) textAppender(f *form, b *array.StringBuilder) appender {
	jsonb := f.oid == oidJSONB
	return func(raw []byte) error {
		if jsonb {
			if len(raw) == 0 || raw[0] != 1 {
				return errJSONB
			}
			raw = raw[1:]
		}
		if r.ascii && !utf8.Valid(raw) {
			return errEncoding
		}
		b.BinaryBuilder.Append(raw)
		return nil
	}
}

func enumAppender(f *form, b array.Builder) appender {
	index := func(raw []byte) (int, error) {
		i, ok := f.labels[string(raw)]
		if !ok {
			return 0, fmt.Errorf("the label %q is not among those of its type: %w", raw, errChanged)
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
	wide := b.(*array.Int32Builder) // see form.enum
	return func(raw []byte) error {
		i, err := index(raw)
		if err == nil {
			wide.Append(int32(i))
		}
		return err
	}
}

// listAppender reads an array: its head says what follows.
func (r reading) listAppender(f *form, b *array.ListBuilder) appender {
	add := r.newAppender(f.elem, b.ValueBuilder())
	return func(raw []byte) error {
		n, items, err := readArray(raw)
		if err != nil {
			return err
		}
		b.Append(true)
		for range n {
			var v []byte
			if v, items, err = next(items); err != nil {
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

// structAppender reads a row: the number of its fields, and for each its type
// before its value.
func (r reading) structAppender(f *form, b *array.StructBuilder) appender {
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
			v, rest, err := next(items[4:])
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

// page is a page being built.
type page struct {
	schema  *arrow.Schema
	forms   []*form
	fields  []array.Builder
	labels  []arrow.Array // the dictionaries of the columns that have one, made with the first page
	add     []appender
	varying []int // the columns whose values have a width of their own
	width   int64 // of all
	rows    int64
	bytes   int64
}

func newPage(mem memory.Allocator, schema *arrow.Schema, columns []*column, r reading) *page {
	p := &page{schema: schema, labels: make([]arrow.Array, len(columns))}
	for i, c := range columns {
		t := c.form.typ
		if d, ok := t.(*arrow.DictionaryType); ok {
			t = d.IndexType
		}
		b := array.NewBuilder(mem, t)
		p.fields, p.forms = append(p.fields, b), append(p.forms, c.form)
		p.add = append(p.add, r.newAppender(c.form, b))
		p.width += c.form.width
		if c.form.varies() {
			p.varying = append(p.varying, i)
		}
	}
	return p
}

// size is what a row adds to the page, as sources.Size counts. A jsonb's
// version byte is counted too: a page may be that much smaller.
func (p *page) size(raw [][]byte) int64 {
	n := p.width
	for _, i := range p.varying {
		if raw[i] != nil {
			n += p.forms[i].extra(raw[i])
		}
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
func (p *page) record(mem memory.Allocator) arrow.RecordBatch {
	columns := make([]arrow.Array, 0, len(p.fields))
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, f := range p.fields {
		values := f.NewArray()
		if d, ok := p.forms[i].typ.(*arrow.DictionaryType); ok {
			values = p.dictionary(mem, i, d, values)
		}
		columns = append(columns, values)
	}
	r := array.NewRecordBatch(p.schema, columns, p.rows)
	p.rows, p.bytes = 0, 0
	return r
}

// dictionary takes the indices and puts them over the labels of their column.
func (p *page) dictionary(mem memory.Allocator, i int, t *arrow.DictionaryType, indices arrow.Array) arrow.Array {
	defer indices.Release()
	if p.labels[i] == nil {
		p.labels[i] = p.forms[i].dictionary(mem)
	}
	return array.NewDictionaryArray(t, indices, p.labels[i])
}

// dictionary is all labels in their order.
func (f *form) dictionary(mem memory.Allocator) arrow.Array {
	b := array.NewStringBuilder(mem)
	defer b.Release()
	all := make([]string, len(f.labels))
	for l, i := range f.labels {
		all[i] = l
	}
	for _, l := range all {
		b.Append(l)
	}
	return b.NewArray()
}

func (p *page) release() {
	for _, f := range p.fields {
		f.Release()
	}
	for _, l := range p.labels {
		if l != nil {
			l.Release()
		}
	}
}
