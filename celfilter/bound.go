package celfilter

import (
	"math/big"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"

	"github.com/penstock-data/penstock/sources"
)

// bound is a literal as a value of its column's type. If the type cannot represent
// it (1.5 for an integer), value is the greatest representable value below it, and
// comparisons are still exact.
type bound struct {
	value sources.Value // of the column's storage type
	exact bool
	// outside is +1 for a literal above the range of the type and -1 for one below
	// it; value is then any value.
	outside int
}

// compare returns "column op literal" as a predicate with the same three-valued
// answers: no value equals a literal that is not exact, and NULL stays unknown
// under every operator.
func (b bound) compare(column string, op sources.Op) sources.Predicate {
	leaf := func(op sources.Op) sources.Predicate {
		return sources.Comparison{Column: column, Op: op, Value: b.value}
	}
	if b.exact {
		return leaf(op)
	}
	always := sources.Or{leaf(sources.OpLe), leaf(sources.OpGt)}
	never := sources.And{leaf(sources.OpLt), leaf(sources.OpGt)}
	switch op {
	case sources.OpEq:
		return never
	case sources.OpNe:
		return always
	case sources.OpLt, sources.OpLe:
		switch b.outside {
		case 1:
			return always
		case -1:
			return never
		}
		return leaf(sources.OpLe)
	default:
		switch b.outside {
		case 1:
			return never
		case -1:
			return always
		}
		return leaf(sources.OpGt)
	}
}

// numberBound returns a decimal number as a value of a column's type.
func numberBound(r *big.Rat, f arrow.Field) bound {
	if sources.FieldType(f) != sources.Number {
		return boundOf(r, f.Type)
	}
	digits, _ := r.FloatPrec() // exact: r was written in decimal
	n, _ := sources.ParseNumber(r.FloatString(digits))
	return bound{value: n, exact: true}
}

// boundOf returns a number (nanoseconds, for a type of time) as a value of the
// type. For a floating-point type that is the nearest value.
func boundOf(r *big.Rat, t arrow.DataType) bound {
	s := sources.ValueType(t)
	id := s.ID()
	if arrow.IsFloating(id) {
		f, _ := r.Float64()
		if id != arrow.FLOAT64 {
			f32, _ := r.Float32()
			f = float64(f32)
		}
		return bound{value: sources.Value{Type: s, V: f}, exact: true}
	}
	ticks := new(big.Rat).Mul(r, ticksPer(s))
	whole := new(big.Int).Div(ticks.Num(), ticks.Denom()) // rounds down, since the denominator is positive
	low, high := rangeOf(s)
	b := bound{exact: ticks.IsInt()}
	switch {
	case whole.Cmp(high) > 0:
		b.outside, b.exact, whole = 1, false, high
	case whole.Cmp(low) < 0:
		b.outside, b.exact, whole = -1, false, low
	}
	switch {
	case id == arrow.DECIMAL256:
		b.value = sources.Value{Type: s, V: decimal256.FromBigInt(whole)}
	case arrow.IsDecimal(id):
		b.value = sources.Value{Type: s, V: decimal128.FromBigInt(whole)}
	case arrow.IsUnsignedInteger(id):
		b.value = sources.Value{Type: s, V: whole.Uint64()}
	default:
		b.value = sources.Value{Type: s, V: whole.Int64()}
	}
	return b
}

// ticksPer returns the number of a type's units in 1 (in a nanosecond, for a type
// of time).
func ticksPer(t arrow.DataType) *big.Rat {
	one := big.NewRat(1, 1)
	switch t := t.(type) {
	case arrow.DecimalType:
		scale := int64(t.GetScale())
		p := new(big.Int).Exp(big.NewInt(10), big.NewInt(max(scale, -scale)), nil)
		if scale < 0 {
			return one.SetFrac(big.NewInt(1), p)
		}
		return one.SetInt(p)
	case *arrow.Date32Type:
		return one.SetFrac64(1, int64(24*time.Hour))
	case *arrow.Date64Type:
		return one.SetFrac64(1, int64(time.Millisecond))
	case arrow.TemporalWithUnit:
		return one.SetFrac64(1, int64(t.TimeUnit().Multiplier()))
	}
	return one
}

// rangeOf returns the smallest and the largest number of units that a type holds.
func rangeOf(t arrow.DataType) (low, high *big.Int) {
	if d, ok := t.(arrow.DecimalType); ok {
		high = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.GetPrecision())), nil)
		high.Sub(high, big.NewInt(1))
		return new(big.Int).Neg(high), high
	}
	bits := uint(t.(arrow.FixedWidthDataType).BitWidth())
	if arrow.IsUnsignedInteger(t.ID()) {
		high = new(big.Int).Lsh(big.NewInt(1), bits)
		return new(big.Int), high.Sub(high, big.NewInt(1))
	}
	half := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return new(big.Int).Neg(half), new(big.Int).Sub(half, big.NewInt(1))
}

func typedAs(t arrow.DataType, v any) sources.Value {
	return sources.Value{Type: sources.ValueType(t), V: v}
}

// zeroOf returns a value of a type that has comparisons.
func zeroOf(t arrow.DataType) any {
	switch s := sources.ValueType(t); s.ID() {
	case arrow.BOOL:
		return false
	case arrow.STRING, arrow.LARGE_STRING, arrow.BINARY, arrow.LARGE_BINARY:
		return ""
	case arrow.FIXED_SIZE_BINARY:
		return strings.Repeat("\x00", s.(*arrow.FixedSizeBinaryType).ByteWidth)
	default:
		return boundOf(new(big.Rat), t).value.V
	}
}
