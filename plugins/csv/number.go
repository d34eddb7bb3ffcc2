package csv

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// digits8 reads a word of eight ASCII digits, the first one in the lowest byte.
func digits8(w uint64) (uint64, bool) {
	x := w ^ '0'*ones
	if (x+0x76*ones|x)&highs != 0 { // a byte above nine
		return 0, false
	}
	x = x * 2561 >> 8 & 0x00ff00ff00ff00ff
	x = x * 6553601 >> 16 & 0x0000ffff0000ffff
	return x * 42949672960001 >> 32, true
}

// digits reads 1 to 19 ASCII digits. Text in a scanner's buffer has bytes behind
// it that may be looked at; other text is read byte by byte.
func digits(text []byte) (uint64, bool) {
	n := len(text)
	if n == 0 || n > 19 {
		return 0, false
	}
	if n <= 8 && cap(text) >= 8 {
		w := binary.LittleEndian.Uint64(text[:8])
		w = w<<(8*(8-n)) | '0'*ones>>(8*n)
		return digits8(w)
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

// tens are the powers of ten that a uint64 holds.
var tens = func() (t [20]uint64) {
	t[0] = 1
	for i := 1; i < len(t); i++ {
		t[i] = t[i-1] * 10
	}
	return t
}()

// sign cuts a number's sign off.
func sign(text []byte) (rest []byte, negative bool) {
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		return text[1:], text[0] == '-'
	}
	return text, false
}

// parseInteger reads an integer of 64 bits.
func parseInteger(text []byte) (int64, bool) {
	rest, negative := sign(text)
	for len(rest) > 19 && rest[0] == '0' {
		rest = rest[1:]
	}
	n, ok := digits(rest)
	switch {
	case !ok:
		return 0, false
	case negative:
		return -int64(n), n <= 1<<63
	}
	return int64(n), n <= math.MaxInt64
}

// parseDecimal reads a number of at most so many digits and decimals, with an
// exponent where it may have one, and never rounds. The result's bits are those
// of a decimal128.
func parseDecimal(text []byte, precision, scale int32, exponent bool) (low, high int64, ok bool) {
	rest, negative := sign(text)
	// What most numbers are: as many decimals as the column, and digits that an
	// int64 holds.
	point := len(rest) - 1 - int(scale)
	switch {
	case scale == 0 && len(rest) <= 18:
		if n, ok := digits(rest); ok && len(rest) <= int(precision) {
			return small(n, negative)
		}
	case point > 0 && point+int(scale) <= 18 && rest[point] == '.' && point+int(scale) <= int(precision):
		whole, ok1 := digits(rest[:point])
		fraction, ok2 := digits(rest[point+1:])
		if ok1 && ok2 {
			return small(whole*tens[scale]+fraction, negative)
		}
	}
	n, ok := longDecimal(rest, precision, scale, exponent)
	if negative {
		n = n.Negate()
	}
	return int64(n.LowBits()), n.HighBits(), ok
}

func small(n uint64, negative bool) (low, high int64, ok bool) {
	if negative && n != 0 {
		return -int64(n), -1, true
	}
	return int64(n), 0, true
}

// longDecimal reads a number without a sign, in every form.
func longDecimal(text []byte, precision, scale int32, mayExponent bool) (n decimal128.Num, ok bool) {
	mantissa, exponent := text, int64(0)
	if e := bytes.IndexAny(text, "eE"); e >= 0 && mayExponent {
		power, negative := sign(text[e+1:])
		for len(power) > 1 && power[0] == '0' {
			power = power[1:]
		}
		p, ok := digits(power)
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
	// The digits are a whole number, times ten to the power of shift in the
	// column's unit.
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

// parseFloat reads a number as the nearest float of 64 bits. NaN, INF and -INF
// are those of the Frictionless specification. A number too large for a float is
// none.
func parseFloat(text []byte) (float64, bool) {
	switch string(text) {
	case "NaN":
		return math.NaN(), true
	case "INF":
		return math.Inf(1), true
	case "-INF":
		return math.Inf(-1), true
	}
	if len(text) == 0 {
		return 0, false
	}
	for _, b := range text { // strconv takes hexadecimal numbers, underscores and words
		if (b < '0' || b > '9') && b != '.' && b != '-' && b != '+' && b != 'e' && b != 'E' {
			return 0, false
		}
	}
	// The string lives no longer than the call.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(text), len(text)), 64)
	return f, err == nil
}
