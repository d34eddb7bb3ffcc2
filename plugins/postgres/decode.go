package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
)

// The epoch of PostgreSQL's dates and timestamps is 2000-01-01; Arrow's is 1970.
const (
	epochDays   = 10957
	epochMicros = epochDays * 86400 * 1000000
	dayMicros   = 86400 * 1000000
)

// errSpecial is the error for a value that the column's Arrow type cannot represent. The
// option special can make such values NULL, or the column a text column.
var errSpecial = errors.New("set the option special=null to read it as NULL, or special=text to read such columns as text")

func specialError(text string) error { return fmt.Errorf("%s; %w", text, errSpecial) }

var (
	errInfinity   = specialError("infinity, which the column's type cannot hold")
	errRange      = specialError("out of the range of the column's type")
	errNaN        = specialError("NaN, which a decimal cannot hold")
	errMidnight   = specialError("24:00:00, which a time of day cannot hold")
	errDimensions = specialError("an array of more than one dimension, which a list cannot hold")
	errBounds     = specialError("an array whose lower bound is not 1, which a list cannot hold")
	errNumeric    = errors.New("the server sent a malformed numeric")
	errTime       = errors.New("the server sent an invalid time")
	errJSONB      = errors.New("the server sent jsonb of an unknown version")
	errNested     = errors.New("the server sent a malformed array or row")
	errChanged    = errors.New("its type has changed since the catalog was read: open the source again")
	errNullValue  = errors.New("NULL in a column that is not nullable")
)

func wrongWidth(have, want int) error {
	return fmt.Errorf("the server sent %d bytes for a value of %d bytes", have, want)
}

// decodeDate returns days since 1970.
func decodeDate(v int32) (int32, error) {
	switch {
	case v == math.MaxInt32, v == math.MinInt32:
		return 0, errInfinity
	case v > math.MaxInt32-epochDays:
		return 0, errRange
	}
	return v + epochDays, nil
}

// decodeTimestamp returns microseconds since 1970.
func decodeTimestamp(v int64) (int64, error) {
	switch {
	case v == math.MaxInt64, v == math.MinInt64:
		return 0, errInfinity
	case v > math.MaxInt64-epochMicros:
		return 0, errRange
	}
	return v + epochMicros, nil
}

// decodeTime returns microseconds since midnight. The time 24:00:00 of PostgreSQL, which
// Arrow lacks, is an error.
func decodeTime(v int64) (int64, error) {
	switch {
	case v == dayMicros:
		return 0, errMidnight
	case v < 0 || v > dayMicros:
		return 0, errTime
	}
	return v, nil
}

// decodeInterval decodes microseconds, days and months. Arrow keeps these three separate
// too, but counts nanoseconds.
func decodeInterval(raw []byte) (arrow.MonthDayNanoInterval, error) {
	micros, days, months := int64(binary.BigEndian.Uint64(raw)), int32(binary.BigEndian.Uint32(raw[8:])), int32(binary.BigEndian.Uint32(raw[12:]))
	switch {
	case micros == math.MaxInt64 && days == math.MaxInt32 && months == math.MaxInt32,
		micros == math.MinInt64 && days == math.MinInt32 && months == math.MinInt32:
		return arrow.MonthDayNanoInterval{}, errInfinity
	case micros > math.MaxInt64/1000, micros < math.MinInt64/1000:
		return arrow.MonthDayNanoInterval{}, errRange
	}
	return arrow.MonthDayNanoInterval{Months: months, Days: days, Nanoseconds: micros * 1000}, nil
}

// The binary format of a numeric is the number of its base-10000 digits, the weight of
// the first digit, the sign, the number of decimal places to show, and the digits. Each
// has 16 bits.
const (
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericInf      = 0xD000
	numericNegInf   = 0xF000
)

type numeric struct {
	digits   []byte // 16 bits each
	weight   int
	negative bool
}

func parseNumeric(b []byte) (numeric, error) {
	if len(b) < 8 {
		return numeric{}, errNumeric
	}
	n := numeric{digits: b[8:], weight: int(int16(binary.BigEndian.Uint16(b[2:])))}
	switch binary.BigEndian.Uint16(b[4:]) {
	case 0:
	case numericNegative:
		n.negative = true
	case numericNaN:
		return numeric{}, errNaN
	case numericInf, numericNegInf:
		return numeric{}, errInfinity
	default:
		return numeric{}, errNumeric
	}
	if len(n.digits) != 2*int(binary.BigEndian.Uint16(b)) {
		return numeric{}, errNumeric
	}
	return n, nil
}

// powers holds the powers of ten that fit in 64 bits.
var powers = func() (p [20]uint64) {
	for i := range p {
		p[i] = 1
		for range i {
			p[i] *= 10
		}
	}
	return p
}()

