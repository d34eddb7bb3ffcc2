package csv

import (
	"bytes"
)

// guess narrows down what a column can be, one value after the other. It is
// conservative: what could lose something as a number or a date stays text.
type guess struct {
	seen   bool // a value that is not NULL
	may    uint8
	whole  int // digits before the point, at most
	places int // and behind it
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

func (g *guess) add(text []byte) {
	if !g.seen {
		g.seen, g.may = true, mayAll
	}
	if g.may == 0 {
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
	g.may &= is
}

// number reports how many digits a number has before and behind its point. A
// number that is written in another way than this program would write it, with a
// leading zero or a plus, or as -0, is none: it may be a code.
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
	// A zero has no sign in a number.
	if negative && len(bytes.Trim(text, "0.")) == 0 {
		return 0, 0, false
	}
	return len(before), len(after), true
}

// settle sets the column's kind. Of a column without a value in the sample
// nothing is known, so it is text.
func (g *guess) settle(c *column) {
	switch {
	case !g.seen:
		c.kind = textKind
	case g.may&mayInteger != 0:
		c.kind = integerKind
	case g.may&mayDecimal != 0:
		c.kind, c.scale = decimalKind, int32(g.places)
	case g.may&mayBoolean != 0:
		c.kind = booleanKind
	case g.may&mayDate != 0:
		c.kind = dateKind
	case g.may&mayLocal != 0:
		c.kind = localKind
	case g.may&mayInstant != 0:
		c.kind = instantKind
	default:
		c.kind = textKind
	}
}
