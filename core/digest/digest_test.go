package digest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core/digest"
)

// columns has a type of every layout, and the JSON of the value of a row.
var columns = []struct {
	t    arrow.DataType
	json func(i int) string
}{
	{arrow.Null, func(int) string { return "null" }},
	{arrow.FixedWidthTypes.Boolean, func(i int) string { return fmt.Sprint(i%3 == 0) }},
	{arrow.PrimitiveTypes.Int8, func(i int) string { return fmt.Sprint(i%200 - 100) }},
	{arrow.PrimitiveTypes.Uint16, func(i int) string { return fmt.Sprint(i) }},
	{arrow.PrimitiveTypes.Int32, func(i int) string { return fmt.Sprint(-i) }},
	{arrow.PrimitiveTypes.Int64, func(i int) string { return fmt.Sprint(i * 1_000_003) }},
	{arrow.PrimitiveTypes.Float64, func(i int) string { return fmt.Sprint(float64(i) / 4) }},
	{arrow.PrimitiveTypes.Date32, func(i int) string { return fmt.Sprintf(`"2026-01-%02d"`, 1+i%28) }},
	{arrow.FixedWidthTypes.Timestamp_us, func(i int) string { return fmt.Sprint(i * 1_000_003) }},
	{arrow.FixedWidthTypes.MonthDayNanoInterval, func(i int) string {
		return fmt.Sprintf(`{"months": %d, "days": 2, "nanoseconds": %d}`, i, 3*i)
	}},
	{&arrow.Decimal128Type{Precision: 20, Scale: 2}, func(i int) string { return fmt.Sprintf(`"%d.25"`, i) }},
	{&arrow.Decimal256Type{Precision: 50, Scale: 2}, func(i int) string { return fmt.Sprintf(`"%d.25"`, i) }},
	{&arrow.FixedSizeBinaryType{ByteWidth: 3}, func(i int) string { return fmt.Sprintf(`"%s"`, []string{"QUJD", "REVG"}[i%2]) }},
	{arrow.BinaryTypes.String, func(i int) string { return `"` + strings.Repeat("x", i%40) + fmt.Sprint(i) + `"` }},
	{arrow.BinaryTypes.LargeString, func(i int) string { return `"` + strings.Repeat("y", i%7) + `"` }},
	{arrow.ListOf(arrow.PrimitiveTypes.Int64), func(i int) string {
		return fmt.Sprintf("[%s]", strings.Join(slices.Repeat([]string{fmt.Sprint(i)}, i%4), ","))
	}},
	{arrow.LargeListOf(arrow.ListOf(arrow.BinaryTypes.String)), func(i int) string { return fmt.Sprintf(`[["%d", null], null, []]`, i) }},
	{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int16), func(i int) string { return fmt.Sprintf("[%d, null]", i) }},
	{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), func(i int) string { return fmt.Sprintf(`[{"key": "a", "value": %d}]`, i) }},
	{arrow.StructOf(arrow.Field{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "b", Type: arrow.ListOf(arrow.FixedWidthTypes.Boolean), Nullable: true}), func(i int) string {
		return fmt.Sprintf(`{"a": "%d", "b": [true, null]}`, i)
	}},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, func(i int) string { return fmt.Sprintf(`"%d"`, i%3) }},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint32, ValueType: arrow.BinaryTypes.String}, func(i int) string { return fmt.Sprintf(`"%d"`, i) }},
	{arrow.BinaryTypes.StringView, func(i int) string { return fmt.Sprintf(`"%d and more than twelve bytes"`, i) }},
}

// record returns rows of all types, in which every seventh value is NULL.
func record(t testing.TB, from, n int) arrow.RecordBatch {
	t.Helper()
	var fields []arrow.Field
	var values []arrow.Array
	for c, column := range columns {
		var text []string
		for i := from; i < from+n; i++ {
			if (i+c)%7 == 2 {
				text = append(text, "null")
			} else {
				text = append(text, column.json(i))
			}
		}
		values = append(values, fromJSON(t, column.t, "["+strings.Join(text, ",")+"]"))
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", c), Type: column.t, Nullable: true})
	}
	return newRecord(arrow.NewSchema(fields, nil), values, n)
}

