package celfilter

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// literal returns the value of a literal that is compared with a column.
func (tr *translator) literal(e celast.Expr, field arrow.Field) (bound, error) {
	t := field.Type
	want := celTypeOf(field)
	wrong := func(got string) (bound, error) {
		return bound{}, tr.fault(e, "column %q is %s and does not compare with a %s", field.Name, typeName(field), got)
	}
	exactly := func(v any) (bound, error) { return bound{value: typedAs(t, v), exact: true}, nil }
	isNumber := holdsNumbers(want)
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
			r, err := tr.number(e, e.AsLiteral())
			if err != nil {
				return bound{}, err
			}
			return numberBound(r, field), nil
		case types.String:
			if want == celExact {
				n, ok := sources.ParseNumber(string(v))
				if !ok {
					return bound{}, tr.fault(e, "column %q holds numbers, and %q is not a number", field.Name, string(v))
				}
				return bound{value: n, exact: true}, nil
			}
			if want == celUUID {
				id, ok := sources.ParseUUID(string(v))
				if !ok {
					return bound{}, tr.fault(e, "%q is not a uuid: write it as 00112233-4455-6677-8899-aabbccddeeff", string(v))
				}
				return exactly(string(id[:]))
			}
			if want != cel.StringType {
				return wrong("text")
			}
			return exactly(string(v))
		case types.Bytes:
			if want != cel.BytesType && want != celUUID {
				return wrong("bytes literal")
			}
			if f, ok := sources.ValueType(t).(*arrow.FixedSizeBinaryType); ok && len(v) != f.ByteWidth {
				return bound{}, tr.fault(e, "column %q has values of %d bytes, but the literal has %d", field.Name, f.ByteWidth, len(v))
			}
			return exactly(string(v))
		}
	case celast.CallKind:
		call := e.AsCall()
		if call.FunctionName() == operators.Negate && isNumber && call.Args()[0].Kind() == celast.LiteralKind {
			r, err := tr.number(call.Args()[0], call.Args()[0].AsLiteral())
			if err != nil {
				return bound{}, err
			}
			return numberBound(r.Neg(r), field), nil
		}
		if len(call.Args()) != 1 || call.FunctionName() == operators.Negate {
			break
		}
		text, ok := asText(call.Args()[0])
		if !ok {
			return bound{}, tr.fault(call.Args()[0], "%s needs a text in quotes", call.FunctionName())
		}
		return tr.constructed(e, call.FunctionName(), text, field)
	}
	return bound{}, tr.fault(e, "this must be a literal")
}

// constructed returns the value of date("..."), decimal("...") and the like.
func (tr *translator) constructed(e celast.Expr, function, text string, field arrow.Field) (bound, error) {
	want := celTypeOf(field)
	wrong := func() (bound, error) {
		return bound{}, tr.fault(e, "column %q is %s and does not compare with a %s", field.Name, typeName(field), function)
	}
	bad := func(example string) (bound, error) {
		return bound{}, tr.fault(e, "%q is not a %s: write it as %s", text, function, example)
	}
	switch function {
	case "decimal":
		if !holdsNumbers(want) {
			return wrong()
		}
		r, ok := parseDecimal(text)
		if !ok {
			return bad("1.10")
		}
		return numberBound(r, field), nil
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
		instant, zoned, ok := parseTimestamp(text)
		switch {
		case !ok:
			return bad("2024-01-31T10:00:00Z")
		case zoned && want == celLocal:
			return bound{}, tr.fault(e, "column %q has no zone: remove the offset from %q", field.Name, text)
		case !zoned && want == cel.TimestampType:
			return bound{}, tr.fault(e, "column %q holds instants: add the zone, as in %sZ", field.Name, text)
		}
		return boundOf(nanoseconds(instant), field.Type), nil
	}
	return bound{}, tr.fault(e, "this must be a literal")
}

// holdsNumbers reports whether a column of that type is compared with numbers.
func holdsNumbers(t *cel.Type) bool {
	return t == cel.IntType || t == cel.UintType || t == cel.DoubleType || t == celDecimal || t == celExact
}

// number returns the exact value of a number. CEL keeps 1.10 as a float64, so a
// decimal column needs the digits of the text.
func (tr *translator) number(e celast.Expr, value ref.Val) (*big.Rat, error) {
	switch v := value.(type) {
	case types.Int:
		return new(big.Rat).SetInt64(int64(v)), nil
	case types.Uint:
		return new(big.Rat).SetUint64(uint64(v)), nil
	}
	at, ok := tr.info.GetOffsetRange(e.ID())
	text := []rune(tr.text)
	if !ok || int(at.Start) > len(text) {
		return nil, tr.fault(e, "the text of this number was not found")
	}
	written := doubleText.FindString(string(text[at.Start:]))
	r, ok := parseDecimal(strings.ReplaceAll(written, " ", ""))
	if !ok {
		return nil, tr.fault(e, "this number is too long or too small")
	}
	return r, nil
}

var doubleText = regexp.MustCompile(`^-?\s*(\d+(\.\d+)?|\.\d+)([eE][-+]?\d+)?`)

var decimalText = regexp.MustCompile(`^[-+]?(\d+(\.\d*)?|\.\d+)([eE]([-+]?\d+))?$`)

// parseDecimal parses a decimal number exactly. It refuses exponents that no
// column could hold, so that a short text cannot make a number of a million digits.
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

// parseTimestamp parses RFC 3339, also with a space instead of the T, and without
// an offset. A date alone is its midnight.
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

// nanoseconds returns the time since 1970, which may not fit in 64 bits.
func nanoseconds(t time.Time) *big.Rat {
	n := new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(int64(time.Second)))
	return new(big.Rat).SetInt(n.Add(n, big.NewInt(int64(t.Nanosecond()))))
}
