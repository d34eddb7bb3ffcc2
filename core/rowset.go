package core

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// keyType is the type that a column's keys have: an extension stands for its
// storage, a dictionary for its values.
func keyType(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case arrow.ExtensionType:
		return keyType(t.StorageType())
	case *arrow.DictionaryType:
		return keyType(t.ValueType)
	}
	return t
}

// rowSet are rows of several records, in an order of their own.
type rowSet struct {
	records []arrow.RecordBatch
	refs    []ref
}

// column picks one of the columns, a field of the records' schema.
func (r rowSet) column(mem memory.Allocator, place int, f arrow.Field) arrow.Array {
	return pick(mem, f.Type, f.Nullable, r.parts(place), r.refs)
}

func (r rowSet) parts(place int) []arrow.ArrayData {
	parts := make([]arrow.ArrayData, len(r.records))
	for i, record := range r.records {
		parts[i] = record.Column(place).Data()
	}
	return parts
}

// copied is a record of the rows that shares no memory with others.
func (r rowSet) copied(mem memory.Allocator, schema *arrow.Schema) arrow.RecordBatch {
	if len(r.refs) > 0 && contiguous(r.refs) {
		first := r.refs[0]
		return gather(mem, schema, r.records, []span{{record: int(first.record), from: int(first.row), rows: len(r.refs)}})
	}
	columns := make([]arrow.Array, 0, schema.NumFields())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, f := range schema.Fields() {
		columns = append(columns, r.column(mem, i, f))
	}
	return array.NewRecordBatch(schema, columns, int64(len(r.refs)))
}

// emptyRecord has no rows and needs no memory.
func emptyRecord(schema *arrow.Schema) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	return b.NewRecordBatch()
}

// pass yields a record that was made for it, and releases it afterwards.
func pass(yield func(sources.Batch, error) bool, record arrow.RecordBatch, cursor sources.Cursor) bool {
	defer record.Release()
	return yield(sources.Batch{Record: record, Cursor: cursor}, nil)
}
