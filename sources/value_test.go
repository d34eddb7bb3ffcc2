package sources

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// scalarTypes has every type whose values can be compared.
func scalarTypes() []arrow.DataType {
	types := []arrow.DataType{
		arrow.FixedWidthTypes.Boolean,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		&arrow.Decimal32Type{Precision: 7, Scale: 2}, &arrow.Decimal64Type{Precision: 15, Scale: 4},
		&arrow.Decimal128Type{Precision: 10, Scale: 2}, &arrow.Decimal128Type{Precision: 38, Scale: 0},
		&arrow.Decimal256Type{Precision: 60, Scale: 20},
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString,
		arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeBinary, &arrow.FixedSizeBinaryType{ByteWidth: 2},
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64,
		arrow.FixedWidthTypes.Time32s, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time64ns,
	}
	for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond} {
		types = append(types, &arrow.TimestampType{Unit: unit}, &arrow.TimestampType{Unit: unit, TimeZone: "UTC"}, &arrow.DurationType{Unit: unit})
	}
	return types
}

// drawValue draws a value of a scalar type. Small values, which are often equal, and
// the ends of the range are more likely.
func drawValue(t *rapid.T, typ arrow.DataType) Value {
	width := 64
	if f, ok := typ.(arrow.FixedWidthDataType); ok {
		width = min(f.BitWidth(), 64)
	}
	integer := func() int64 {
		limit := int64(1)<<(width-1) - 1
		return rapid.OneOf(rapid.Int64Range(-3, 3), rapid.Int64Range(-limit-1, limit), rapid.SampledFrom([]int64{-limit - 1, limit})).Draw(t, "integer")
	}
	unscaled := func(precision int32) *big.Int {
		digits := rapid.StringMatching(fmt.Sprintf("-?[0-9]{1,%d}", rapid.SampledFrom([]int32{2, 5, precision}).Draw(t, "digits"))).Draw(t, "unscaled")
		n, _ := new(big.Int).SetString(digits, 10)
		return n
	}
	v := Value{Type: typ}
	switch x := typ.(type) {
	case *arrow.BooleanType:
		v.V = rapid.Bool().Draw(t, "bool")
	case *arrow.Float16Type, *arrow.Float32Type, *arrow.Float64Type:
		f := rapid.OneOf(rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, -1, 1.5, 0.25, math.NaN(), math.Inf(1), math.Inf(-1), 1 << 53, 1 << 63}), rapid.Float64()).Draw(t, "float")
		switch typ.ID() {
		case arrow.FLOAT16:
			if math.Abs(f) < 1.0/(1<<14) {
				f = math.Copysign(0, f)
			}
			f = float64(float16.New(float32(f)).Float32())
		case arrow.FLOAT32:
			f = float64(float32(f))
		}
		v.V = f
	case *arrow.Decimal256Type:
		v.V = decimal256.FromBigInt(unscaled(x.Precision))
	case arrow.DecimalType:
		v.V = decimal128.FromBigInt(unscaled(x.GetPrecision()))
	case *arrow.FixedSizeBinaryType:
		v.V = rapid.StringMatching(`[a-c]{2}`).Draw(t, "binary")
	case *arrow.StringType, *arrow.LargeStringType, *arrow.BinaryType, *arrow.LargeBinaryType:
		v.V = rapid.OneOf(rapid.StringMatching(`[a-c]{0,3}`), rapid.String()).Draw(t, "text")
	case *arrow.Date64Type:
		v.V = rapid.Int64Range(-40000, 40000).Draw(t, "day") * 86400000
	default:
		if classOf(typ) == numberClass && !arrow.IsSignedInteger(typ.ID()) {
			top := uint64(math.MaxUint64) >> (64 - width)
			v.V = rapid.OneOf(rapid.Uint64Range(0, 3), rapid.Uint64Range(0, top), rapid.Just(top)).Draw(t, "unsigned")
		} else {
			v.V = integer()
		}
	}
	return v
}

