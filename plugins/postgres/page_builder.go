package postgres

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// pageBuilder builds the pages of a scan.
type pageBuilder struct {
	schema    *arrow.Schema
	codecs    []*codec
	builders  []array.Builder
	labels    []arrow.Array // the dictionaries of enum columns, made with the first page
	appenders []appender
	varying   []int // the columns whose values vary in size
	width     int64 // of all columns
	rows      int64
	bytes     int64
}

func newPageBuilder(mem memory.Allocator, schema *arrow.Schema, columns []*column, r decodeMode) *pageBuilder {
	p := &pageBuilder{schema: schema, labels: make([]arrow.Array, len(columns))}
	for i, c := range columns {
		t := c.codec.typ
		if d, ok := t.(*arrow.DictionaryType); ok {
			t = d.IndexType
		}
		b := array.NewBuilder(mem, t)
		p.builders, p.codecs = append(p.builders, b), append(p.codecs, c.codec)
		p.appenders = append(p.appenders, r.newAppender(c.codec, b))
		p.width += c.codec.width
		if c.codec.varies() {
			p.varying = append(p.varying, i)
		}
	}
	return p
}

// size returns what a row adds to the size of the page, as counted by sources.Size. It
// includes the version byte of jsonb values, so pages may be slightly smaller.
func (p *pageBuilder) size(raw [][]byte) int64 {
	n := p.width
	for _, i := range p.varying {
		if raw[i] != nil {
			n += p.codecs[i].extra(raw[i])
		}
	}
	return n
}

// append adds a row. On an error, it also returns the index of the column.
func (p *pageBuilder) append(raw [][]byte) (int, error) {
	for i, add := range p.appenders {
		v := raw[i]
		if v == nil {
			if !p.schema.Field(i).Nullable {
				return i, errNullValue
			}
			p.builders[i].AppendNull()
			continue
		}
		if err := add(v); err != nil {
			return i, err
		}
	}
	p.rows++
	return 0, nil
}

// record returns the rows as a record and starts a new page.
func (p *pageBuilder) record(mem memory.Allocator) arrow.RecordBatch {
	columns := make([]arrow.Array, 0, len(p.builders))
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, f := range p.builders {
		values := f.NewArray()
		if d, ok := p.codecs[i].typ.(*arrow.DictionaryType); ok {
			values = p.dictionary(mem, i, d, values)
		}
		columns = append(columns, values)
	}
	r := array.NewRecordBatch(p.schema, columns, p.rows)
	p.rows, p.bytes = 0, 0
	return r
}

// dictionary returns a dictionary array of the labels of column i with the given indexes,
// which it releases.
func (p *pageBuilder) dictionary(mem memory.Allocator, i int, t *arrow.DictionaryType, indices arrow.Array) arrow.Array {
	defer indices.Release()
	if p.labels[i] == nil {
		p.labels[i] = p.codecs[i].dictionary(mem)
	}
	return array.NewDictionaryArray(t, indices, p.labels[i])
}

// dictionary returns all labels in their order.
func (f *codec) dictionary(mem memory.Allocator) arrow.Array {
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

func (p *pageBuilder) release() {
	for _, f := range p.builders {
		f.Release()
	}
	for _, l := range p.labels {
		if l != nil {
			l.Release()
		}
	}
}
