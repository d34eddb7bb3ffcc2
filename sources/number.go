package sources

import (
	"cmp"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
)

// Number is the type of exact decimal numbers of any size, including NaN and the
// infinities. In columns they are stored as text; see [ByNumber]. The V of a [Value]
// of this type is a [Digits].
var Number arrow.DataType = &numberType{}

// numberType is stored as text.
type numberType struct{ arrow.StringType }

func (*numberType) Name() string        { return "number" }
func (*numberType) String() string      { return "number" }
func (*numberType) Fingerprint() string { return "" }

// Digits is a number in its canonical form: an optional minus sign, digits without
// leading zeros, and if the number is not an integer a point and digits without
// trailing zeros; or NaN, Infinity or -Infinity. Equal numbers have equal Digits. Zero
// has no sign.
type Digits string

// maxExponent bounds the exponent of a number in text: its canonical form has that
// many digits. It is larger than the exponents of PostgreSQL's numeric.
const maxExponent = 200_000

// ParseNumber parses a number as PostgreSQL and most others write it: digits with an
// optional sign, point and exponent, or NaN, Infinity or -Infinity. It returns false
// for other text.
func ParseNumber(s string) (Value, bool) {
	d, ok := parseDigits(s)
	return Value{Type: Number, V: d}, ok
}

func parseDigits(s string) (Digits, bool) {
	switch s {
	case "NaN", "Infinity", "-Infinity":
		return Digits(s), true
	}
	rest, negative := strings.CutPrefix(s, "-")
	if !negative {
		rest = strings.TrimPrefix(rest, "+")
	}
	exponent := 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		n, err := strconv.Atoi(rest[i+1:])
		if err != nil || n > maxExponent || n < -maxExponent {
			return "", false
		}
		rest, exponent = rest[:i], n
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	if whole == "" && fraction == "" || !onlyDigits(whole) || !onlyDigits(fraction) {
		return "", false
	}
	if exponent != 0 {
		digits, point := whole+fraction, len(whole)+exponent
		switch {
		case point <= 0:
			whole, fraction = "", strings.Repeat("0", -point)+digits
		case point >= len(digits):
			whole, fraction = digits+strings.Repeat("0", point-len(digits)), ""
		default:
			whole, fraction = digits[:point], digits[point:]
		}
	}
	whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	if whole == "" {
		whole = "0"
	}
	out := whole
	if fraction != "" {
		out += "." + fraction
	}
	if negative && out != "0" {
		out = "-" + out
	}
	return Digits(out), true
}

func onlyDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// CompareDigits compares numbers in their canonical form: -Infinity is the smallest
// and NaN the greatest.
func CompareDigits(a, b Digits) int {
	if ra, rb := a.rank(), b.rank(); ra != 0 || rb != 0 {
		return cmp.Compare(ra, rb)
	}
	x, xNegative := strings.CutPrefix(string(a), "-")
	y, yNegative := strings.CutPrefix(string(b), "-")
	switch {
	case xNegative != yNegative:
		if xNegative {
			return -1
		}
		return 1
	case xNegative:
		return comparePlain(y, x)
	}
	return comparePlain(x, y)
}

// comparePlain compares two canonical numbers without a sign.
func comparePlain(x, y string) int {
	xWhole, xFraction, _ := strings.Cut(x, ".")
	yWhole, yFraction, _ := strings.Cut(y, ".")
	return cmp.Or(cmp.Compare(len(xWhole), len(yWhole)), strings.Compare(xWhole, yWhole), strings.Compare(xFraction, yFraction))
}

// CompareNumberText compares two texts that [ParseNumber] accepts as numbers. It is
// much faster than parsing them if neither has an exponent. It returns false if one of
// them is not a number.
func CompareNumberText(a, b string) (int, bool) {
	x, ok1 := splitNumber(a)
	y, ok2 := splitNumber(b)
	if ok1 && ok2 {
		sign := x.sign()
		if c := cmp.Compare(sign, y.sign()); c != 0 || sign == 0 {
			return c, true
		}
		c := cmp.Or(cmp.Compare(len(x.whole), len(y.whole)), strings.Compare(x.whole, y.whole), strings.Compare(x.fraction, y.fraction))
		return sign * c, true
	}
	d, ok1 := parseDigits(a)
	e, ok2 := parseDigits(b)
	return CompareDigits(d, e), ok1 && ok2
}

// plainNumber has the digits of a finite number without an exponent: whole has no
// leading zeros and fraction no trailing ones.
type plainNumber struct {
	negative        bool
	whole, fraction string
}

func (n plainNumber) sign() int {
	switch {
	case n.whole == "" && n.fraction == "":
		return 0
	case n.negative:
		return -1
	}
	return 1
}

// splitNumber returns the digits of a number, or false if it is not finite or has an
// exponent.
func splitNumber(s string) (n plainNumber, ok bool) {
	if strings.HasPrefix(s, "-") {
		n.negative, s = true, s[1:]
	} else {
		s = strings.TrimPrefix(s, "+")
	}
	n.whole, n.fraction, _ = strings.Cut(s, ".")
	if n.whole == "" && n.fraction == "" || !onlyDigits(n.whole) || !onlyDigits(n.fraction) {
		return n, false
	}
	n.whole, n.fraction = strings.TrimLeft(n.whole, "0"), strings.TrimRight(n.fraction, "0")
	return n, true
}

// rank orders what is not finite: -1 for -Infinity, 1 for Infinity, 2 for NaN, and 0
// for finite numbers.
func (d Digits) rank() int {
	switch d {
	case "-Infinity":
		return -1
	case "Infinity":
		return 1
	case "NaN":
		return 2
	}
	return 0
}

// rat returns a finite number as a ratio.
func (d Digits) rat() *big.Rat {
	r, ok := new(big.Rat).SetString(string(d))
	if !ok {
		return nil // not the result of ParseNumber
	}
	return r
}

// digitsOf returns a number of any type exactly.
func digitsOf(v Value) (Digits, bool) {
	switch x := v.V.(type) {
	case Digits:
		return x, true
	case int64:
		return Digits(strconv.FormatInt(x, 10)), true
	case uint64:
		return Digits(strconv.FormatUint(x, 10)), true
	case decimal128.Num:
		return parseDigits(unscaledText(x.BigInt(), v.scale()))
	case decimal256.Num:
		return parseDigits(unscaledText(x.BigInt(), v.scale()))
	case float64:
		switch {
		case math.IsNaN(x):
			return "NaN", true
		case math.IsInf(x, 1):
			return "Infinity", true
		case math.IsInf(x, -1):
			return "-Infinity", true
		}
		// A double has at most 1074 digits after the point, all of which are exact.
		return parseDigits(new(big.Float).SetFloat64(x).Text('f', 1100))
	}
	return "", false
}

// unscaledText returns n / 10^scale as text.
func unscaledText(n *big.Int, scale int32) string {
	return n.String() + "e" + strconv.Itoa(-int(scale))
}
