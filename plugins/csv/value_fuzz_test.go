package csv

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// padded returns a text followed by other bytes, as in a scanner's buffer.
func padded(text string) []byte {
	return append([]byte(text), "12345678"...)[:len(text):max(len(text)+8, 8)]
}

// FuzzNumber compares integers with strconv and decimals with math/big, whatever
// follows them in the buffer.
func FuzzNumber(f *testing.F) {
	for _, text := range []string{"0", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "+5", "007", "12345678", "123456789", "1234567890123456789",
		"1.50", "-0.05", "1e400", "1.5e3", "12E-2", ".5", "5.", "1_000", "0x1F", "99999999999999999999999999999999999999", "1234567.12", "-0", "00000000000000000000000000001"} {
		f.Add(text, int32(2))
	}
	f.Fuzz(func(t *testing.T, text string, scale int32) {
		scale = scale & 31
		for _, b := range [][]byte{padded(text), append(make([]byte, 0, len(text)), text...)} {
			got, ok := parseInteger(b)
			want, err := strconv.ParseInt(text, 10, 64)
			if ok != (err == nil) || ok && got != want {
				t.Errorf("%q is %d, %t, want %d, %v", text, got, ok, want, err)
			}
			low, high, ok := parseDecimal(b, maxPrecision, scale, true)
			if len(text) > 200 {
				continue // math/big would take its time
			}
			rat, good := plainRat(text)
			if ok && !good {
				t.Errorf("%q is read as a decimal", text)
				continue
			}
			if !good {
				continue
			}
			unit := new(big.Rat).Mul(rat, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
			limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(maxPrecision), nil)
			fits := unit.IsInt() && unit.Num().CmpAbs(limit) < 0
			if ok != fits || ok && decimal128.New(high, uint64(low)).BigInt().Cmp(unit.Num()) != 0 {
				t.Errorf("%q at scale %d is %s, %t, want %s, %t", text, scale, decimal128.New(high, uint64(low)).BigInt(), ok, unit, fits)
			}
			if float, ok := parseFloat(b); ok {
				want, err := strconv.ParseFloat(text, 64)
				if err != nil || float != want {
					t.Errorf("%q is the float %g, want %g, %v", text, float, want, err)
				}
			}
		}
	})
}

// plainRat parses a number by means of math/big.
func plainRat(text string) (*big.Rat, bool) {
	body := strings.TrimLeft(text, "+-")
	if len(text)-len(body) > 1 || strings.Trim(body, "0123456789.eE+-") != "" {
		return nil, false
	}
	mantissa, power, exponent := strings.Cut(strings.ToLower(body), "e")
	if mantissa == "" || mantissa[len(mantissa)-1] == '.' || strings.ContainsAny(mantissa, "+-") {
		return nil, false
	}
	if n, err := strconv.ParseInt(strings.TrimPrefix(power, "+"), 10, 64); exponent && (err != nil || n > 1000 || n < -1000) {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// FuzzDateTime compares dates and timestamps with package time.
func FuzzDateTime(f *testing.F) {
	for _, text := range []string{"2026-02-28", "2024-02-29", "2023-02-29", "0000-01-01", "9999-12-31", "2026-02-28T10:00:00Z", "2026-02-28 23:59:59.999999+02:00",
		"1969-12-31T23:59:59", "2026-02-28T10:00:00.1234567Z", "2026-1-1", "2026-02-28T24:00:00", "0001-03-01", "1900-02-29", "2026-02-28T10:00:00+0530", "2026-02-28T10:00:00-08"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		days, rest, ok := parseDate(padded(text))
		want, err := time.Parse(time.DateOnly, text)
		if whole := ok && len(rest) == 0; whole != (err == nil) || whole && days*86400 != want.Unix() {
			t.Errorf("%q is day %d, %t, want %v, %v", text, days, ok, want, err)
		}
		micros, zoned, ok := parseTimestamp(padded(text))
		var layout string
		for _, zone := range []string{"", "Z07:00", "Z0700", "Z07"} {
			l := "2006-01-02" + string(append([]byte{}, at(text, 10)...)) + "15:04:05" + zone
			if want, err = time.Parse(l, text); err == nil {
				layout = l
				break
			}
		}
		if !ok {
			return // time.Parse takes more, as commas and one digit hours
		}
		if layout == "" || micros != want.UnixMicro() || zoned != strings.Contains(layout, "Z") || want.Nanosecond()%1000 != 0 {
			t.Errorf("%q is %d (zone %t), want %v in the form %q", text, micros, zoned, want, layout)
		}
	})
}

func at(text string, i int) string {
	if i < len(text) {
		return text[i : i+1]
	}
	return "T"
}

// TestEveryDay checks all days of the calendar, and that there are no others.
func TestEveryDay(t *testing.T) {
	for year := 0; year < 10000; year++ {
		if year > 3000 && year%7 != 0 {
			continue
		}
		for month := 1; month <= 13; month++ {
			for _, day := range []int{0, 1, 28, 29, 30, 31, 32} {
				want := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
				real := want.Day() == day && int(want.Month()) == month
				days, _, ok := parseDate(padded(fmt.Sprintf("%04d-%02d-%02d", year, month, day)))
				if ok != real || ok && days*86400 != want.Unix() {
					t.Fatalf("%04d-%02d-%02d is day %d, %t, want %d, %t", year, month, day, days, ok, want.Unix()/86400, real)
				}
			}
		}
	}
	if _, ok := parseDigits([]byte{}); ok {
		t.Error("nothing is a number")
	}
	if n, ok := parseDigits([]byte(strconv.FormatUint(math.MaxInt64, 10))); !ok || n != math.MaxInt64 {
		t.Errorf("the largest integer is %d, %t", n, ok)
	}
}