func fromJSON(t testing.TB, dt arrow.DataType, text string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, dt, strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", dt, err)
	}
	return a
}

func newRecord(schema *arrow.Schema, values []arrow.Array, n int) arrow.RecordBatch {
	defer func() {
		for _, v := range values {
			v.Release()
		}
	}()
	return array.NewRecordBatch(schema, values, int64(n))
}

// of returns the digest of a record.
func of(r arrow.RecordBatch) digest.Digest {
	d := digest.New(r.Schema())
	d.Add(r)
	return d
}

// column returns the digest of a single column of a type.
func column(t *testing.T, dt arrow.DataType, text string) digest.Digest {
	t.Helper()
	a := fromJSON(t, dt, text)
	r := newRecord(arrow.NewSchema([]arrow.Field{{Name: "c", Type: dt, Nullable: true}}, nil), []arrow.Array{a}, a.Len())
	defer r.Release()
	return of(r)
}

func join(t *testing.T, parts ...digest.Digest) (all digest.Digest) {
	t.Helper()
	for _, p := range parts {
		var err error
		if all, err = all.Append(p); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestDivision tests that a digest does not depend on how rows are divided: into slices,
// into records of their own, or into digests that are joined, in groups of any kind.
func TestDivision(t *testing.T) {
	const n = 700
	whole := record(t, 0, n)
	defer whole.Release()
	want := of(whole)
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 12 {
		running := digest.New(whole.Schema())
		var parts []digest.Digest
		for from := 0; from < n; {
			to := min(n, from+random.IntN([...]int{3, 70, 900}[round%3])+random.IntN(2))
			slice := whole.NewSlice(int64(from), int64(to))
			var part arrow.RecordBatch
			switch round % 4 {
			case 0:
				part = slice
				part.Retain()
			case 1:
				part = record(t, from, to-from) // with dictionaries and offsets of its own
			case 2:
				part = record(t, from, to-from)
				running.AddColumns(whole.Columns(), int64(from), int64(to))
			case 3:
				longer := record(t, from-min(from, 5), to-from+min(from, 5))
				part = longer.NewSlice(int64(min(from, 5)), longer.NumRows())
				longer.Release()
			}
			if round%4 != 2 {
				running.Add(part)
			}
			parts = append(parts, of(part))
			part.Release()
			slice.Release()
			from = to
		}
		if running != want {
			t.Fatalf("round %d: added in parts %s, whole %s", round, running.Ordered(), want.Ordered())
		}
		middle := random.IntN(len(parts) + 1)
		if left, right := join(t, parts...), join(t, join(t, parts[:middle]...), join(t, parts[middle:]...)); left != want || right != want {
			t.Fatalf("round %d: joined one by one %s, in two groups %s, whole %s", round, left.Ordered(), right.Ordered(), want.Ordered())
		}
		slices.Reverse(parts)
		if reversed := join(t, parts...); reversed.AnyOrder() != want.AnyOrder() || len(parts) > 1 && reversed.Ordered() == want.Ordered() {
			t.Fatalf("round %d: parts in another order have %+v", round, reversed)
		}
	}
}

// TestChanges tests that any change of a row changes both forms, and that an exchange of
// two rows changes the ordered one alone.
func TestChanges(t *testing.T) {
	for _, c := range columns[1:] {
		for _, dt := range []arrow.DataType{c.t, arrow.ListOf(c.t), arrow.StructOf(arrow.Field{Name: "f", Type: c.t, Nullable: true})} {
			wrap := func(v string) string {
				switch {
				case dt == c.t:
					return v
				case dt.ID() == arrow.LIST:
					return "[" + v + "]"
				}
				return `{"f": ` + v + "}"
			}
			two, three := wrap(c.json(2)), wrap(c.json(3))
			plain := column(t, dt, "["+two+","+three+","+wrap("null")+",null]")
			for name, text := range map[string]string{
				"another value": "[" + two + "," + two + "," + wrap("null") + ",null]",
				"NULL":          "[" + two + ",null," + wrap("null") + ",null]",
				"fewer rows":    "[" + two + "," + three + "," + wrap("null") + "]",
				"more rows":     "[" + two + "," + three + "," + wrap("null") + ",null,null]",
			} {
				if d := column(t, dt, text); d.Ordered() == plain.Ordered() || d.AnyOrder() == plain.AnyOrder() {
					t.Errorf("%s: %s has the same digest", dt, name)
				}
			}
			if d := column(t, dt, "["+three+","+two+","+wrap("null")+",null]"); d.Ordered() == plain.Ordered() || d.AnyOrder() != plain.AnyOrder() {
				t.Errorf("%s: after an exchange of two rows %+v, before %+v", dt, d, plain)
			}
		}
	}
	// Values that could be mistaken for each other.
	text, list := arrow.BinaryTypes.String, arrow.ListOf(arrow.PrimitiveTypes.Int64)
	for _, pair := range []struct {
		t    arrow.DataType
		a, b string
	}{
		{text, `["", "ab"]`, `[null, "ab"]`},
		{text, `["a", "b"]`, `["ab", ""]`},
		{text, `["a"]`, `["a\u0000"]`},
		{text, `["0123456789abcdef"]`, `["0123456789abcdef\u0000"]`},
		{text, `["0123456789abcdef0123456789abcdef"]`, `["0123456789abcdef0123456789abcdef0123456789abcdef"]`},
		{list, `[[1], [2]]`, `[[1, 2], []]`},
		{list, `[[], [1]]`, `[null, [1]]`},
		{list, `[[0]]`, `[[null]]`},
		{list, `[[]]`, `[[0]]`},
		{arrow.PrimitiveTypes.Int64, `[0]`, `[null]`},
		{arrow.PrimitiveTypes.Float64, `[0]`, `[-0.0]`},
		{arrow.PrimitiveTypes.Int64, `[1, 1, 2]`, `[1, 2, 2]`},
	} {
		if a, b := column(t, pair.t, pair.a), column(t, pair.t, pair.b); a.AnyOrder() == b.AnyOrder() || a.Ordered() == b.Ordered() {
			t.Errorf("%s and %s have the same digest", pair.a, pair.b)
		}
	}
}

// TestExchangedValues tests that values exchanged between rows or columns are noticed.
func TestExchangedValues(t *testing.T) {
	digestOf := func(a, b string) digest.Digest {
		schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.PrimitiveTypes.Int64}}, nil)
		r := newRecord(schema, []arrow.Array{fromJSON(t, schema.Field(0).Type, a), fromJSON(t, schema.Field(1).Type, b)}, 2)
		defer r.Release()
		return of(r)
	}
	plain := digestOf("[1, 2]", "[3, 4]")
	for _, d := range []digest.Digest{digestOf("[1, 2]", "[4, 3]"), digestOf("[3, 2]", "[1, 4]"), digestOf("[3, 4]", "[1, 2]"), digestOf("[2, 1]", "[2, 5]")} {
		if d.AnyOrder() == plain.AnyOrder() || d.Ordered() == plain.Ordered() {
			t.Error("exchanged values have the same digest")
		}
	}
}

