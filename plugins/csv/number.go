package csv

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// shortWord returns the 1 to 8 bytes of text, whose capacity is at least 8, as the last
// bytes of a word. The bytes before them are zeros in ASCII.
func shortWord(text []byte) uint64 {
	n := len(text)
	return binary.LittleEndian.Uint64(text[:8])<<(8*(8-n)) | '0'*ones>>(8*n)
}

// areDigits reports whether the eight bytes of a word are ASCII digits.
func areDigits(w uint64) bool {
	x := w ^ '0'*ones
	return (x+0x76*ones|x)&highs == 0
}

// digits8 parses a word of eight ASCII digits, the first one in the lowest byte.
func digits8(w uint64) (uint64, bool) {
	if !areDigits(w) {
		return 0, false
	}
	x := w ^ '0'*ones
	x = x * 2561 >> 8 & 0x00ff00ff00ff00ff
	x = x * 6553601 >> 16 & 0x0000ffff0000ffff
	return x * 42949672960001 >> 32, true
}

// parseDigits parses 1 to 19 ASCII digits. It loads whole words if text has the
// capacity, as text in a scanner's buffer has.
func parseDigits(text []byte) (uint64, bool) {
	n := len(text)
	if n == 0 || n > 19 {
		return 0, false
	}
	if n <= 8 && cap(text) >= 8 {
		return digits8(shortWord(text))
	}
	v := uint64(0)
	if n > 8 {
		for n = len(text) % 8; n < len(text); n += 8 {
			w, ok := digits8(binary.LittleEndian.Uint64(text[n:]))
			if !ok {
				return 0, false
			}
			v = v*1e8 + w
		}
		text = text[:len(text)%8]
		head := uint64(0)
		for _, b := range text {
			if b < '0' || b > '9' {
				return 0, false
			}
			head = head*10 + uint64(b-'0')
		}
		return v + head*tens[n-len(text)], true
	}
	for _, b := range text {
		if b < '0' || b > '9' {
			return 0, false
		}
		v = v*10 + uint64(b-'0')
	}
	return v, true
}

// tens holds the powers of ten that fit a uint64.
var tens = func() (t [20]uint64) {
	t[0] = 1
	for i := 1; i < len(t); i++ {
		t[i] = t[i-1] * 10
	}
	return t
}()

// cutSign removes a number's sign.
func cutSign(text []byte) (rest []byte, negative bool) {
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		return text[1:], text[0] == '-'
	}
	return text, false
}

// parseInteger parses a 64-bit integer.
func parseInteger(text []byte) (int64, bool) {
	rest, negative := cutSign(text)
	for len(rest) > 19 && rest[0] == '0' {
		rest = rest[1:]
	}
	n, ok := parseDigits(rest)
	switch {
	case !ok:
		return 0, false
	case negative:
		return -int64(n), n <= 1<<63
	}
	return int64(n), n <= math.MaxInt64
}

// parseDecimal parses a number of at most precision digits, scale of them after the
// point, and does not round. exponent allows an exponent. The result is the unscaled
// decimal128.
func parseDecimal(text []byte, precision, scale int32, exponent bool) (low, high int64, ok bool) {
	rest, negative := cutSign(text)
	// Most numbers have exactly the column's scale and fit an int64.
	point := len(rest) - 1 - int(scale)
	switch {
	case scale == 0 && len(rest) <= 18:
		if n, ok := parseDigits(rest); ok && len(rest) <= int(precision) {
			return smallDecimal(n, negative)
		}
	case point > 0 && point+int(scale) <= 18 && rest[point] == '.' && point+int(scale) <= int(precision):
		whole, ok1 := parseDigits(rest[:point])
		fraction, ok2 := parseDigits(rest[point+1:])
		if ok1 && ok2 {
			return smallDecimal(whole*tens[scale]+fraction, negative)
		}
	}
	n, ok := longDecimal(rest, precision, scale, exponent)
	if negative {
		n = n.Negate()
	}
	return int64(n.LowBits()), n.HighBits(), ok
}

func smallDecimal(n uint64, negative bool) (low, high int64, ok bool) {
	if negative && n != 0 {
		return -int64(n), -1, true
	}
	return int64(n), 0, true
}

// longDecimal parses an unsigned number in any format.
func longDecimal(text []byte, precision, scale int32, mayExponent bool) (n decimal128.Num, ok bool) {
	mantissa, exponent := text, int64(0)
	if e := bytes.IndexAny(text, "eE"); e >= 0 && mayExponent {
		power, negative := cutSign(text[e+1:])
		for len(power) > 1 && power[0] == '0' {
			power = power[1:]
		}
		p, ok := parseDigits(power)
		if !ok || p > 1000 {
			return n, false
		}
		if exponent = int64(p); negative {
			exponent = -exponent
		}
		mantissa = text[:e]
	}
	whole, fraction, pointed := bytes.Cut(mantissa, []byte{'.'})
	if len(whole)+len(fraction) == 0 || pointed && len(fraction) == 0 {
		return n, false
	}
	for _, part := range [][]byte{whole, fraction} {
		for _, b := range part {
			if b < '0' || b > '9' {
				return n, false
			}
		}
	}
	fraction = bytes.TrimRight(fraction, "0")
	if len(fraction) == 0 {
		trimmed := bytes.TrimRight(whole, "0")
		exponent += int64(len(whole) - len(trimmed))
		whole = trimmed
	}
	if len(bytes.Trim(whole, "0"))+len(bytes.Trim(fraction, "0")) == 0 {
		return n, true
	}
	// The value, in units of the column's scale, is the digits times 10^shift.
	shift := int64(scale) + exponent - int64(len(fraction))
	significant := len(bytes.TrimLeft(whole, "0")) + len(fraction)
	if len(bytes.TrimLeft(whole, "0")) == 0 {
		significant = len(bytes.TrimLeft(fraction, "0"))
	}
	if shift < 0 || int64(significant)+shift > int64(precision) {
		return n, false
	}
	ten := decimal128.FromI64(10)
	for _, part := range [][]byte{whole, fraction} {
		for _, b := range part {
			n = n.Mul(ten).Add(decimal128.FromI64(int64(b - '0')))
		}
	}
	for range shift {
		n = n.Mul(ten)
	}
	return n, true
}

// parseFloat parses a number as the nearest 64-bit float. NaN, INF and -INF are
// those of the Frictionless specification, Infinity and -Infinity those of databases
// and of this program. A number that is out of range is not accepted.
func parseFloat(text []byte) (float64, bool) {
	switch string(text) {
	case "NaN":
		return math.NaN(), true
	case "INF", "Infinity":
		return math.Inf(1), true
	case "-INF", "-Infinity":
		return math.Inf(-1), true
	}
	if len(text) == 0 {
		return 0, false
	}
	for _, b := range text { // strconv also accepts hexadecimal numbers, underscores and words
		if (b < '0' || b > '9') && b != '.' && b != '-' && b != '+' && b != 'e' && b != 'E' {
			return 0, false
		}
	}
	// ParseFloat does not keep the string.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(text), len(text)), 64)
	return f, err == nil
}
