package rows

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// takeTypes has a type of every width and layout.
var takeTypes = []struct {
	t    arrow.DataType
	json func(i int) string
}{
	{arrow.FixedWidthTypes.Boolean, func(i int) string { return fmt.Sprint(i%3 == 0) }},
	{arrow.PrimitiveTypes.Int8, func(i int) string { return fmt.Sprint(i % 100) }},
	{arrow.PrimitiveTypes.Uint16, func(i int) string { return fmt.Sprint(i) }},
	{arrow.PrimitiveTypes.Int32, func(i int) string { return fmt.Sprint(-i) }},
	{arrow.PrimitiveTypes.Float64, func(i int) string { return fmt.Sprint(float64(i) / 4) }},
	{&arrow.Decimal128Type{Precision: 20, Scale: 2}, func(i int) string { return fmt.Sprintf(`"%d.25"`, i) }},
	{&arrow.Decimal256Type{Precision: 50, Scale: 2}, func(i int) string { return fmt.Sprintf(`"%d.25"`, i) }},
	{arrow.BinaryTypes.String, func(i int) string { return `"` + strings.Repeat("x", i%5) + fmt.Sprint(i) + `"` }},
	{arrow.BinaryTypes.LargeString, func(i int) string { return `"` + strings.Repeat("y", i%7) + `"` }},
	{&arrow.FixedSizeBinaryType{ByteWidth: 3}, func(i int) string { return fmt.Sprintf(`"%s"`, []string{"QUJD", "REVG"}[i%2]) }},
	{arrow.ListOf(arrow.PrimitiveTypes.Int64), func(i int) string { return fmt.Sprintf("[%d, null, %d]", i, i+1) }},
	{arrow.StructOf(arrow.Field{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}), func(i int) string { return fmt.Sprintf(`{"a": "%d"}`, i) }},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, func(i int) string { return fmt.Sprintf(`"%d"`, i%3) }},
	{arrow.Null, func(int) string { return "null" }},
}

// TestTake checks that Take returns the rows referred to, that a ref to no row
// yields NULL, and that no memory is left behind.
func TestTake(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, test := range takeTypes {
		for _, nulls := range []bool{false, true} {
			budget, err := budget.New("test", 1<<20, nil)
			if err != nil {
				t.Fatal(err)
			}
			var parts []arrow.ArrayData
			for part := range 3 {
				var text []string
				for i := range 20 * part { // the first is empty
					if nulls && i%4 == 1 {
						text = append(text, "null")
						continue
					}
					text = append(text, test.json(i+100*part%128))
				}
				a, _, err := array.FromJSON(memory.DefaultAllocator, test.t, strings.NewReader("["+strings.Join(text, ",")+"]"))
				if err != nil {
					t.Fatalf("%s: %v", test.t, err)
				}
				defer a.Release()
				from := int64(min(2, a.Len())) // with an offset
				sliced := array.NewSlice(a, from, int64(a.Len()))
				defer sliced.Release()
				parts = append(parts, sliced.Data())
			}
			for _, n := range []int{0, 1, 7, 90} {
				refs := make([]Ref, n)
				for i := range refs {
					record := 1 + random.IntN(2)
					refs[i] = Ref{Record: int32(record), Row: int32(random.IntN(parts[record].Len()))}
					if i%6 == 5 {
						refs[i] = Ref{Record: -1}
					}
				}
				got := Take(budget, test.t, true, parts, refs)
				if got.Len() != n || got.NullN() != nullsIn(got) {
					t.Errorf("%s: %d values of which %d are NULL, want %d", test.t, got.Len(), got.NullN(), n)
				}
				for i, r := range refs {
					if r.Record < 0 {
						if test.t != arrow.Null && !got.IsNull(i) {
							t.Errorf("%s: no row gave %s", test.t, got.ValueStr(i))
						}
						continue
					}
					part := array.MakeFromData(parts[r.Record])
					if want := part.ValueStr(int(r.Row)); got.ValueStr(i) != want {
						t.Errorf("%s: %s, want %s", test.t, got.ValueStr(i), want)
					}
					part.Release()
				}
				got.Release()
			}
			// Adjacent rows that are a large part of a column are a slice of it.
			refs := make([]Ref, parts[2].Len())
			for i := range refs {
				refs[i] = Ref{Record: 2, Row: int32(i)}
			}
			before := budget.Live()
			whole, want := Take(budget, test.t, true, parts, refs), array.MakeFromData(parts[2])
			if !array.Equal(whole, want) || budget.Live() != before {
				t.Errorf("%s: a slice of %d bytes", test.t, budget.Live()-before)
			}
			whole.Release()
			want.Release()
			if live := budget.Live(); live != 0 {
				t.Errorf("%s: %d bytes are left", test.t, live)
			}
			testRefusals(t, test.t, parts)
			budget.Close()
		}
	}
}

func nullsIn(a arrow.Array) int {
	n := 0
	for i := range a.Len() {
		if a.IsNull(i) || a.DataType().ID() == arrow.NULL {
			n++
		}
	}
	return n
}

// testRefusals takes rows under a range of limits, most of them too small.
func testRefusals(t *testing.T, typ arrow.DataType, parts []arrow.ArrayData) {
	t.Helper()
	refs := []Ref{{1, 3}, {-1, 0}, {2, 5}, {1, 4}, {1, 3}}
	for limit := int64(64); limit < 2048; limit += 64 {
		budget, err := budget.New("test", limit, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = sources.GuardCall("", "", func() (struct{}, error) {
			Take(budget, typ, true, parts, refs).Release()
			return struct{}{}, nil
		})
		if err != nil && sources.KindOf(err) != sources.Exhausted {
			t.Fatalf("%s in %d bytes: %v", typ, limit, err)
		}
		if live := budget.Live(); live != 0 {
			t.Errorf("%s in %d bytes: %d are left", typ, limit, live)
		}
		budget.Close()
	}
}
