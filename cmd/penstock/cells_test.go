package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
)

// fromJSON builds an array of a type, whose last value is always NULL.
func fromJSON(t *testing.T, mem memory.Allocator, dt arrow.DataType, values string) arrow.Array {
	t.Helper()
	arr, _, err := array.FromJSON(mem, dt, strings.NewReader("["+values+",null]"))
	if err != nil {
		t.Fatalf("%s: %v", dt, err)
	}
	return arr
}

func TestCellsOfEveryType(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	text := arrow.BinaryTypes.String
	for _, test := range []struct {
		name   string
		typ    arrow.DataType
		values string
		want   string // JSON of the values, without the NULL
	}{
		{"bool", arrow.FixedWidthTypes.Boolean, `true,false`, `true,false`},
		{"int8", arrow.PrimitiveTypes.Int8, `-128,127`, `-128,127`},
		{"int16", arrow.PrimitiveTypes.Int16, `-32768`, `-32768`},
		{"int32", arrow.PrimitiveTypes.Int32, `-2147483648`, `-2147483648`},
		{"int64", arrow.PrimitiveTypes.Int64, `9223372036854775807,-9223372036854775808`, `9223372036854775807,-9223372036854775808`},
		{"uint8", arrow.PrimitiveTypes.Uint8, `255`, `255`},
		{"uint16", arrow.PrimitiveTypes.Uint16, `65535`, `65535`},
		{"uint32", arrow.PrimitiveTypes.Uint32, `4294967295`, `4294967295`},
		{"uint64", arrow.PrimitiveTypes.Uint64, `18446744073709551615`, `18446744073709551615`},
		{"float16", arrow.FixedWidthTypes.Float16, `1.5`, `1.5`},
		{"float32", arrow.PrimitiveTypes.Float32, `0.1`, `0.1`},
		{"float64", arrow.PrimitiveTypes.Float64, `0.1,1e21,1e-7,5`, `0.1,1e+21,1e-07,5`},
		{"decimal32", &arrow.Decimal32Type{Precision: 5, Scale: 2}, `"-1.05"`, `"-1.05"`},
		{"decimal64", &arrow.Decimal64Type{Precision: 12, Scale: 3}, `"0.005"`, `"0.005"`},
		{"decimal128", &arrow.Decimal128Type{Precision: 38, Scale: 2}, `"123456789012345678901234567890123456.78","0","-0.01"`, `"123456789012345678901234567890123456.78","0.00","-0.01"`},
		{"decimal256", &arrow.Decimal256Type{Precision: 50, Scale: 1}, `"-12345678901234567890123456789012345678901.5"`, `"-12345678901234567890123456789012345678901.5"`},
		{"string", text, `"a\"b\\\n\u0001é","\u2028"`, `"a\"b\\\n\u0001é","\u2028"`},
		{"large string", arrow.BinaryTypes.LargeString, `"x"`, `"x"`},
		{"string view", arrow.BinaryTypes.StringView, `"a text that is longer than twelve"`, `"a text that is longer than twelve"`},
		{"binary", arrow.BinaryTypes.Binary, `"AP8="`, `"AP8="`},
		{"large binary", arrow.BinaryTypes.LargeBinary, `"AP8="`, `"AP8="`},
		{"fixed binary", &arrow.FixedSizeBinaryType{ByteWidth: 2}, `"AP8="`, `"AP8="`},
		{"date32", arrow.FixedWidthTypes.Date32, `"1969-12-31","2024-02-29","0001-01-01"`, `"1969-12-31","2024-02-29","0001-01-01"`},
		{"date64", arrow.FixedWidthTypes.Date64, `"1969-12-31"`, `"1969-12-31"`},
		{"time32", arrow.FixedWidthTypes.Time32ms, `"23:59:59.5"`, `"23:59:59.5"`},
		{"time64", arrow.FixedWidthTypes.Time64ns, `"00:00:00.000000001"`, `"00:00:00.000000001"`},
		{"instant", arrow.FixedWidthTypes.Timestamp_us, `"1969-12-31T23:59:59.000001Z"`, `"1969-12-31T23:59:59.000001Z"`},
		{"local", &arrow.TimestampType{Unit: arrow.Second}, `"2024-01-31T10:00:00"`, `"2024-01-31T10:00:00"`},
		{"list", arrow.ListOf(text), `["a",null],[]`, `["a",null],[]`},
		{"large list", arrow.LargeListOf(arrow.PrimitiveTypes.Int8), `[1,2]`, `[1,2]`},
		{"fixed list", arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8), `[1,2]`, `[1,2]`},
		{"struct", arrow.StructOf(arrow.Field{Name: "a", Type: text, Nullable: true}, arrow.Field{Name: "b", Type: arrow.PrimitiveTypes.Int8, Nullable: true}), `{"a":"x","b":1},{"a":null,"b":2}`, `{"a":"x","b":1},{"a":null,"b":2}`},
		{"map", arrow.MapOf(text, arrow.PrimitiveTypes.Int8), `[{"key":"k","value":1}]`, `[{"key":"k","value":1}]`},
		{"dictionary", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: text}, `"a","b","a"`, `"a","b","a"`},
		{"run ends", arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, text), `"a","a","b"`, `"a","a","b"`},
		{"uuid", extensions.NewUUIDType(), `"00112233-4455-6677-8899-aabbccddeeff"`, `"00112233-4455-6677-8899-aabbccddeeff"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			arr := fromJSON(t, mem, test.typ, test.values)
			defer arr.Release()
			// A slice must write the same values as the whole: offsets are easy to forget.
			for from := range min(2, arr.Len()) {
				slice := array.NewSlice(arr, int64(from), int64(arr.Len()))
				var got []byte
				c := cellsOf(slice)
				for i := range slice.Len() {
					if i > 0 {
						got = append(got, ',')
					}
					got = c.json(got, i)
				}
				slice.Release()
				want := test.want + ",null"
				if from > 0 {
					var values []json.RawMessage
					if err := json.Unmarshal([]byte("["+want+"]"), &values); err != nil {
						t.Fatal(err)
					}
					var rest []string
					for _, v := range values[from:] {
						rest = append(rest, string(v))
					}
					want = strings.Join(rest, ",")
				}
				if diff := cmp.Diff(want, string(got)); diff != "" {
					t.Errorf("from %d (-want +got):\n%s", from, diff)
				}
			}
		})
	}
}

func TestCellsOfWhatJSONCannotSay(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	build := func(dt arrow.DataType, fill func(array.Builder)) string {
		b := array.NewBuilder(mem, dt)
		defer b.Release()
		fill(b)
		arr := b.NewArray()
		defer arr.Release()
		c := cellsOf(arr)
		var got []byte
		for i := range arr.Len() {
			got = append(c.json(got, i), ' ')
		}
		return string(got)
	}
	for _, test := range []struct{ name, want, got string }{
		{"floats", `"NaN" "Infinity" "-Infinity" -0 `, build(arrow.PrimitiveTypes.Float64, func(b array.Builder) {
			b.(*array.Float64Builder).AppendValues([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)}, nil)
		})},
		{"not UTF-8", `"a\ufffdb\ufffd" `, build(arrow.BinaryTypes.String, func(b array.Builder) {
			b.(*array.StringBuilder).Append("a\xffb\xc3")
		})},
		{"negative scale", `"1200" "0" `, build(&arrow.Decimal128Type{Precision: 4, Scale: -2}, func(b array.Builder) {
			b.(*array.Decimal128Builder).Append(decimal128.FromI64(12))
			b.(*array.Decimal128Builder).Append(decimal128.FromI64(0))
		})},
		{"far dates", `"-0001-12-31" "+10000-01-01" `, build(arrow.FixedWidthTypes.Date32, func(b array.Builder) {
			b.(*array.Date32Builder).Append(-719529)
			b.(*array.Date32Builder).Append(2932897)
		})},
		{"duration", `"PT-1.5S" "PT0S" `, build(arrow.FixedWidthTypes.Duration_ms, func(b array.Builder) {
			b.(*array.DurationBuilder).Append(-1500)
			b.(*array.DurationBuilder).Append(0)
		})},
		{"least duration", `"PT-9223372036854775808S" `, build(arrow.FixedWidthTypes.Duration_s, func(b array.Builder) {
			b.(*array.DurationBuilder).Append(math.MinInt64)
		})},
		{"interval", `"P14M-3DT0.000000001S" `, build(arrow.FixedWidthTypes.MonthDayNanoInterval, func(b array.Builder) {
			b.(*array.MonthDayNanoIntervalBuilder).Append(arrow.MonthDayNanoInterval{Months: 14, Days: -3, Nanoseconds: 1})
		})},
		{"null", `null `, build(arrow.Null, func(b array.Builder) { b.AppendNull() })},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// The dates of the civil calendar are those of the standard library.
func TestDaysAreThoseOfTheCalendar(t *testing.T) {
	for day := int64(-719162); day < 2932897; day += 97 {
		want := time.Unix(day*86400, 0).UTC().Format(time.DateOnly)
		if got := string(appendDay(nil, day)); got != want {
			t.Fatalf("day %d is %s, want %s", day, got, want)
		}
	}
}

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
		w, err := newRowWriter(test.format, &out, record.Schema(), memory.DefaultAllocator, tableLook{})
		if err != nil {
			t.Fatal(err)
		}
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
	w := newArrow(&out, record.Schema(), memory.DefaultAllocator)
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
	w := newTable(&out, schema, tableLook{Width: 8})
	if err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	want := "x\n────────\n日本語…\ntab\\the…\nplain\nNULL\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCSVRefusesNested(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String)}}, nil)
	_, err := newCSV(io.Discard, schema)
	want := `column "tags" is a list, which CSV cannot hold: leave it out with --columns, or use --format ndjson`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestJSONNamesAreUnique(t *testing.T) {
	fields := []arrow.Field{{Name: "a"}, {Name: "a"}, {Name: "a_2"}, {Name: "a"}, {Name: "\xff"}}
	want := []string{`"a":`, `"a_3":`, `"a_2":`, `"a_4":`, `"\ufffd":`}
	var got []string
	for _, n := range jsonNames(fields) {
		got = append(got, string(n))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzJSONString(f *testing.F) {
	for _, seed := range []string{"", "a\"\\\x00\x7f", "é\u2028\xff\xc3", "😀"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(appendJSONString(nil, s), &back); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if want := string([]rune(s)); back != want {
			t.Fatalf("%q came back as %q", want, back)
		}
	})
}

func TestNDJSONAllocatesPerChunkAlone(t *testing.T) {
	record := shopLine(memory.NewGoAllocator(), 10_000)
	defer record.Release()
	w := newNDJSON(io.Discard, record.Schema())
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
	w := newNDJSON(&size, record.Schema())
	for b.Loop() {
		size = 0
		if err := w.Write(record); err != nil {
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
