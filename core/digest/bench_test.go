package digest_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/digest"
)

// sales returns a record with columns like those of bench/csv.
func sales(n int) arrow.RecordBatch {
	decimal := &arrow.Decimal128Type{Precision: 18, Scale: 2}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "customer", Type: arrow.PrimitiveTypes.Int64}, {Name: "price", Type: decimal},
		{Name: "quantity", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "day", Type: arrow.PrimitiveTypes.Date32}, {Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us},
		{Name: "status", Type: arrow.BinaryTypes.String}, {Name: "name", Type: arrow.BinaryTypes.String}, {Name: "rate", Type: decimal}, {Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		for c, f := range b.Fields() {
			if (c == 3 || c == 9) && random.IntN(15) == 0 {
				f.AppendNull()
				continue
			}
			switch f := f.(type) {
			case *array.Int64Builder:
				f.Append(int64(i))
			case *array.Decimal128Builder:
				f.Append(decimal128.FromI64(random.Int64N(200_000)))
			case *array.Date32Builder:
				f.Append(arrow.Date32(random.IntN(20000)))
			case *array.TimestampBuilder:
				f.Append(arrow.Timestamp(random.Int64N(1e15)))
			case *array.StringBuilder:
				f.Append(strings.Repeat("x", 4+random.IntN([...]int{6: 5, 7: 10, 9: 50}[c])))
			}
		}
	}
	return b.NewRecordBatch()
}

func BenchmarkAdd(b *testing.B) {
	all := sales(4000)
	defer all.Release()
	add := func(name string, columns []arrow.Array) {
		b.Run(name, func(b *testing.B) {
			d := digest.New(all.Schema())
			for range b.N {
				d.AddColumns(columns, 0, all.NumRows())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(int64(b.N)*all.NumRows()), "ns/row")
		})
	}
	add("all", all.Columns())
	add("none", nil)
	for i, f := range all.Schema().Fields() {
		add(fmt.Sprintf("%d %s", i, f.Name), all.Columns()[i:i+1])
	}
}