func column(t interface{ Helper() }, values ...Value) arrow.Array {
	t.Helper()
	b := array.NewBuilder(memory.DefaultAllocator, values[0].Type)
	defer b.Release()
	for _, v := range values {
		AppendValue(b, v)
	}
	return b.NewArray()
}

// same reports whether two values are the same bit by bit.
func same(a, b any) bool {
	x, isFloat := a.(float64)
	y, alsoFloat := b.(float64)
	if isFloat && alsoFloat {
		return math.Float64bits(x) == math.Float64bits(y) || math.IsNaN(x) && math.IsNaN(y)
	}
	return a == b
}

func TestValueAtGivesWhatWasAppended(t *testing.T) {
	for _, typ := range scalarTypes() {
		t.Run(typ.String(), rapid.MakeCheck(func(t *rapid.T) {
			v := drawValue(t, typ)
			b := array.NewBuilder(memory.DefaultAllocator, typ)
			defer b.Release()
			AppendValue(b, Null(typ))
			AppendValue(b, v)
			a := b.NewArray()
			defer a.Release()
			got := ValueAt(a, 1)
			if !same(got.V, v.V) || !arrow.TypeEqual(got.Type, typ) {
				t.Fatalf("got %#v, want %#v", got, v)
			}
			if n := ValueAt(a, 0); !n.IsNull() || !arrow.TypeEqual(n.Type, typ) {
				t.Fatalf("a NULL came back as %#v", n)
			}
		}))
	}
}

// TestValueAt reads columns built by Arrow's JSON reader, so that it finds errors which
// AppendValue and ValueAt have in common.
func TestValueAt(t *testing.T) {
	for _, c := range []struct {
		typ  arrow.DataType
		json string
		want any
	}{
		{arrow.FixedWidthTypes.Boolean, `[true]`, true},
		{arrow.PrimitiveTypes.Int8, `[-7]`, int64(-7)},
		{arrow.PrimitiveTypes.Uint64, `[18446744073709551615]`, uint64(math.MaxUint64)},
		{arrow.PrimitiveTypes.Float32, `[0.5]`, 0.5},
		{arrow.FixedWidthTypes.Float16, `[0.5]`, 0.5},
		{&arrow.Decimal32Type{Precision: 5, Scale: 2}, `["1.25"]`, decimal128.FromI64(125)},
		{&arrow.Decimal64Type{Precision: 15, Scale: 2}, `["-1.25"]`, decimal128.FromI64(-125)},
		{&arrow.Decimal128Type{Precision: 30, Scale: 2}, `["1.25"]`, decimal128.FromI64(125)},
		{&arrow.Decimal256Type{Precision: 60, Scale: 2}, `["1.25"]`, decimal256.FromI64(125)},
		{arrow.BinaryTypes.LargeString, `["ä"]`, "ä"},
		{arrow.BinaryTypes.Binary, `["/wA="]`, "\xff\x00"},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `["/wA="]`, "\xff\x00"},
		{arrow.FixedWidthTypes.Date32, `["1970-01-03"]`, int64(2)},
		{arrow.FixedWidthTypes.Date64, `["1970-01-03"]`, int64(2 * 86400000)},
		{arrow.FixedWidthTypes.Time32s, `["00:01:00"]`, int64(60)},
		{arrow.FixedWidthTypes.Time64us, `["00:00:01"]`, int64(1000000)},
		{arrow.FixedWidthTypes.Timestamp_ms, `["1970-01-01T00:00:01Z"]`, int64(1000)},
		{arrow.FixedWidthTypes.Duration_s, `["5s"]`, int64(5)},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `["red"]`, "red"},
		{arrow.ListOf(arrow.PrimitiveTypes.Int64), `[[1,2]]`, "[1,2]"},
		{arrow.Null, `[null]`, nil},
	} {
		t.Run(c.typ.String(), func(t *testing.T) {
			a, _, err := array.FromJSON(memory.DefaultAllocator, c.typ, bytes.NewReader([]byte(c.json)))
			if err != nil {
				t.Fatal(err)
			}
			defer a.Release()
			if got := ValueAt(a, 0); got.V != c.want {
				t.Fatalf("got %#v, want %#v", got.V, c.want)
			}
		})
	}
	t.Run("extension", func(t *testing.T) {
		b := extensions.NewUUIDBuilder(memory.DefaultAllocator)
		defer b.Release()
		if err := b.AppendValueFromString("00000000-0000-0000-0000-00000000000a"); err != nil {
			t.Fatal(err)
		}
		a := b.NewArray()
		defer a.Release()
		want := Value{Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, V: string(make([]byte, 15)) + "\n"}
		if got := ValueAt(a, 0); got.V != want.V || !arrow.TypeEqual(got.Type, want.Type) {
			t.Fatalf("got %#v, want %#v", got, want)
		}
	})
}

