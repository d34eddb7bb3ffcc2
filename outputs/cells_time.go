package outputs

import (
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

func clocks[T ~int32 | ~int64](c *cells, values []T, unit arrow.TimeUnit) *cells {
	c.append = func(dst []byte, i int) []byte {
		per := int64(time.Second / unit.Multiplier())
		v := int64(values[i])
		return appendFraction(appendClock(dst, floorDiv(v, per)), v-floorDiv(v, per)*per, per)
	}
	return c
}

// timestamps writes RFC 3339. A column with a zone holds instants, which are written
// in UTC; a column without a zone holds local times, which have no offset.
func timestamps(c *cells, a *array.Timestamp) *cells {
	t := a.DataType().(*arrow.TimestampType)
	per := int64(time.Second / t.Unit.Multiplier())
	c.append = func(dst []byte, i int) []byte {
		v := int64(a.Value(i))
		seconds := floorDiv(v, per)
		day := floorDiv(seconds, 86400)
		dst = append(appendDay(dst, day), 'T')
		dst = appendFraction(appendClock(dst, seconds-day*86400), v-seconds*per, per)
		if t.TimeZone != "" {
			dst = append(dst, 'Z')
		}
		return dst
	}
	return c
}

// appendDay appends a day, counted from 1970-01-01, as an ISO date of the proleptic
// Gregorian calendar. Years beyond four digits have a sign, as ISO 8601 requires.
func appendDay(dst []byte, day int64) []byte {
	// An era has 400 years. Years begin in March here, so that the leap day comes
	// last.
	const eraDays = 146097
	z := day + 719468
	era := floorDiv(z, eraDays)
	doe := z - era*eraDays
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d := doy - (153*mp+2)/5 + 1
	m := mp + 3
	y := yoe + era*400
	if m > 12 {
		m -= 12
		y++
	}
	switch {
	case y > 9999:
		dst = append(dst, '+')
	case y < 0:
		dst = append(dst, '-')
		y = -y
	}
	dst = append(appendPadded(dst, y, 4), '-')
	dst = append(appendPadded(dst, m, 2), '-')
	return appendPadded(dst, d, 2)
}

func appendClock(dst []byte, seconds int64) []byte {
	if seconds < 0 {
		dst, seconds = append(dst, '-'), -seconds
	}
	dst = append(appendPadded(dst, seconds/3600, 2), ':')
	dst = append(appendPadded(dst, seconds/60%60, 2), ':')
	return appendPadded(dst, seconds%60, 2)
}

// appendFraction appends ticks of 1/per second without trailing zeros.
func appendFraction(dst []byte, ticks, per int64) []byte {
	if ticks == 0 {
		return dst
	}
	width := 0
	for p := per; p > 1; p /= 10 {
		width++
	}
	dst = appendPadded(append(dst, '.'), ticks, width)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func appendPadded(dst []byte, n int64, width int) []byte {
	for p, w := int64(10), 1; w < width; p, w = p*10, w+1 {
		if n < p {
			dst = append(dst, '0')
		}
	}
	return strconv.AppendInt(dst, n, 10)
}

// appendSeconds appends a duration as the seconds of an ISO 8601 duration.
func appendSeconds(dst []byte, ticks int64, unit arrow.TimeUnit) []byte {
	per := uint64(time.Second / unit.Multiplier())
	magnitude := uint64(ticks)
	if ticks < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude
	}
	dst = strconv.AppendUint(dst, magnitude/per, 10)
	return append(appendFraction(dst, int64(magnitude%per), int64(per)), 'S')
}

// appendInterval appends an interval as an ISO 8601 duration whose parts have signs
// of their own.
func appendInterval(dst []byte, months, days, ticks int64, unit arrow.TimeUnit) []byte {
	dst = append(dst, 'P')
	if months != 0 {
		dst = append(strconv.AppendInt(dst, months, 10), 'M')
	}
	if days != 0 {
		dst = append(strconv.AppendInt(dst, days, 10), 'D')
	}
	if ticks != 0 || months == 0 && days == 0 {
		dst = appendSeconds(append(dst, 'T'), ticks, unit)
	}
	return dst
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
