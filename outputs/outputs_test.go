package outputs

import (
	"bytes"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
)

func shopLine(mem memory.Allocator, rows int) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "price", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}},
		{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us},
	}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.Int64Builder).Append(int64(i) * 7919)
		if i%3 == 1 {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append([]string{"a, \"b\"", "", ""}[i%3])
		}
		b.Field(2).(*array.Decimal128Builder).Append(decimal128.FromI64(int64(i) - 1))
		b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(int64(i) * 1_000_001))
	}
	return b.NewRecordBatch()
}

func TestFormatsOfOneRecord(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	record := shopLine(mem, 3)
	defer record.Release()
	for _, test := range []struct{ format, want string }{
		{"ndjson", `{"id":0,"name":"a, \"b\"","price":"-0.01","at":"1970-01-01T00:00:00Z"}
{"id":7919,"name":null,"price":"0.00","at":"1970-01-01T00:00:01.000001Z"}
{"id":15838,"name":"","price":"0.01","at":"1970-01-01T00:00:02.000002Z"}
`},
		{"csv", `id,name,price,at
0,"a, ""b""",-0.01,1970-01-01T00:00:00Z
7919,,0.00,1970-01-01T00:00:01.000001Z
15838,"",0.01,1970-01-01T00:00:02.000002Z
`},
		{"table", `   id  name    price  at
─────  ──────  ─────  ───────────────────────────
    0  a, "b"  -0.01  1970-01-01T00:00:00Z
 7919  NULL     0.00  1970-01-01T00:00:01.000001Z
15838           0.01  1970-01-01T00:00:02.000002Z
`},
	} {
		var out bytes.Buffer
		w := newWriter(t, test.format, &out, record.Schema(), Options{Allocator: mem})
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.format, diff)
		}
	}
}

func TestArrowOutReadsBack(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	record := shopLine(mem, 100)
	defer record.Release()
	var out bytes.Buffer
	w := newWriter(t, "arrow", &out, record.Schema(), Options{Allocator: mem})
	for range 2 {
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(&out, ipc.WithAllocator(mem))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	records := 0
	for r.Next() {
		records++
		if !array.RecordEqual(record, r.RecordBatch()) {
			t.Errorf("record %d is another one", records)
		}
	}
	if r.Err() != nil || records != 2 {
		t.Errorf("%d records, error %v", records, r.Err())
	}
}

func TestTableKeepsToItsWidth(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	arr := fromJSON(t, mem, arrow.BinaryTypes.String, `"日本語日本語日本語","tab\there \u001b[31m","plain"`)
	defer arr.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arr.DataType(), Nullable: true}}, nil)
	record := array.NewRecordBatch(schema, []arrow.Array{arr}, int64(arr.Len()))
	defer record.Release()
	var out bytes.Buffer
	w := newWriter(t, "table", &out, schema, Options{Allocator: mem, Table: TableOptions{Width: 8}})
	if err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := "x\n────────\n日本語…\ntab\\the…\nplain\nNULL\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCSVRefusesNested(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String)}}, nil)
	format, _ := Lookup("csv")
	_, err := format.NewWriter(io.Discard, schema, Options{})
	want := `column "tags" is a list, which CSV cannot hold: leave it out, or choose the ndjson format`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNDJSONAllocatesPerChunkAlone(t *testing.T) {
	record := shopLine(memory.NewGoAllocator(), 10_000)
	defer record.Release()
	w := newWriter(t, "ndjson", io.Discard, record.Schema(), Options{})
	defer w.Abort()
	allocations := testing.AllocsPerRun(5, func() {
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 100 {
		t.Errorf("%.0f allocations for 10,000 rows", allocations)
	}
}

func BenchmarkNDJSON(b *testing.B) {
	record := shopLine(memory.NewGoAllocator(), 10_000)
	defer record.Release()
	var size countingWriter
	w := newWriter(b, "ndjson", &size, record.Schema(), Options{})
	defer w.Abort()
	for b.Loop() {
		size = 0
		if err := w.Write(record); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Flush(); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(size))
}

type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}
