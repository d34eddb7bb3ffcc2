package csv

import (
	"bytes"
)

// typeGuess narrows down the type of a column, value by value. It is conservative: a
// column stays text if conversion could lose information.
type typeGuess struct {
	seen       bool // there was a value that is not NULL
	candidates uint8
	whole      int // the most digits before the point
	places     int // the most digits after the point
}

const (
	mayInteger uint8 = 1 << iota
	mayDecimal
	mayBoolean
	mayDate
	mayLocal
	mayInstant
	mayAll = 1<<iota - 1
)

func (g *typeGuess) add(text []byte) {
	if !g.seen {
		g.seen, g.candidates = true, mayAll
	}
	if g.candidates == 0 {
		return
	}
	var is uint8
	if whole, places, ok := number(text); ok {
		g.whole, g.places = max(g.whole, whole), max(g.places, places)
		if g.whole+g.places <= maxPrecision {
			is |= mayDecimal
		}
		if _, fits := parseInteger(text); fits && places == 0 {
			is |= mayInteger
		}
	}
	if bytes.EqualFold(text, []byte("true")) || bytes.EqualFold(text, []byte("false")) {
		is |= mayBoolean
	}
	if _, rest, ok := parseDate(text); ok && len(rest) == 0 {
		is |= mayDate
	} else if _, zoned, ok := parseTimestamp(text); ok {
		if zoned {
			is |= mayInstant
		} else {
			is |= mayLocal
		}
	}
	g.candidates &= is
}

// number returns how many digits a number has before and after its point. A number
// with a leading zero or a plus sign, or -0, is not accepted: it may be a code.
func number(text []byte) (whole, places int, ok bool) {
	text, negative := bytes.CutPrefix(text, []byte{'-'})
	before, after, pointed := bytes.Cut(text, []byte{'.'})
	if len(before) == 0 || pointed && len(after) == 0 || len(before) > 1 && before[0] == '0' {
		return 0, 0, false
	}
	for _, part := range [][]byte{before, after} {
		for _, b := range part {
			if b < '0' || b > '9' {
				return 0, 0, false
			}
		}
	}
	// A signed zero is not a number.
	if negative && len(bytes.Trim(text, "0.")) == 0 {
		return 0, 0, false
	}
	return len(before), len(after), true
}

// apply sets the column's kind. A column without a value in the sample is text.
func (g *typeGuess) apply(c *column) {
	switch {
	case !g.seen:
		c.kind = textKind
	case g.candidates&mayInteger != 0:
		c.kind = integerKind
	case g.candidates&mayDecimal != 0:
		c.kind, c.scale = decimalKind, int32(g.places)
	case g.candidates&mayBoolean != 0:
		c.kind = booleanKind
	case g.candidates&mayDate != 0:
		c.kind = dateKind
	case g.candidates&mayLocal != 0:
		c.kind = localKind
	case g.candidates&mayInstant != 0:
		c.kind = instantKind
	default:
		c.kind = textKind
	}
}
