package rows

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// ValueType is the type that a column's keys have: an extension stands for its
// storage, a dictionary for its values.
func ValueType(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case arrow.ExtensionType:
		return ValueType(t.StorageType())
	case *arrow.DictionaryType:
		return ValueType(t.ValueType)
	}
	return t
}

// Set are rows of several records, in an order of their own.
type Set struct {
	Records []arrow.RecordBatch
	Refs    []Ref
}

// Column picks one of the columns, a field of the records' schema.
func (r Set) Column(mem memory.Allocator, place int, f arrow.Field) arrow.Array {
	return Take(mem, f.Type, f.Nullable, r.Parts(place), r.Refs)
}

func (r Set) Parts(place int) []arrow.ArrayData {
	parts := make([]arrow.ArrayData, len(r.Records))
	for i, record := range r.Records {
		parts[i] = record.Column(place).Data()
	}
	return parts
}

// Copy is a record of the rows that shares no memory with others.
func (r Set) Copy(mem memory.Allocator, schema *arrow.Schema) arrow.RecordBatch {
	if len(r.Refs) > 0 && contiguous(r.Refs) {
		first := r.Refs[0]
		return CopyRanges(mem, schema, r.Records, []Range{{Record: int(first.Record), From: int(first.Row), Rows: len(r.Refs)}})
	}
	columns := make([]arrow.Array, 0, schema.NumFields())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, f := range schema.Fields() {
		columns = append(columns, r.Column(mem, i, f))
	}
	return array.NewRecordBatch(schema, columns, int64(len(r.Refs)))
}

// Empty has no rows and needs no memory.
func Empty(schema *arrow.Schema) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	return b.NewRecordBatch()
}

// YieldOwned yields a record that was made for it, and releases it afterwards.
func YieldOwned(yield func(sources.Batch, error) bool, record arrow.RecordBatch, cursor sources.Cursor) bool {
	defer record.Release()
	return yield(sources.Batch{Record: record, Cursor: cursor}, nil)
}
