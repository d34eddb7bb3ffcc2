package csv

import "time"

// daysBefore holds the days before each month of a common year.
var daysBefore = [13]int32{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

// daysSinceEpoch returns a calendar date as days since 1970-01-01, and whether there
// is such a date.
func daysSinceEpoch(year int64, month uint64, day int32) (days int64, ok bool) {
	if month < 1 || month > 12 || day < 1 {
		return 0, false
	}
	leap := year%4 == 0 && (year%100 != 0 || year%400 == 0)
	last := daysBefore[month] - daysBefore[month-1]
	if leap && month == 2 {
		last++
	}
	y := year - 1 // complete years, with their leap days
	days = year*365 + y>>2 - y/100 + y/400 + int64(daysBefore[month-1]+day) - 719528
	if year == 0 { // the year 0 is a leap year that has not passed
		days = int64(daysBefore[month-1]+day) - 719529
	}
	if leap && month > 2 {
		days++
	}
	return days, day <= last
}

// parseDate parses YYYY-MM-DD at the beginning of text, as days since 1970-01-01.
func parseDate(text []byte) (days int64, rest []byte, ok bool) {
	if len(text) < 10 {
		return 0, nil, false
	}
	days, ok = isoDate(text)
	return days, text[10:], ok
}

// parseClock parses HH:MM:SS with an optional fraction, as microseconds since
// midnight. Digits beyond microseconds must be zero: nothing is rounded.
func parseClock(text []byte) (micros int64, rest []byte, ok bool) {
	if len(text) < 8 {
		return 0, nil, false
	}
	seconds, ok := isoClock(text)
	if !ok {
		return 0, nil, false
	}
	micros, rest = seconds*1e6, text[8:]
	if len(rest) == 0 || rest[0] != '.' {
		return micros, rest, true
	}
	rest = rest[1:]
	unit, i := int64(1e5), 0
	for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
		if unit == 0 && rest[i] != '0' {
			return 0, nil, false
		}
		micros += int64(rest[i]-'0') * unit
		unit /= 10
		i++
	}
	return micros, rest[i:], i > 0
}

const dayMicros = 86400 * 1e6

// parseTimestamp parses a date, T or a space, a time of day and an optional time
// zone, as microseconds since 1970-01-01.
func parseTimestamp(text []byte) (micros int64, zoned, ok bool) {
	days, rest, ok := parseDate(text)
	if !ok || len(rest) == 0 || rest[0] != 'T' && rest[0] != ' ' {
		return 0, false, false
	}
	clock, rest, ok := parseClock(rest[1:])
	micros = days*dayMicros + clock
	switch {
	case !ok:
		return 0, false, false
	case len(rest) == 0:
		return micros, false, true
	case rest[0] == 'Z':
		return micros, true, len(rest) == 1
	case rest[0] != '+' && rest[0] != '-':
		return 0, false, false
	}
	east, zone := rest[0] == '+', rest[1:]
	two := func(b []byte) int64 {
		if b[0] < '0' || b[0] > '9' || b[1] < '0' || b[1] > '9' {
			return 99
		}
		return int64(b[0]-'0')*10 + int64(b[1]-'0')
	}
	var hours, minutes int64
	switch {
	case len(zone) == 2:
		hours = two(zone)
	case len(zone) == 4:
		hours, minutes = two(zone), two(zone[2:])
	case len(zone) == 5 && zone[2] == ':':
		hours, minutes = two(zone), two(zone[3:])
	default:
		return 0, false, false
	}
	if hours > 23 || minutes > 59 {
		return 0, false, false
	}
	shift := (hours*60 + minutes) * 60 * 1e6
	if east {
		shift = -shift
	}
	return micros + shift, true, true
}

// parseLayout parses text by a layout of Go's time package, as microseconds since
// 1970-01-01.
func parseLayout(layout string, text []byte) (micros int64, ok bool) {
	t, err := time.Parse(layout, string(text))
	// Parse accepts a fraction that the layout lacks.
	return t.UnixMicro(), err == nil && t.Nanosecond()%1000 == 0
}
