package sources

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// record returns a record with the given columns of scalar values.
func record(t interface{ Helper() }, schema *arrow.Schema, columns ...[]Value) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i, values := range columns {
		for _, v := range values {
			AppendValue(b.Field(i), v)
		}
	}
	return b.NewRecordBatch()
}

func rowsOf(rows ...[]any) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, values := range rows {
			if !yield(Row{Values: values}, nil) {
				return
			}
		}
	}
}

func oneColumn(t arrow.DataType, nullable bool) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{{Name: "c", Type: t, Nullable: nullable}}, nil)
}

var nestedType = arrow.StructOf(
	arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int16},
	arrow.Field{Name: "l", Type: arrow.LargeListOf(arrow.BinaryTypes.String), Nullable: true})

// TestFromRowsConverts also checks that an error repeats only the beginning of a value.
func TestFromRowsConverts(t *testing.T) {
	day := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	decimals := &arrow.Decimal128Type{Precision: 5, Scale: 2}
	for _, c := range []struct {
		typ  arrow.DataType
		v    any
		want string // the column's text, or what the error says
	}{
		{arrow.PrimitiveTypes.Int8, 127, "127"},
		{arrow.PrimitiveTypes.Int8, 128, "128 does not fit int8 exactly"},
		{arrow.PrimitiveTypes.Int8, strings.Repeat("x", 1<<20), `"` + strings.Repeat("x", maxExcerpt-1) + "... does not fit int8 exactly"},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, make([]byte, 1<<20), "0x" + strings.Repeat("0", maxExcerpt-2) + "... does not fit fixed_size_binary[2] exactly"},
		{arrow.PrimitiveTypes.Uint8, int8(-1), "-1 does not fit uint8"},
		{arrow.PrimitiveTypes.Uint64, uint64(math.MaxUint64), "18446744073709551615"},
		{arrow.PrimitiveTypes.Int32, 1.5, "1.5 does not fit int32"},
		{arrow.PrimitiveTypes.Int32, 2.0, "2"},
		{arrow.PrimitiveTypes.Int32, "2", `"2" does not fit int32`},
		{arrow.PrimitiveTypes.Float32, float32(0.1), "0.1"},
		{arrow.PrimitiveTypes.Float32, 0.1, "0.1 does not fit float32"},
		{arrow.PrimitiveTypes.Float64, math.Copysign(0, -1), "-0"},
		{arrow.PrimitiveTypes.Float64, int64(1<<53 + 1), "does not fit float64"},
		{decimals, 5, "5"},
		{decimals, 1.25, "1.25"},
		{decimals, decimal128.FromI64(125), "1.25"},
		{decimals, 1000, "1000 does not fit decimal"},
		{decimals, decimal128.FromI64(100000), "1000.00 does not fit decimal"},
		{decimals, Decimal(decimal128.FromI64(12345), 3), "12.345 does not fit decimal"},
		{&arrow.Decimal32Type{Precision: 5, Scale: 1}, -1.5, "-1.5"},
		{&arrow.Decimal64Type{Precision: 15, Scale: 1}, -1.5, "-1.5"},
		{arrow.FixedWidthTypes.Boolean, true, "true"},
		{arrow.FixedWidthTypes.Boolean, 1, "does not fit bool"},
		{arrow.BinaryTypes.LargeString, "x", "x"},
		{arrow.BinaryTypes.Binary, "x", "eA=="},
		{arrow.BinaryTypes.String, []byte("x"), "does not fit utf8"},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, []byte("xy"), "eHk="},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, []byte("xyz"), "does not fit fixed_size_binary"},
		{arrow.FixedWidthTypes.Date32, day, "2024-02-29"},
		{arrow.FixedWidthTypes.Date64, day, "2024-02-29"},
		{arrow.FixedWidthTypes.Timestamp_ms, day.Add(time.Millisecond), "2024-02-29T00:00:00.001Z"},
		{arrow.FixedWidthTypes.Timestamp_ms, day.Add(time.Microsecond), "does not fit timestamp[ms"},
		{arrow.FixedWidthTypes.Timestamp_ns, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), "does not fit timestamp[ns"},
		{arrow.FixedWidthTypes.Time32s, time.Minute, "00:01:00"},
		{arrow.FixedWidthTypes.Time32s, time.Millisecond, "does not fit time32"},
		{arrow.FixedWidthTypes.Duration_ms, time.Second, "1000ms"},
		{arrow.PrimitiveTypes.Int64, time.Second, "time.Duration does not fit int64"},
		{arrow.PrimitiveTypes.Int64, struct{}{}, "struct {} does not fit int64"},
		{arrow.ListOf(arrow.PrimitiveTypes.Int8), []any{1, nil}, "[1,null]"},
		{arrow.ListOf(arrow.PrimitiveTypes.Int8), []any{1, 300}, "element 2: 300 does not fit int8"},
		{arrow.ListOf(arrow.PrimitiveTypes.Int8), 1, "int does not fit list"},
		{arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int8), []any{nil}, "element 1: NULL in a field that is not nullable"},
		{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8), []any{1, 2}, "[1,2]"},
		{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8), []any{1}, "1 elements do not fit fixed_size_list"},
		{nestedType, []any{5, []any{"x"}}, `{"l":["x"],"n":5}`},
		{nestedType, []any{nil, nil}, `field "n": NULL in a field that is not nullable`},
		{nestedType, []any{5}, "does not fit struct"},
		{nestedType, nil, "(null)"},
		{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int8), []any{[]any{"a", 1}, []any{"b", nil}}, `[{"key":"a","value":1},{"key":"b","value":null}]`},
		{arrow.PrimitiveTypes.Int8, nil, "(null)"},
	} {
		t.Run(fmt.Sprintf("%s/%v", c.typ, c.v), func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			var got string
			for batch, err := range FromRows(Env{Mem: mem}, oneColumn(c.typ, true), rowsOf([]any{c.v})) {
				if err != nil {
					if KindOf(err) != Invalid || !strings.HasPrefix(err.Error(), `invalid: row 1, column "c": `) {
						t.Errorf("the error is %q", err)
					}
					got = err.Error()
				} else {
					got = batch.Record.Column(0).ValueStr(0)
				}
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestFromRowsErrors(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	broken := errors.New("connection reset")
	for _, c := range []struct {
		name string
		rows iter.Seq2[Row, error]
		want []string
	}{
		{"none", rowsOf(), []string{"0 rows"}},
		{"null", rowsOf([]any{1, nil}, []any{2, "x"}, []any{nil, "y"}), []string{"2 rows", `invalid: row 3, column "a": NULL in a column that has none`}},
		{"ragged", rowsOf([]any{1}), []string{"invalid: row 1 has 1 values, but the table has 2 columns"}},
		{"the producer's", func(yield func(Row, error) bool) {
			if yield(Row{Values: []any{1, "x"}}, nil) {
				yield(Row{}, broken)
			}
		}, []string{"1 rows", "connection reset"}},
		// The engine could not retry the scan after a row without a cursor.
		{"a retryable one", failing(NewError(Unavailable, "", "", broken), nil), []string{"unavailable: connection reset"}},
		{"a retryable one with a cursor", failing(NewError(Unavailable, "", "", broken), Cursor("1")), []string{"1 rows", "unavailable: connection reset"}},
		{"a final one", failing(NewError(Denied, "", "", broken), nil), []string{"1 rows", "denied: connection reset"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for batch, err := range FromRows(Env{Mem: mem, FlushAfter: -1}, schema, c.rows) {
				if err != nil {
					got = append(got, err.Error())
				} else {
					got = append(got, fmt.Sprint(batch.Record.NumRows(), " rows"))
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// failing yields a row of two columns with a cursor, and then an error.
func failing(err error, cursor Cursor) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if yield(Row{Values: []any{1, "x"}, Cursor: cursor}, nil) {
			yield(Row{}, err)
		}
	}
}

// TestFromRowsPages checks that every row comes once and in order, that pages respect
// both limits, and that each has its cursor.
func TestFromRowsPages(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64},
		{Name: "s", Type: arrow.BinaryTypes.LargeString, Nullable: true},
		{Name: "l", Type: arrow.LargeListOf(arrow.PrimitiveTypes.Int32), Nullable: true},
		{Name: "f", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int32), Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean},
	}, nil)
	rapid.Check(t, func(t *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		limits := Limits{Rows: rapid.Int64Range(1, 9).Draw(t, "rows"), Bytes: rapid.Int64Range(1, 300).Draw(t, "bytes")}
		n := rapid.IntRange(0, 40).Draw(t, "n")
		rows := func(yield func(Row, error) bool) {
			values := make([]any, 5)
			for i := range n {
				values[0], values[1], values[2], values[3], values[4] = i, strings.Repeat("x", i*7%31), []any{i}, []any{1, nil}, true
				if i%3 == 0 {
					values[1], values[2], values[3] = nil, nil, nil
				}
				if !yield(Row{Values: values, Cursor: Cursor(fmt.Sprint(i))}, nil) {
					return
				}
			}
		}
		next, pages := 0, 0
		for batch, err := range FromRows(Env{Mem: mem, Page: limits, FlushAfter: -1}, schema, rows) {
			if err != nil {
				t.Fatal(err)
			}
			pages++
			r := batch.Record
			if r.NumRows() > limits.Rows || r.NumRows() > 1 && Size(r) > limits.Bytes {
				t.Fatalf("%d rows of %d bytes are over %+v", r.NumRows(), Size(r), limits)
			}
			for i := range int(r.NumRows()) {
				if got := r.Column(0).(*array.Int64).Value(i); got != int64(next) {
					t.Fatalf("row %d where %d comes", got, next)
				}
				next++
			}
			if n > 0 && string(batch.Cursor) != fmt.Sprint(next-1) {
				t.Fatalf("cursor %q after row %d", batch.Cursor, next-1)
			}
		}
		if next != n || pages == 0 {
			t.Fatalf("%d of %d rows in %d pages", next, n, pages)
		}
		if left := mem.CurrentAlloc(); left != 0 {
			t.Fatalf("%d bytes left", left)
		}
	})
}

// refusing is an allocator that fails after a number of allocations.
type refusing struct {
	memory.Allocator
	left int
}

func (r *refusing) spend() {
	if r.left--; r.left < 0 {
		panic(Errorf(Exhausted, "", "", "no more"))
	}
}

func (r *refusing) Allocate(size int) []byte { r.spend(); return r.Allocator.Allocate(size) }

func (r *refusing) Reallocate(size int, b []byte) []byte {
	r.spend()
	return r.Allocator.Reallocate(size, b)
}

func TestFromRowsRefusedFrees(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "x", Type: nestedType, Nullable: true},
	}, nil)
	var rows [][]any
	for i := range 300 {
		rows = append(rows, []any{i, strings.Repeat("y", i), []any{i, []any{"z", nil}}}, []any{nil, nil, nil})
	}
	for n := 0; ; n++ {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		refused := false
		env := Env{Mem: &refusing{mem, n}, Page: Limits{Rows: 100}}
		for _, err := range Guard("scan", "t", FromRows(env, schema, rowsOf(rows...))) {
			if err != nil {
				if refused = true; KindOf(err) != Exhausted {
					t.Fatal(err)
				}
			}
		}
		if left := mem.CurrentAlloc(); left != 0 {
			t.Fatalf("%d bytes are left after refusal %d", left, n)
		}
		if !refused {
			if n < 20 {
				t.Fatalf("only %d allocations", n)
			}
			return
		}
	}
}

