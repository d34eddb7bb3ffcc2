package outputs

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
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
	} {
		t.Run(test.name, func(t *testing.T) {
			arr := fromJSON(t, mem, test.typ, test.values)
			defer arr.Release()
			// A slice must write the same values as the whole: offsets are easy to forget.
			for from := range min(2, arr.Len()) {
				slice := array.NewSlice(arr, int64(from), int64(arr.Len()))
				var got []byte
				c := cellsOf(arrow.Field{Type: slice.DataType()}, slice)
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
		c := cellsOf(arrow.Field{Type: dt}, arr)
		var got []byte
		for i := range arr.Len() {
			got = append(c.json(got, i), ' ')
		}
		return string(got)
	}
	for _, test := range []struct{ name, want, got string }{
		{"floats", `"NaN" "Infinity" "-Infinity" -0.0 `, build(arrow.PrimitiveTypes.Float64, func(b array.Builder) {
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
