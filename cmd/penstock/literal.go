package main

import (
	"encoding/hex"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"

	"github.com/penstock-data/penstock/sources"
)

// bound is a literal as near as its column's type can say it. Where the type
// cannot say it (1.5 for an integer), comparisons still have an exact answer,
// and value is the greatest that the type can say below it.
type bound struct {
	value sources.Value // of the column's storage type
	exact bool
	// outside is +1 for a literal above everything that the type can say, -1 for
	// one below; value is then any value.
	outside int
}

// compare is "column op literal" as a predicate with the same three answers:
// where the literal is not exact, a value is never equal to it, and NULL stays
// unknown under every operator.
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

// literal reads an expression as a literal for a column.
func (w *where) literal(e celast.Expr, field arrow.Field) (bound, error) {
	t := field.Type
	want := celTypeOf(t)
	wrong := func(got string) (bound, error) {
		return bound{}, w.fault(e, "column %q is %s, and does not compare with a %s", field.Name, t, got)
	}
	exactly := func(v any) (bound, error) { return bound{value: typedAs(t, v), exact: true}, nil }
	isNumber := want == cel.IntType || want == cel.UintType || want == cel.DoubleType || want == celDecimal
	switch e.Kind() {
	case celast.LiteralKind:
		switch v := e.AsLiteral().(type) {
		case types.Bool:
			if want != cel.BoolType {
				return wrong("boolean")
			}
			return exactly(bool(v))
		case types.Int, types.Uint, types.Double:
			if !isNumber {
				return wrong("number")
			}
			r, err := w.number(e, e.AsLiteral())
			if err != nil {
				return bound{}, err
			}
			return boundOf(r, t), nil
		case types.String:
			if want == celUUID {
				id, ok := parseUUID(string(v))
				if !ok {
					return bound{}, w.fault(e, "%q is not a UUID", string(v))
				}
				return exactly(id)
			}
			if want != cel.StringType {
				return wrong("text")
			}
			return exactly(string(v))
		case types.Bytes:
			if want != cel.BytesType {
				return wrong("bytes literal")
			}
			if f, ok := storageOf(t).(*arrow.FixedSizeBinaryType); ok && len(v) != f.ByteWidth {
				return bound{}, w.fault(e, "column %q has %d bytes, the literal %d", field.Name, f.ByteWidth, len(v))
			}
			return exactly(string(v))
		}
	case celast.CallKind:
		call := e.AsCall()
		if call.FunctionName() == operators.Negate && isNumber && call.Args()[0].Kind() == celast.LiteralKind {
			r, err := w.number(call.Args()[0], call.Args()[0].AsLiteral())
			if err != nil {
				return bound{}, err
			}
			return boundOf(r.Neg(r), t), nil
		}
		if len(call.Args()) != 1 || call.FunctionName() == operators.Negate {
			break
		}
		text, ok := asText(call.Args()[0])
		if !ok {
			return bound{}, w.fault(call.Args()[0], "%s wants a text in quotes", call.FunctionName())
		}
		return w.constructed(e, call.FunctionName(), text, field)
	}
	return bound{}, w.fault(e, "this must be a literal")
}

// constructed reads date("..."), decimal("...") and their like.
func (w *where) constructed(e celast.Expr, function, text string, field arrow.Field) (bound, error) {
	want := celTypeOf(field.Type)
	wrong := func() (bound, error) {
		return bound{}, w.fault(e, "column %q is %s, and does not compare with a %s", field.Name, field.Type, function)
	}
	bad := func(example string) (bound, error) {
		return bound{}, w.fault(e, "%q is not a %s: write it as %s", text, function, example)
	}
	switch function {
	case "decimal":
		if want != cel.IntType && want != cel.UintType && want != cel.DoubleType && want != celDecimal {
			return wrong()
		}
		r, ok := parseDecimal(text)
		if !ok {
			return bad("1.10")
		}
		return boundOf(r, field.Type), nil
	case "date":
		if want != celDate {
			return wrong()
		}
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return bad("2024-01-31")
		}
		return boundOf(nanoseconds(day), field.Type), nil
	case "time":
		if want != celTime {
			return wrong()
		}
		clock, err := time.Parse("15:04:05", text)
		if err != nil {
			return bad("23:59:59.5")
		}
		midnight := time.Date(clock.Year(), clock.Month(), clock.Day(), 0, 0, 0, 0, time.UTC)
		return boundOf(new(big.Rat).SetInt64(int64(clock.Sub(midnight))), field.Type), nil
	case "duration":
		if want != cel.DurationType {
			return wrong()
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return bad("1h30m")
		}
		return boundOf(new(big.Rat).SetInt64(int64(d)), field.Type), nil
	case "timestamp":
		if want != cel.TimestampType && want != celLocal {
			return wrong()
		}
		moment, zoned, ok := parseTimestamp(text)
		switch {
		case !ok:
			return bad("2024-01-31T10:00:00Z")
		case zoned && want == celLocal:
			return bound{}, w.fault(e, "column %q has no zone: leave the %q's offset away", field.Name, text)
		case !zoned && want == cel.TimestampType:
			return bound{}, w.fault(e, "column %q holds instants: say the zone, as in %sZ", field.Name, text)
		}
		return boundOf(nanoseconds(moment), field.Type), nil
	}
	return bound{}, w.fault(e, "this must be a literal")
}

