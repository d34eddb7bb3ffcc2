package wasm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// oneRow parses a line into a record of one column and returns its value's text.
func oneRow(line string, t arrow.DataType) (string, error) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: t, Nullable: true}}, nil)
	values, err := parseRow([]byte(line), schema)
	if err != nil {
		return "", err
	}
	rows := func(yield func(sources.Row, error) bool) { yield(sources.Row{Values: values}, nil) }
	for b, err := range sources.Guard("", "", sources.FromRows(sources.Env{Mem: memory.DefaultAllocator}, schema, rows)) {
		if err != nil {
			return "", err
		}
		return sources.ValueAt(b.Record.Column(0), 0).String(), nil
	}
	return "", nil
}

var (
	decimal     = &arrow.Decimal128Type{Precision: 5, Scale: 2}
	hundreds    = &arrow.Decimal128Type{Precision: 5, Scale: -2}
	wide        = &arrow.Decimal256Type{Precision: 40, Scale: 0}
	local       = &arrow.TimestampType{Unit: arrow.Millisecond}
	seconds     = arrow.FixedWidthTypes.Time32s
	nanoseconds = arrow.FixedWidthTypes.Time64ns
	point       = arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int8, Nullable: true}, arrow.Field{Name: "y", Type: decimal, Nullable: true})
)

func TestValuesOfEveryType(t *testing.T) {
	for _, c := range []struct {
		line string
		t    arrow.DataType
		want string
	}{
		{`[true]`, arrow.FixedWidthTypes.Boolean, "true"},
		{`[-128]`, arrow.PrimitiveTypes.Int8, "-128"},
		{`["18446744073709551615"]`, arrow.PrimitiveTypes.Uint64, "18446744073709551615"},
		{`[0.1]`, arrow.PrimitiveTypes.Float32, fmt.Sprint(float64(float32(0.1)))},
		{`[1e300]`, arrow.PrimitiveTypes.Float64, "1e+300"},
		{`["NaN"]`, arrow.PrimitiveTypes.Float64, "NaN"},
		{`["-Infinity"]`, arrow.PrimitiveTypes.Float64, "-Inf"},
		{`["-1.5"]`, decimal, "-1.50"},
		{`[999.990]`, decimal, "999.99"},
		{`[1200]`, hundreds, "1200"},
		{`["1234567890123456789012345678901234567890"]`, wide, "1234567890123456789012345678901234567890"},
		{`["2024-02-29"]`, arrow.FixedWidthTypes.Date32, "2024-02-29"},
		{`["2024-02-29"]`, arrow.FixedWidthTypes.Date64, "1709164800000"},
		{`["1969-12-31T23:59:59.999"]`, local, "1969-12-31T23:59:59.999Z"},
		{`["23:59:59"]`, seconds, "86399"},
		{`["00:00:00.000000001"]`, nanoseconds, "1"},
		{`[-5]`, arrow.FixedWidthTypes.Duration_s, "-5"},
		{`["AQI="]`, arrow.BinaryTypes.LargeBinary, "0x0102"},
		{`["AQI="]`, &arrow.FixedSizeBinaryType{ByteWidth: 2}, "0x0102"},
		{`["é"]`, arrow.BinaryTypes.LargeString, `"é"`},
		{`[[1,null,3]]`, arrow.ListOf(arrow.PrimitiveTypes.Int16), `"[1,null,3]"`},
		{`[{"y":"1.25"}]`, point, `"{\"x\":null,\"y\":\"1.25\"}"`},
		{`[null]`, point, "NULL"},
		{`{}`, arrow.PrimitiveTypes.Int64, "NULL"},
	} {
		if got, err := oneRow(c.line, c.t); err != nil || got != c.want {
			t.Errorf("%s as %s: %s, %v, want %s", c.line, c.t, got, err, c.want)
		}
	}
}