func TestValueConstructors(t *testing.T) {
	moment := time.Date(1969, 12, 31, 23, 30, 0, 0, time.FixedZone("east", 7200))
	for _, c := range []struct {
		value Value
		typ   arrow.DataType
		v     any
		text  string
	}{
		{Value{}, nil, nil, "NULL"},
		{Null(arrow.PrimitiveTypes.Int8), arrow.PrimitiveTypes.Int8, nil, "NULL"},
		{Bool(true), arrow.FixedWidthTypes.Boolean, true, "true"},
		{Int(-5), arrow.PrimitiveTypes.Int64, int64(-5), "-5"},
		{Uint(math.MaxUint64), arrow.PrimitiveTypes.Uint64, uint64(math.MaxUint64), "18446744073709551615"},
		{Float(1.5), arrow.PrimitiveTypes.Float64, 1.5, "1.5"},
		{Text(`a"b`), arrow.BinaryTypes.String, `a"b`, `"a\"b"`},
		{Bytes([]byte{0, 255}), arrow.BinaryTypes.Binary, "\x00\xff", "0x00ff"},
		{Timestamp(moment), arrow.FixedWidthTypes.Timestamp_us, int64(-9000000000), "1969-12-31T21:30:00Z"},
		{Date(moment), arrow.FixedWidthTypes.Date32, int64(-1), "1969-12-31"},
		{Decimal(decimal128.FromI64(-125), 2), &arrow.Decimal128Type{Precision: 38, Scale: 2}, decimal128.FromI64(-125), "-1.25"},
	} {
		if c.value.V != c.v || c.typ != nil && !arrow.TypeEqual(c.value.Type, c.typ) {
			t.Errorf("got %#v, want %#v of type %s", c.value, c.v, c.typ)
		}
		if diff := cmp.Diff(c.text, c.value.String()); diff != "" {
			t.Error(diff)
		}
	}
}

// ratio returns a finite number as a fraction, without the code under test.
func ratio(v Value) *big.Rat {
	r := new(big.Rat)
	switch x := v.V.(type) {
	case int64:
		r.SetInt64(x)
	case uint64:
		r.SetUint64(x)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil
		}
		r.SetFloat64(x)
	case decimal128.Num:
		r.SetString(x.ToString(v.Type.(arrow.DecimalType).GetScale()))
	case decimal256.Num:
		r.SetString(x.ToString(v.Type.(arrow.DecimalType).GetScale()))
	}
	return r
}