func TestFromRowsBreakFrees(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	stopped := false
	rows := func(yield func(Row, error) bool) {
		defer func() { stopped = true }()
		for yield(Row{Values: []any{1}}, nil) {
		}
	}
	for range FromRows(Env{Mem: mem, Page: Limits{Rows: 3}}, oneColumn(arrow.PrimitiveTypes.Int64, false), rows) {
		break
	}
	if !stopped {
		t.Error("the producer goes on")
	}
}

func TestSizeAddsUp(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "x", Type: nestedType, Nullable: true},
		{Name: "l", Type: arrow.ListOf(nestedType), Nullable: true}, {Name: "f", Type: arrow.FixedSizeListOf(2, arrow.BinaryTypes.Binary), Nullable: true},
		{Name: "d", Type: &arrow.Decimal256Type{Precision: 50}, Nullable: true}, {Name: "z", Type: arrow.Null, Nullable: true},
	}, nil)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 20).Draw(t, "n")
		var rows [][]any
		for i := range n {
			text := rapid.StringMatching(`[a-z]{0,9}`).Draw(t, "text")
			nested := []any{i, []any{text, nil}}
			row := []any{i, true, text, nested, []any{nested, nil, nested}, []any{text, nil}, i, nil}
			if null := rapid.IntRange(0, 9).Draw(t, "null"); null < len(row) {
				row[null] = nil
			}
			rows = append(rows, row)
		}
		for batch, err := range FromRows(Env{Mem: memory.DefaultAllocator}, schema, rowsOf(rows...)) {
			if err != nil {
				t.Fatal(err)
			}
			r := batch.Record
			cut := rapid.Int64Range(0, r.NumRows()).Draw(t, "cut")
			left, right := r.NewSlice(0, cut), r.NewSlice(cut, r.NumRows())
			defer left.Release()
			defer right.Release()
			if Size(left)+Size(right) != Size(r) {
				t.Fatalf("%d and %d are not %d", Size(left), Size(right), Size(r))
			}
		}
	})
	r := record(t, arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}, {Name: "b", Type: arrow.FixedWidthTypes.Boolean}}, nil),
		[]Value{Text("abc"), Text("")}, []Value{Bool(true), Bool(false)})
	defer r.Release()
	if got := Size(r); got != 4+3+4+1+1 {
		t.Errorf("the size is %d", got)
	}
}

func BenchmarkFromRows(b *testing.B) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "n", Type: arrow.PrimitiveTypes.Int32}, {Name: "f", Type: arrow.PrimitiveTypes.Float64}, {Name: "s", Type: arrow.BinaryTypes.String},
	}, nil)
	b.ReportAllocs()
	n := 0
	rows := func(yield func(Row, error) bool) {
		values := []any{int64(1234567), 5, 1.5, "text"}
		for b.Loop() {
			n++
			if !yield(Row{Values: values}, nil) {
				return
			}
		}
	}
	for _, err := range FromRows(Env{Mem: memory.DefaultAllocator}, schema, rows) {
		if err != nil {
			b.Fatal(err)
		}
	}
}