// smallUnscaled returns the unscaled value of a number of up to four base-10000 digits, if
// it fits in 64 bits. Most numbers do.
func (n numeric) smallUnscaled(precision, scale int32) (uint64, bool) {
	var v uint64
	if len(n.digits) > 8 {
		return 0, false
	}
	for i := 0; i < len(n.digits); i += 2 {
		d := uint64(binary.BigEndian.Uint16(n.digits[i:]))
		if d > 9999 {
			return 0, false
		}
		v = v*10000 + d
	}
	exponent := 4*(n.weight-len(n.digits)/2+1) + int(scale) // of the last digit in the unscaled value
	switch {
	case exponent < -4, exponent > 2: // 18 digits at most, which an int64 holds
		return 0, false
	case exponent < 0:
		cut := powers[-exponent]
		if v%cut != 0 {
			return 0, false
		}
		v /= cut
	default:
		v *= powers[exponent]
	}
	return v, precision >= 19 || v < powers[precision]
}

// decodeDecimal128 returns the unscaled value for the scale, or an error if that is not
// exact.
func decodeDecimal128(b []byte, precision, scale int32) (decimal128.Num, error) {
	n, err := parseNumeric(b)
	if err != nil {
		return decimal128.Num{}, err
	}
	if v, ok := n.smallUnscaled(precision, scale); ok {
		if n.negative {
			return decimal128.FromI64(-int64(v)), nil
		}
		return decimal128.FromU64(v), nil
	}
	// Digit i is worth digit * 10000^(weight-i). The number is padded with zeros up to
	// the scale.
	var hi, lo uint64
	exponent := 4*n.weight + int(scale) // of the current digit in the unscaled value
	for i := 0; i < len(n.digits); i, exponent = i+2, exponent-4 {
		d := uint64(binary.BigEndian.Uint16(n.digits[i:]))
		if d > 9999 {
			return decimal128.Num{}, errNumeric
		}
		factor := uint64(10000)
		if exponent < 0 {
			if exponent <= -4 {
				if d != 0 {
					return decimal128.Num{}, errRange
				}
				continue
			}
			cut := powers[-exponent]
			if d%cut != 0 {
				return decimal128.Num{}, errRange
			}
			d, factor = d/cut, 10000/cut
		}
		if !mulAdd(&hi, &lo, factor, d) {
			return decimal128.Num{}, errRange
		}
	}
	if hi|lo != 0 {
		for exponent += 4; exponent > 0; {
			step := min(exponent, 4)
			if !mulAdd(&hi, &lo, powers[step], 0) {
				return decimal128.Num{}, errRange
			}
			exponent -= step
		}
	}
	if hi>>63 != 0 {
		return decimal128.Num{}, errRange
	}
	v := decimal128.New(int64(hi), lo)
	if !v.FitsInPrecision(precision) {
		return decimal128.Num{}, errRange
	}
	if n.negative {
		v = v.Negate()
	}
	return v, nil
}

// mulAdd sets hi:lo to hi:lo*factor + add. It returns false on overflow.
func mulAdd(hi, lo *uint64, factor, add uint64) bool {
	over, high := bits.Mul64(*hi, factor)
	carry, low := bits.Mul64(*lo, factor)
	low, c := bits.Add64(low, add, 0)
	high, c2 := bits.Add64(high, carry, c)
	*hi, *lo = high, low
	return over == 0 && c2 == 0
}

// decodeDecimal256 is like decodeDecimal128 for wider decimals, which are rare, so it need
// not be fast.
func decodeDecimal256(b []byte, precision, scale int32) (decimal256.Num, error) {
	n, err := parseNumeric(b)
	if err != nil {
		return decimal256.Num{}, err
	}
	for len(n.digits) > 0 && n.digits[0]|n.digits[1] == 0 {
		n.digits, n.weight = n.digits[2:], n.weight-1
	}
	for k := len(n.digits); k > 0 && n.digits[k-2]|n.digits[k-1] == 0; k = len(n.digits) {
		n.digits = n.digits[:k-2]
	}
	// With a larger weight, the first digit does not fit in 76 decimal digits.
	if len(n.digits) > 0 && (n.weight > 20 || len(n.digits) > 200) {
		return decimal256.Num{}, errRange
	}
	v, base := new(big.Int), big.NewInt(10000)
	for i := 0; i < len(n.digits); i += 2 {
		d := binary.BigEndian.Uint16(n.digits[i:])
		if d > 9999 {
			return decimal256.Num{}, errNumeric
		}
		v.Add(v.Mul(v, base), big.NewInt(int64(d)))
	}
	exponent := 4*(n.weight-len(n.digits)/2+1) + int(scale)
	if v.Sign() == 0 {
		return decimal256.Num{}, nil
	}
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
	if exponent >= 0 {
		v.Mul(v, ten)
	} else {
		var rest big.Int
		if v.QuoRem(v, ten, &rest); rest.Sign() != 0 {
			return decimal256.Num{}, errRange
		}
	}
	if v.CmpAbs(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)) >= 0 {
		return decimal256.Num{}, errRange
	}
	if n.negative {
		v.Neg(v)
	}
	return decimal256.FromBigInt(v), nil
}