// boundOf returns a number (or, for a type of time, nanoseconds) as the type
// says it. A float is the nearest one, as it is in every language.
func boundOf(r *big.Rat, t arrow.DataType) bound {
	s := storageOf(t)
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
	whole := new(big.Int).Div(ticks.Num(), ticks.Denom()) // towards minus infinity: the denominator is positive
	least, most := rangeOf(s)
	b := bound{exact: ticks.IsInt()}
	switch {
	case whole.Cmp(most) > 0:
		b.outside, b.exact, whole = 1, false, most
	case whole.Cmp(least) < 0:
		b.outside, b.exact, whole = -1, false, least
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

// ticksPer is how many units of a type a one is (for a type of time, a
// nanosecond).
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

// rangeOf returns the least and the greatest whole number that a type holds.
func rangeOf(t arrow.DataType) (least, most *big.Int) {
	if d, ok := t.(arrow.DecimalType); ok {
		most = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.GetPrecision())), nil)
		most.Sub(most, big.NewInt(1))
		return new(big.Int).Neg(most), most
	}
	bits := uint(t.(arrow.FixedWidthDataType).BitWidth())
	if arrow.IsUnsignedInteger(t.ID()) {
		most = new(big.Int).Lsh(big.NewInt(1), bits)
		return new(big.Int), most.Sub(most, big.NewInt(1))
	}
	half := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return new(big.Int).Neg(half), new(big.Int).Sub(half, big.NewInt(1))
}

// storageOf is the type that a literal of a column has.
func storageOf(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case arrow.ExtensionType:
		return storageOf(t.StorageType())
	case *arrow.DictionaryType:
		return storageOf(t.ValueType)
	}
	return t
}

func typedAs(t arrow.DataType, v any) sources.Value { return sources.Value{Type: storageOf(t), V: v} }

// zeroOf is some value of a type that compares.
func zeroOf(t arrow.DataType) any {
	switch s := storageOf(t); s.ID() {
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

var decimalText = regexp.MustCompile(`^[-+]?(\d+(\.\d*)?|\.\d+)([eE]([-+]?\d+))?$`)

// parseDecimal reads a decimal number exactly. It refuses what no column could
// hold, so that a short text cannot ask for a number of a million digits.
func parseDecimal(s string) (*big.Rat, bool) {
	m := decimalText.FindStringSubmatch(s)
	if m == nil || len(s) > 1000 {
		return nil, false
	}
	if m[4] != "" {
		if exponent, err := strconv.Atoi(m[4]); err != nil || exponent > 1000 || exponent < -1000 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(s)
}

// parseTimestamp reads RFC 3339, with a space for the T and without the offset
// if need be; a mere date is its midnight.
func parseTimestamp(s string) (t time.Time, zoned, ok bool) {
	s = strings.Replace(s, " ", "T", 1)
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, true, true
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, false, true
		}
	}
	return time.Time{}, false, false
}

// nanoseconds since 1970, which for far years do not fit in 64 bits.
func nanoseconds(t time.Time) *big.Rat {
	n := new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(int64(time.Second)))
	return new(big.Rat).SetInt(n.Add(n, big.NewInt(int64(t.Nanosecond()))))
}

// parseUUID reads the canonical form of a UUID into its 16 bytes.
func parseUUID(s string) (string, bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return "", false
	}
	id, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	return string(id), err == nil && len(id) == 16
}