// TestBytesUnderNull tests that what buffers hold where a value is NULL does not matter.
func TestBytesUnderNull(t *testing.T) {
	validity := memory.NewBufferBytes([]byte{0b101})
	of := func(dt arrow.DataType, children []arrow.ArrayData, buffers ...[]byte) digest.Digest {
		all := []*memory.Buffer{validity}
		for _, b := range buffers {
			all = append(all, memory.NewBufferBytes(b))
		}
		data := array.NewData(dt, 3, all, children, 1, 0)
		r := newRecord(arrow.NewSchema([]arrow.Field{{Name: "c", Type: dt, Nullable: true}}, nil), []arrow.Array{array.MakeFromData(data)}, 3)
		defer r.Release()
		return of(r)
	}
	i32 := func(n ...int32) []byte { return arrow.GetBytes(n) }
	numbers := func(text string) []arrow.ArrayData {
		return []arrow.ArrayData{fromJSON(t, arrow.PrimitiveTypes.Int32, text).Data()}
	}
	list := arrow.ListOf(arrow.PrimitiveTypes.Int32)
	object := arrow.StructOf(arrow.Field{Name: "f", Type: arrow.PrimitiveTypes.Int32, Nullable: true})
	for name, pair := range map[string][2]digest.Digest{
		"int":    {of(arrow.PrimitiveTypes.Int32, nil, i32(1, 2, 3)), of(arrow.PrimitiveTypes.Int32, nil, i32(1, 0, 3))},
		"bool":   {of(arrow.FixedWidthTypes.Boolean, nil, []byte{0b111}), of(arrow.FixedWidthTypes.Boolean, nil, []byte{0b101})},
		"text":   {of(arrow.BinaryTypes.String, nil, i32(0, 1, 4, 5), []byte("a---b")), of(arrow.BinaryTypes.String, nil, i32(0, 1, 1, 2), []byte("ab"))},
		"list":   {of(list, numbers("[1, 2, 3]"), i32(0, 1, 2, 3)), of(list, numbers("[1, 3]"), i32(0, 1, 1, 2))},
		"struct": {of(object, numbers("[1, 2, 3]")), of(object, numbers("[1, null, 3]"))},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: bytes under NULL change the digest", name)
		}
	}
}

