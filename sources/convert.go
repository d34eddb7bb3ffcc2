package sources

import (
	"math"
	"math/big"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
)

// Convert returns v as a value of type t, where t can hold it exactly. It is
// how a literal gets its column's type: 5 becomes an int16 or a decimal, 1.5
// does not become an integer. It reports false where the types are not
// [Comparable] or t cannot hold the very same value. NULL converts to any type.
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
	id := t.ID()
	if f, ok := v.V.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return Value{Type: t, V: f}, arrow.IsFloating(id)
	}
	r, _ := v.exact()
	switch {
	case arrow.IsFloating(id):
		f, exact := r.Float64()
		switch id {
		case arrow.FLOAT32:
			exact = exact && float64(float32(f)) == f
		case arrow.FLOAT16:
			exact = false // nobody has asked for a literal of this type
		}
		return Value{Type: t, V: f}, exact
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
		bits := t.(arrow.FixedWidthDataType).BitWidth()
		if n := r.Num(); n.IsInt64() && n.Int64()>>(bits-1) == n.Int64()>>63 {
			return Value{Type: t, V: n.Int64()}, true
		}
	default:
		bits := t.(arrow.FixedWidthDataType).BitWidth()
		if n := r.Num(); n.IsUint64() && n.BitLen() <= bits {
			return Value{Type: t, V: n.Uint64()}, true
		}
	}
	return Value{}, false
}
