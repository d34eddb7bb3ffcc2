package sources

import (
	"math"
	"math/big"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/float16"
)

// Convert returns v as a value of type t, for example to give a literal the type of
// its column. It returns false if the types are not [Comparable] or t cannot
// represent the value exactly: 5 converts to an int16 or a decimal, but 1.5 does not
// convert to an integer. NULL converts to any type.
func Convert(v Value, t arrow.DataType) (Value, bool) {
	switch x := t.(type) {
	case arrow.ExtensionType:
		t = x.StorageType()
	case *arrow.DictionaryType:
		t = x.ValueType
	}
	if v.IsNull() {
		return Null(t), true
	}
	if !Comparable(v.Type, t) {
		return Value{}, false
	}
	switch classOf(t) {
	case numberClass:
		return convertNumber(v, t)
	case dateClass, timeClass, localClass, instantClass, durationClass:
		if unitOf(v.Type) == unitOf(t) && t.(arrow.FixedWidthDataType).BitWidth() == 64 {
			return Value{Type: t, V: v.V}, true
		}
		n := new(big.Int).Mul(big.NewInt(v.V.(int64)), big.NewInt(unitOf(v.Type)))
		n, rest := n.QuoRem(n, big.NewInt(unitOf(t)), new(big.Int))
		if rest.Sign() != 0 || !n.IsInt64() {
			return Value{}, false
		}
		if id := t.ID(); (id == arrow.DATE32 || id == arrow.TIME32) && int64(int32(n.Int64())) != n.Int64() {
			return Value{}, false
		}
		return Value{Type: t, V: n.Int64()}, true
	case binaryClass:
		if f, ok := t.(*arrow.FixedSizeBinaryType); ok && len(v.V.(string)) != f.ByteWidth {
			return Value{}, false
		}
	}
	return Value{Type: t, V: v.V}, true
}

func convertNumber(v Value, t arrow.DataType) (Value, bool) {
	if t == Number {
		d, ok := digitsOf(v)
		return Value{Type: Number, V: d}, ok
	}
	id := t.ID()
	// Most values are of a type of the same sort and do not need exact arithmetic,
	// which is much slower. A float that stays a float also keeps the sign of zero.
	switch x := v.V.(type) {
	case int64:
		if arrow.IsSignedInteger(id) {
			width := t.(arrow.FixedWidthDataType).BitWidth()
			return Value{Type: t, V: v.V}, x>>(width-1) == x>>63
		}
	case uint64:
		if arrow.IsUnsignedInteger(id) {
			width := t.(arrow.FixedWidthDataType).BitWidth()
			return Value{Type: t, V: v.V}, bits.Len64(x) <= width
		}
	case float64:
		if arrow.IsFloating(id) {
			return Value{Type: t, V: v.V}, math.IsNaN(x) || floatFits(x, id)
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return Value{}, false
		}
	case decimal128.Num:
		if id == arrow.DECIMAL128 && v.scale() == t.(arrow.DecimalType).GetScale() && x.HighBits() != math.MinInt64 {
			return Value{Type: t, V: v.V}, x.FitsInPrecision(t.(arrow.DecimalType).GetPrecision())
		}
	}
	r, rank := v.exact()
	if r == nil { // NaN or an infinity of type Number
		if !arrow.IsFloating(id) {
			return Value{}, false
		}
		special := map[int]float64{-1: math.Inf(-1), 1: math.Inf(1), 2: math.NaN()}
		return Value{Type: t, V: special[rank]}, true
	}
	switch {
	case arrow.IsFloating(id):
		f, exact := r.Float64()
		return Value{Type: t, V: f}, exact && floatFits(f, id)
	case arrow.IsDecimal(id):
		d := t.(arrow.DecimalType)
		ten := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(d.GetScale(), -d.GetScale()))), nil))
		if d.GetScale() < 0 {
			ten.Inv(ten)
		}
		r.Mul(r, ten)
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.GetPrecision())), nil)
		if !r.IsInt() || r.Num().CmpAbs(limit) >= 0 {
			return Value{}, false
		}
		if id == arrow.DECIMAL256 {
			return Value{Type: t, V: decimal256.FromBigInt(r.Num())}, true
		}
		return Value{Type: t, V: decimal128.FromBigInt(r.Num())}, true
	case !r.IsInt():
		return Value{}, false
	case arrow.IsSignedInteger(id):
		width := t.(arrow.FixedWidthDataType).BitWidth()
		if n := r.Num(); n.IsInt64() && n.Int64()>>(width-1) == n.Int64()>>63 {
			return Value{Type: t, V: n.Int64()}, true
		}
	default:
		width := t.(arrow.FixedWidthDataType).BitWidth()
		if n := r.Num(); n.IsUint64() && n.BitLen() <= width {
			return Value{Type: t, V: n.Uint64()}, true
		}
	}
	return Value{}, false
}

// floatFits reports whether a float type represents f exactly. f is not NaN.
func floatFits(f float64, id arrow.Type) bool {
	switch id {
	case arrow.FLOAT16:
		// Arrow converts numbers between 0 and 2^-14 to wrong ones.
		if f != 0 && math.Abs(f) < 1.0/(1<<14) {
			return false
		}
		return float64(float16.New(float32(f)).Float32()) == f
	case arrow.FLOAT32:
		return float64(float32(f)) == f
	}
	return true
}