// TestDictionaries tests that neither the order, the size nor the NULLs of a dictionary
// matter, and that an index out of range under a NULL is not used.
func TestDictionaries(t *testing.T) {
	dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint8, ValueType: arrow.BinaryTypes.String}
	of := func(indices, values string) digest.Digest {
		a := array.NewDictionaryArray(dt, fromJSON(t, dt.IndexType, indices), fromJSON(t, dt.ValueType, values))
		r := newRecord(arrow.NewSchema([]arrow.Field{{Name: "c", Type: dt, Nullable: true}}, nil), []arrow.Array{a}, a.Len())
		defer r.Release()
		return of(r)
	}
	want := of("[0, 1, null, 0]", `["a", "b"]`)
	for _, d := range []digest.Digest{
		of("[1, 0, null, 1]", `["b", "a"]`), of("[4, 1, null, 4]", `["x", "b", "y", "z", "a", "w"]`), of("[0, 1, 2, 0]", `["a", "b", null]`),
		of("[0, 1, 5, 0]", `["a", "b", "c", "d", "e", null]`), of("[0, 1, null, 2]", `["a", "b", "a"]`),
	} {
		if d != want {
			t.Errorf("%s, want %s", d.Ordered(), want.Ordered())
		}
	}
}

// TestColumns tests that the columns are part of both forms, and that digests of different
// columns cannot be joined.
func TestColumns(t *testing.T) {
	a := arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64}
	renamed, wider, nullable := a, a, a
	renamed.Name, wider.Type, nullable.Nullable = "b", arrow.PrimitiveTypes.Uint64, true
	plain := digest.New(arrow.NewSchema([]arrow.Field{a}, nil))
	for _, fields := range [][]arrow.Field{{renamed}, {wider}, {nullable}, {}, {a, renamed}} {
		other := digest.New(arrow.NewSchema(fields, nil))
		if other.Ordered() == plain.Ordered() || other.AnyOrder() == plain.AnyOrder() {
			t.Errorf("%v has the digest of %v", fields, a)
		}
		if _, err := plain.Append(other); err == nil {
			t.Errorf("%v was joined with %v", fields, a)
		}
	}
	none := digest.New(arrow.NewSchema(nil, nil))
	three := none
	three.AddColumns(nil, 0, 3)
	if three.Rows() != 3 || three == none || join(t, three, three).Rows() != 6 {
		t.Errorf("rows without columns have %+v", three)
	}
	if d, err := (digest.Digest{}).Append(three); err != nil || d != three {
		t.Errorf("appended to nothing: %+v, %v", d, err)
	}
}

// TestFormat tests that the digests of known rows never change within a version.
func TestFormat(t *testing.T) {
	r := record(t, 0, 1000)
	defer r.Release()
	whole := of(r)
	got := []string{whole.Ordered(), whole.AnyOrder(), of(sales(3)).Ordered()}
	want := []string{
		"o1:7c5a505b1238902e:1000:15309eb4efd782670464333e3f18d041",
		"a1:7c5a505b1238902e:1000:a7111090c6b83f35b58c344ae8caaa8a",
		"o1:16e35696e20deab9:3:0b234012fe663fb90a1f7d3b8f09dd82",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a change of the hash needs another version of the format (-want +got):\n%s", diff)
	}
}