func TestValuesThatDoNotFit(t *testing.T) {
	for _, c := range []struct {
		line string
		t    arrow.DataType
	}{
		{`[1]`, arrow.FixedWidthTypes.Boolean},
		{`[128]`, arrow.PrimitiveTypes.Int8},
		{`[1.0]`, arrow.PrimitiveTypes.Int8},
		{`[-1]`, arrow.PrimitiveTypes.Uint64},
		{`[true]`, arrow.PrimitiveTypes.Float64},
		{`["x"]`, arrow.PrimitiveTypes.Float64},
		{`[1e400]`, arrow.PrimitiveTypes.Float64},
		{`["1.234"]`, decimal},
		{`["1000"]`, decimal},
		{`["1e2"]`, decimal},
		{`["1.-1"]`, decimal},
		{`[""]`, decimal},
		{`[1250]`, hundreds},
		{`["2024-02-30"]`, arrow.FixedWidthTypes.Date32},
		{`["2024-02-29T00:00:00Z"]`, local},
		{`["2024-02-29T00:00:00.0001"]`, local},
		{`["2024-02-29T00:00:00"]`, arrow.FixedWidthTypes.Timestamp_us},
		{`["24:00:00"]`, seconds},
		{`["00:00:00.5"]`, seconds},
		{`["***"]`, arrow.BinaryTypes.Binary},
		{`["AQI="]`, &arrow.FixedSizeBinaryType{ByteWidth: 3}},
		{`[[1]]`, arrow.BinaryTypes.String},
		{`[1]`, arrow.ListOf(arrow.PrimitiveTypes.Int16)},
		{`[{"z":1}]`, point},
		{`[1,2]`, arrow.PrimitiveTypes.Int64},
		{`5`, arrow.PrimitiveTypes.Int64},
	} {
		if got, err := oneRow(c.line, c.t); err == nil {
			t.Errorf("%s as %s: %s", c.line, c.t, got)
		}
	}
}

// maxRowError is how long the error of a row may be, in bytes.
const maxRowError = 600

// longLines are lines whose errors must not repeat all of the line.
var longLines = []string{
	`{"` + strings.Repeat("x", 1500) + `":1}`,
	`[{"` + strings.Repeat("x", 1500) + `":1}]`,
	`[` + strings.Repeat("9", 1500) + `]`,
	`["` + strings.Repeat("x", 1500) + `"]`,
	`["` + strings.Repeat("\u0001", 1500) + `"]`,
	strings.Repeat("x", 1500),
}

// TestErrorsOfLongRows checks that an error repeats only the beginning of what a module wrote,
// and of the name of a column.
func TestErrorsOfLongRows(t *testing.T) {
	long := arrow.StructOf(arrow.Field{Name: strings.Repeat("n", 5000), Type: arrow.PrimitiveTypes.Int8, Nullable: true})
	lines := append([]string{`[[true]]`, `[{"` + long.Field(0).Name + `":true}]`}, longLines...)
	for _, line := range lines {
		failed := false
		for _, dt := range []arrow.DataType{arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Float32, arrow.BinaryTypes.String, decimal, local, arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Boolean, arrow.BinaryTypes.Binary, point, long} {
			_, err := oneRow(line, dt)
			failed = failed || err != nil
			if err != nil && len(err.Error()) > maxRowError {
				t.Errorf("%.20s as %.40s: an error of %d bytes: %.200s", line, dt, len(err.Error()), err)
			}
		}
		if !failed {
			t.Errorf("%.20s fits every type", line)
		}
	}
}

func FuzzRow(f *testing.F) {
	for _, line := range []string{`[1]`, `["1.5"]`, `{"c":null}`, `[[{"x":1,"y":"2.5"}]]`} {
		f.Add(line)
	}
	types := []arrow.DataType{
		arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.BinaryTypes.String, decimal, hundreds, wide, local, seconds, nanoseconds,
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Timestamp_ns, &arrow.FixedSizeBinaryType{ByteWidth: 2}, arrow.ListOf(point), point,
	}
	for _, line := range longLines {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, dt := range types {
			if _, err := oneRow(line, dt); err != nil && len(err.Error()) > maxRowError {
				t.Errorf("%s: %.2000s", dt, err) // it repeats the line, or is a panic with its stack
			}
		}
	})
}