// holds reports whether a number type has the value of the fraction.
func holds(r *big.Rat, t arrow.DataType) bool {
	between := func(low, high *big.Int) bool {
		return r.IsInt() && r.Num().Cmp(low) >= 0 && r.Num().Cmp(high) <= 0
	}
	power := func(base, n int64) *big.Int { return new(big.Int).Exp(big.NewInt(base), big.NewInt(n), nil) }
	one := big.NewInt(1)
	id := t.ID()
	switch {
	case arrow.IsSignedInteger(id):
		half := power(2, int64(t.(arrow.FixedWidthDataType).BitWidth()-1))
		return between(new(big.Int).Neg(half), new(big.Int).Sub(half, one))
	case arrow.IsUnsignedInteger(id):
		return between(new(big.Int), new(big.Int).Sub(power(2, int64(t.(arrow.FixedWidthDataType).BitWidth())), one))
	case id == arrow.FLOAT64:
		f, _ := r.Float64()
		return !math.IsInf(f, 0) && new(big.Rat).SetFloat64(f).Cmp(r) == 0
	case id == arrow.FLOAT32:
		f, _ := r.Float32()
		return !math.IsInf(float64(f), 0) && new(big.Rat).SetFloat64(float64(f)).Cmp(r) == 0
	case id == arrow.FLOAT16:
		// 11 bits from 2^-14 up to 2^16. Arrow does not read the subnormal ones
		// as they are, so they are refused.
		scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(power(2, 24)))
		n := scaled.Num()
		return scaled.IsInt() && (n.Sign() == 0 || n.BitLen()-int(n.TrailingZeroBits()) <= 11 && n.BitLen() > 10 && n.BitLen() <= 40)
	}
	d := t.(arrow.DecimalType)
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(power(10, int64(d.GetScale()))))
	return scaled.IsInt() && scaled.Num().CmpAbs(power(10, int64(d.GetPrecision()))) < 0
}

// TestConvertIsExactOrRefuses compares Convert with independent arithmetic for every
// pair of types.
func TestConvertIsExactOrRefuses(t *testing.T) {
	for _, from := range scalarTypes() {
		t.Run(from.String(), rapid.MakeCheck(func(t *rapid.T) {
			v := drawValue(t, from)
			for _, to := range scalarTypes() {
				got, ok := Convert(v, to)
				want := Comparable(from, to)
				switch {
				case !want:
				case classOf(to) == numberClass:
					if r := ratio(v); r != nil {
						want = holds(r, to)
					} else {
						want = arrow.IsFloating(to.ID())
					}
				case classOf(to) == binaryClass && to.ID() == arrow.FIXED_SIZE_BINARY:
					want = len(v.V.(string)) == 2
				case classOf(to) == dateClass, classOf(to) == timeClass, classOf(to) == durationClass, classOf(to) == localClass, classOf(to) == instantClass:
					n := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(v.V.(int64)), big.NewInt(unitOf(from))), big.NewInt(unitOf(to)))
					want = n.IsInt() && n.Num().IsInt64() && n.Num().BitLen() <= to.(arrow.FixedWidthDataType).BitWidth()-1
				}
				// The least of the integers has a bit length of its own.
				if least, isInt := got.V.(int64); ok && !want && isInt && least == -1<<(to.(arrow.FixedWidthDataType).BitWidth()-1) {
					want = true
				}
				if ok != want {
					t.Fatalf("%s (%s) to %s: %t, want %t", v, from, to, ok, want)
				}
				if !ok {
					continue
				}
				if !arrow.TypeEqual(got.Type, to) || Compare(v, got) != 0 {
					t.Fatalf("%s (%s) became %s (%s)", v, from, got, got.Type)
				}
				a := column(t, got)
				if back := ValueAt(a, 0); !same(back.V, got.V) {
					t.Fatalf("%s (%s): a column gives %s", got, to, back)
				}
				a.Release()
				if arrow.TypeEqual(from, to) && !same(got.V, v.V) {
					t.Fatalf("%s (%s) became %s on the way to its own type", v, from, got)
				}
			}
		}))
	}
}

func TestConvertNull(t *testing.T) {
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	if v, ok := Convert(Null(arrow.PrimitiveTypes.Int8), arrow.BinaryTypes.String); !ok || !v.IsNull() || v.Type.ID() != arrow.STRING {
		t.Errorf("NULL became %#v, %t", v, ok)
	}
	if v, ok := Convert(Text("x"), dictionary); !ok || v.Type.ID() != arrow.STRING {
		t.Errorf("the literal of a dictionary is %#v, %t", v, ok)
	}
	if v, ok := Convert(Bytes(make([]byte, 16)), extensions.NewUUIDType()); !ok || v.Type.ID() != arrow.FIXED_SIZE_BINARY {
		t.Errorf("the literal of a UUID is %#v, %t", v, ok)
	}
}