// TestEncodings tests that the JSON and the binary form restore a digest.
func TestEncodings(t *testing.T) {
	for _, d := range []digest.Digest{{}, digest.New(sales(0).Schema()), of(sales(5))} {
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again digest.Digest
		if err := json.Unmarshal(text, &again); err != nil || again != d {
			t.Errorf("%s became %+v, %v", text, again, err)
		}
		state, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		again = digest.Digest{}
		if err := again.UnmarshalBinary(state); err != nil || again != d {
			t.Errorf("%x became %+v, %v", state, again, err)
		}
		if err := again.UnmarshalBinary(state[1:]); err == nil {
			t.Error("a part of a digest was accepted")
		}
	}
	five := of(sales(5))
	for _, texts := range [][2]string{
		{five.AnyOrder(), five.Ordered()}, {five.Ordered(), of(sales(6)).AnyOrder()}, {five.Ordered(), ""}, {five.Ordered() + "0", five.AnyOrder()},
		{strings.Replace(five.Ordered(), "o1:", "o2:", 1), five.AnyOrder()}, {strings.ToUpper(five.Ordered()), five.AnyOrder()},
		{"o1:0000000000000001:5:" + strings.Repeat("f", 32), "a1:0000000000000001:5:" + strings.Repeat("f", 32)},
		{"o1:0000000000000001:0:" + strings.Repeat("0", 31) + "1", "a1:0000000000000001:0:" + strings.Repeat("0", 32)},
		{"o1:0000000000000001:-5:" + strings.Repeat("0", 32), "a1:0000000000000001:-5:" + strings.Repeat("0", 32)},
	} {
		if d, err := digest.Parse(texts[0], texts[1]); err == nil {
			t.Errorf("%q and %q became %+v", texts[0], texts[1], d)
		}
	}
	most, err := digest.Parse(fmt.Sprintf("o1:0000000000000001:%d:%032d", int64(math.MaxInt64), 0), fmt.Sprintf("a1:0000000000000001:%d:%032d", int64(math.MaxInt64), 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := most.Append(most); err == nil {
		t.Error("the number of rows overflows")
	}
}

// FuzzParse tests that any texts are an error or a digest with these texts.
func FuzzParse(f *testing.F) {
	d := of(sales(2))
	f.Add(d.Ordered(), d.AnyOrder())
	f.Add("", "")
	f.Add("o1:::", "a1:0:0:0")
	f.Fuzz(func(t *testing.T, ordered, anyOrder string) {
		d, err := digest.Parse(ordered, anyOrder)
		if err == nil && (d.Ordered() != ordered || d.AnyOrder() != anyOrder) {
			t.Errorf("%q and %q became %q and %q", ordered, anyOrder, d.Ordered(), d.AnyOrder())
		}
		state, _ := d.MarshalBinary()
		var again digest.Digest
		if err := again.UnmarshalBinary(state); err != nil || again != d {
			t.Errorf("%+v became %+v, %v", d, again, err)
		}
	})
}

// FuzzBinary tests that any bytes are an error or a digest with this binary form, and that
// its other forms lead back to it.
func FuzzBinary(f *testing.F) {
	for _, d := range []digest.Digest{{}, of(sales(0)), of(sales(2))} {
		state, _ := d.MarshalBinary()
		f.Add(state)
	}
	f.Fuzz(func(t *testing.T, state []byte) {
		var d digest.Digest
		if err := d.UnmarshalBinary(state); err != nil {
			if !d.IsZero() {
				t.Errorf("after an error, it is %+v", d)
			}
			return
		}
		if again, _ := d.MarshalBinary(); !bytes.Equal(again, state) {
			t.Errorf("%x became %x", state, again)
		}
		if parsed, err := digest.Parse(d.Ordered(), d.AnyOrder()); err != nil || parsed != d {
			t.Errorf("%+v became %+v by its texts: %v", d, parsed, err)
		}
	})
}

// FuzzJSON tests that any JSON is an error or a digest that survives a round trip.
func FuzzJSON(f *testing.F) {
	for _, d := range []digest.Digest{{}, of(sales(2))} {
		text, err := d.MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d, again digest.Digest
		if err := d.UnmarshalJSON(text); err != nil {
			return
		}
		text, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalJSON(text); err != nil || again != d {
			t.Errorf("%+v became %+v, %v", d, again, err)
		}
	})
}
