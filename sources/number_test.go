package sources

import (
	"math"
	"math/big"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

func TestParseNumber(t *testing.T) {
	for in, want := range map[string]Digits{
		"0": "0", "-0": "0", "0.00": "0", "007": "7", "1.50": "1.5", "+1": "1", "-.5": "-0.5", "5.": "5", "1e3": "1000", "1.25e1": "12.5",
		"125e-2": "1.25", "-1E-3": "-0.001", "100": "100", "NaN": "NaN", "Infinity": "Infinity", "-Infinity": "-Infinity",
	} {
		if v, ok := ParseNumber(in); !ok || v.V != want || v.Type != Number {
			t.Errorf("ParseNumber(%q) = %v, %t, want %s", in, v.V, ok, want)
		}
	}
	for _, in := range []string{"", "-", ".", "1.2.3", "1e", "1e999999999", "x", " 1", "1 ", "nan", "inf", "--1", "1,5", "0x10"} {
		if v, ok := ParseNumber(in); ok {
			t.Errorf("ParseNumber(%q) = %v, want none", in, v.V)
		}
	}
}

func TestCompareNumbers(t *testing.T) {
	ordered := []string{"-Infinity", "-1000", "-25.5", "-25", "-0.001", "0", "0.001", "0.01", "9.50", "25", "99.99999999999999999999999999999999999999999", "100", "1000.00", "1e60", "Infinity", "NaN"}
	values := make([]Value, len(ordered))
	for i, s := range ordered {
		values[i], _ = ParseNumber(s)
	}
	for i, a := range values {
		for j, b := range values {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := Compare(a, b); got != want {
				t.Errorf("Compare(%s, %s) = %d, want %d", a, b, got, want)
			}
			if got, ok := CompareNumberText(ordered[i], ordered[j]); got != want || !ok {
				t.Errorf("CompareNumberText(%s, %s) = %d, %t, want %d", a, b, got, ok, want)
			}
		}
	}
	mixed := []struct {
		a, b Value
		want int
	}{
		{number("1.0"), Int(1), 0}, {Int(2), number("1.99"), 1}, {number("0.1"), Float(0.1), -1}, {number("0.5"), Float(0.5), 0},
		{number("NaN"), Float(math.NaN()), 0}, {number("Infinity"), Float(math.Inf(1)), 0}, {Float(math.Inf(-1)), number("-1e100"), -1},
		{number("12.50"), Decimal(decimal128.FromI64(1250), 2), 0}, {Uint(math.MaxUint64), number("18446744073709551616"), -1},
	}
	for _, c := range mixed {
		if got := Compare(c.a, c.b); got != c.want {
			t.Errorf("Compare(%s, %s) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := Compare(c.b, c.a); got != -c.want {
			t.Errorf("Compare(%s, %s) = %d, want %d", c.b, c.a, got, -c.want)
		}
	}
}

func number(s string) Value {
	v, ok := ParseNumber(s)
	if !ok {
		panic(s)
	}
	return v
}

func TestConvertNumbers(t *testing.T) {
	for _, c := range []struct {
		v    Value
		to   arrow.DataType
		want string // empty: it does not fit
	}{
		{Int(500), Number, "500"}, {Float(1.5), Number, "1.5"}, {Float(math.NaN()), Number, "NaN"}, {Decimal(decimal128.FromI64(150), 2), Number, "1.5"},
		{Decimal(decimal128.FromI64(15), -2), Number, "1500"},
		{number("1.50"), arrow.PrimitiveTypes.Int64, ""}, {number("2.00"), arrow.PrimitiveTypes.Int64, "2"}, {number("NaN"), arrow.PrimitiveTypes.Int64, ""},
		{number("NaN"), arrow.PrimitiveTypes.Float64, "NaN"}, {number("0.1"), arrow.PrimitiveTypes.Float64, ""},
		{number("1.5"), &arrow.Decimal128Type{Precision: 5, Scale: 2}, "1.50"}, {number("1.555"), &arrow.Decimal128Type{Precision: 5, Scale: 2}, ""},
		{Text("1"), Number, ""}, {number("1"), arrow.BinaryTypes.String, ""},
	} {
		got, ok := Convert(c.v, c.to)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("Convert(%s, %s) = %s, %t, want %q", c.v, c.to, got, ok, c.want)
		}
	}
}

// FuzzNumber holds numbers against exact fractions.
func FuzzNumber(f *testing.F) {
	f.Add("1.50", "-0.1e3")
	f.Add("NaN", "00012.0")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, ok1 := ParseNumber(a)
		y, ok2 := ParseNumber(b)
		if !ok1 || !ok2 || len(x.V.(Digits))+len(y.V.(Digits)) > 10_000 {
			return
		}
		again, ok := ParseNumber(string(x.V.(Digits)))
		if !ok || again.V != x.V {
			t.Fatalf("%q is not canonical", x.V)
		}
		p, ok1 := new(big.Rat).SetString(a)
		q, ok2 := new(big.Rat).SetString(b)
		if ok1 && ok2 {
			if got, want := Compare(x, y), p.Cmp(q); got != want {
				t.Fatalf("Compare(%q, %q) = %d, want %d", a, b, got, want)
			}
			if got, ok := CompareNumberText(a, b); got != p.Cmp(q) || !ok {
				t.Fatalf("CompareNumberText(%q, %q) = %d, %t", a, b, got, ok)
			}
		}
	})
}
