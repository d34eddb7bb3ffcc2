package rows

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// Set is an ordered selection of rows of several records. The records have one
// schema. The set does not own them: they must outlive it.
type Set struct {
	Records []arrow.RecordBatch
	Refs    []Ref // the rows, in the set's order
}

// Column returns the column with index i, whose field is f, of the rows in the
// set. The caller releases it. See [Take] for what it allocates.
func (s Set) Column(mem memory.Allocator, i int, f arrow.Field) arrow.Array {
	return Take(mem, f.Type, f.Nullable, s.Parts(i), s.Refs)
}

// Parts returns the data of the column with index i of each record, without
// retaining it.
func (s Set) Parts(i int) []arrow.ArrayData {
	parts := make([]arrow.ArrayData, len(s.Records))
	for j, record := range s.Records {
		parts[j] = record.Column(i).Data()
	}
	return parts
}

// Copy returns a record of the rows in the set, which the caller releases. It shares
// no memory with the records, except for dictionaries.
func (s Set) Copy(mem memory.Allocator, schema *arrow.Schema) arrow.RecordBatch {
	if len(s.Refs) > 0 && contiguous(s.Refs) {
		first := s.Refs[0]
		return CopyRanges(mem, schema, s.Records, []Range{{Record: int(first.Record), From: int(first.Row), Rows: len(s.Refs)}})
	}
	columns := make([]arrow.Array, 0, schema.NumFields())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, f := range schema.Fields() {
		columns = append(columns, s.Column(mem, i, f))
	}
	return array.NewRecordBatch(schema, columns, int64(len(s.Refs)))
}

// Empty returns a record without rows, which the caller releases. It takes no
// memory from a budget.
func Empty(schema *arrow.Schema) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	return b.NewRecordBatch()
}

// YieldOwned yields a page, then releases its record, which the caller has given up.
// It reports whether the loop continues.
func YieldOwned(yield func(sources.Batch, error) bool, page sources.Batch) bool {
	defer page.Record.Release()
	return yield(page, nil)
}