// TestCompareOrders checks the laws of a total order on values of all types of a
// class, and that numbers are compared by value.
func TestCompareOrders(t *testing.T) {
	byClass := map[class][]arrow.DataType{}
	for _, typ := range scalarTypes() {
		byClass[classOf(typ)] = append(byClass[classOf(typ)], typ)
	}
	for c, types := range byClass {
		t.Run(fmt.Sprint(c), rapid.MakeCheck(func(t *rapid.T) {
			var v [3]Value
			for i := range v {
				v[i] = drawValue(t, rapid.SampledFrom(types).Draw(t, "type"))
			}
			ab, bc, ac := Compare(v[0], v[1]), Compare(v[1], v[2]), Compare(v[0], v[2])
			if Compare(v[0], v[0]) != 0 {
				t.Fatalf("%s does not equal itself", v[0])
			}
			if ab != -Compare(v[1], v[0]) {
				t.Fatalf("%s and %s: %d one way, %d the other", v[0], v[1], ab, Compare(v[1], v[0]))
			}
			if ab <= 0 && bc <= 0 && (ac > 0 || ac == 0 && ab+bc != 0) {
				t.Fatalf("%s, %s, %s: %d, %d but %d", v[0], v[1], v[2], ab, bc, ac)
			}
			if x, y := ratio(v[0]), ratio(v[1]); c == numberClass && x != nil && y != nil && ab != x.Cmp(y) {
				t.Fatalf("%s (%s) and %s (%s): %d, want %d", v[0], v[0].Type, v[1], v[1].Type, ab, x.Cmp(y))
			}
		}))
	}
}

func TestCompareEdges(t *testing.T) {
	second := Value{Type: arrow.FixedWidthTypes.Timestamp_s, V: int64(math.MaxInt64)}
	for _, c := range []struct {
		a, b Value
		want int
	}{
		{Float(math.NaN()), Float(math.NaN()), 0},
		{Float(math.NaN()), Float(math.Inf(1)), 1},
		{Int(math.MaxInt64), Float(math.NaN()), -1},
		{Int(math.MinInt64), Float(math.Inf(-1)), 1},
		{Float(math.Copysign(0, -1)), Float(0), 0},
		{Int(math.MaxInt64), Float(1 << 63), -1},
		{Uint(math.MaxUint64), Int(-1), 1},
		{Decimal(decimal128.FromI64(10), 1), Int(1), 0},
		{Decimal(decimal128.FromI64(1), 1), Float(0.1), -1}, // the nearest float is a little more
		{Bool(false), Bool(true), -1},
		{Text("ä"), Text("z"), 1},
		{second, Timestamp(time.Unix(1<<40, 0)), 1},
	} {
		if got := Compare(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
	if Comparable(arrow.FixedWidthTypes.Timestamp_us, &arrow.TimestampType{Unit: arrow.Microsecond}) {
		t.Error("an instant compares with a timestamp that has no zone")
	}
	if list := arrow.ListOf(arrow.PrimitiveTypes.Int64); Comparable(list, list) {
		t.Error("lists compare")
	}
}

func BenchmarkConvert(b *testing.B) {
	for _, c := range []struct {
		name string
		v    Value
		to   arrow.DataType
	}{
		{"int64", Int(5), arrow.PrimitiveTypes.Int64},
		{"int64 to int32", Int(5), arrow.PrimitiveTypes.Int32},
		{"float64", Float(1.5), arrow.PrimitiveTypes.Float64},
		{"decimal128", Decimal(decimal128.FromI64(125), 2), &arrow.Decimal128Type{Precision: 10, Scale: 2}},
		{"int64 to decimal128", Int(5), &arrow.Decimal128Type{Precision: 10, Scale: 2}},
		{"timestamp", Timestamp(time.Unix(5, 0)), arrow.FixedWidthTypes.Timestamp_us},
		{"text", Text("x"), arrow.BinaryTypes.String},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := Convert(c.v, c.to); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}
