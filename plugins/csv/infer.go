package csv

import (
	"bytes"
	"slices"
)

// typeGuess narrows down the type of a column, value by value. It is conservative: a
// column stays text if conversion could lose information.
type typeGuess struct {
	seen       bool  // there was a value that is not NULL
	candidates uint8 // the types that all values so far have
	whole      int32 // the most digits before the point
	places     int32 // the most digits after the point
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

// isText reports whether the column is text, whatever values follow.
func (g *typeGuess) isText() bool { return g.seen && g.candidates == 0 }

// add adds a value that is not NULL.
func (g *typeGuess) add(text []byte) {
	if !g.seen {
		g.seen, g.candidates = true, mayAll
	}
	if g.candidates == 0 {
		return
	}
	var is uint8
	if whole, places, ok := number(text); ok {
		g.whole, g.places = max(g.whole, int32(whole)), max(g.places, int32(places))
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

// addUsual adds a value that is written as most values of its column are, and reports
// whether it did. It does what add does, only faster.
func (g *typeGuess) addUsual(text []byte) bool {
	switch g.candidates {
	case mayInteger | mayDecimal:
		if n := len(text); n <= 8 && n > 0 && cap(text) >= 8 && (text[0] != '0' || n == 1) && areDigits(shortWord(text)) {
			g.whole = max(g.whole, int32(n))
			return true
		}
		if n := wholeDigits(text); n > 0 && n+g.places <= maxPrecision {
			g.whole = max(g.whole, n)
			return true
		}
	case mayDecimal:
		// Most values have as many places as those before.
		point := len(text) - 1 - int(g.places)
		if n := len(text); n <= 8 && point > 0 && cap(text) >= 8 && text[point] == '.' && (text[0] != '0' || point == 1) && max(g.whole, int32(point))+g.places <= maxPrecision {
			if w := shortWord(text); areDigits(w ^ ('.'^'0')<<(8*(8-n+point))) {
				g.whole = max(g.whole, int32(point))
				return true
			}
		}
		if point <= 0 || text[point] != '.' {
			if point = bytes.IndexByte(text, '.'); point < 0 {
				point = len(text)
			}
		}
		whole, places := wholeDigits(text[:point]), int32(len(text)-point-1)
		if whole == 0 {
			return false
		}
		if places >= 0 {
			if _, ok := parseDigits(text[point+1:]); !ok {
				return false
			}
		}
		if whole, places = max(g.whole, whole), max(g.places, places); whole+places <= maxPrecision {
			g.whole, g.places = whole, places
			return true
		}
	case mayDate:
		if len(text) == 10 {
			_, ok := isoDate(text)
			return ok
		}
	case mayLocal, mayInstant:
		_, zoned, ok := parseTimestamp(text)
		return ok && zoned == (g.candidates == mayInstant)
	}
	return false
}

// wholeDigits returns how many digits a canonical integer has, if it has at most 18.
// Otherwise, and for all zeros with a sign, it returns 0.
func wholeDigits(text []byte) int32 {
	if len(text) > 1 && text[0] == '-' {
		if text = text[1:]; text[0] == '0' {
			return 0
		}
	}
	if len(text) == 0 || len(text) > 18 || text[0] == '0' && len(text) > 1 {
		return 0
	}
	if _, ok := parseDigits(text); !ok {
		return 0
	}
	return int32(len(text))
}

// merge adds the values that another guess has seen.
func (g *typeGuess) merge(other typeGuess) {
	switch {
	case !other.seen:
		g.places = max(g.places, other.places) // of a declared number
		return
	case !g.seen:
		other.places = max(g.places, other.places)
		*g = other
		return
	}
	g.whole, g.places = max(g.whole, other.whole), max(g.places, other.places)
	g.candidates &= other.candidates
	if g.whole+g.places > maxPrecision {
		g.candidates &^= mayDecimal
	}
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

// apply sets the column's kind. A column without a value is text.
func (g *typeGuess) apply(c *column) {
	switch {
	case !g.seen:
		c.kind = textKind
	case g.candidates&mayInteger != 0:
		c.kind = integerKind
	case g.candidates&mayDecimal != 0:
		c.kind, c.scale = decimalKind, g.places
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

// applyDeclared infers what a declaration leaves open: the scale of a number, and
// whether a timestamp has a time zone.
func (g *typeGuess) applyDeclared(c *column) {
	switch c.kind {
	case decimalKind:
		c.scale = min(g.places, c.precision())
	case localKind:
		if g.seen && g.candidates&mayLocal == 0 && g.candidates&mayInstant != 0 {
			c.kind = instantKind
		}
	}
}

// places returns how many decimal places a declared number has. It is 0 for text
// that is not a number, which the scan reports.
func (c *column) places(text []byte) int32 {
	mantissa, power, _ := bytes.Cut(bytes.ToLower(c.plain(text)), []byte{'e'})
	_, fraction, _ := bytes.Cut(mantissa, []byte{'.'})
	exponent := int64(0)
	if len(power) > 0 {
		n, ok := parseInteger(power)
		if !ok || n > maxPrecision || n < -maxPrecision {
			return 0
		}
		exponent = n
	}
	if len(bytes.Trim(fraction, "0123456789")) > 0 {
		return 0
	}
	return int32(max(int64(len(fraction))-exponent, 0))
}

// recordGuesser infers the types of columns from records.
type recordGuesser struct {
	columns []column // of a record, in its order; not modified
	guesses []typeGuess
	open    []int // the columns about which records still tell something
}

// newRecordGuesser returns a guesser. Of columns that are declared, only those with the
// indexes in detail are inferred; nil stands for columns that are not declared.
func newRecordGuesser(columns []column, detail []int, declared bool) *recordGuesser {
	g := &recordGuesser{columns: columns, guesses: make([]typeGuess, len(columns)), open: slices.Clone(detail)}
	if !declared {
		for i := range columns {
			g.open = append(g.open, i)
		}
	}
	return g
}

// add adds the scanner's current record, which must have as many fields as there are
// columns.
func (g *recordGuesser) add(in *scanner) {
	closed := false
	for _, i := range g.open {
		cell, c, guess := &in.cells[i], &g.columns[i], &g.guesses[i]
		if cell.from == cell.to && !cell.quoted {
			continue
		}
		text := in.record[cell.from:cell.to]
		if cell.escaped {
			text = in.text(i)
		}
		switch {
		case len(c.missing) > 0 && c.isNull(text, cell.quoted):
		case c.kind == decimalKind: // declared without a scale
			guess.places = max(guess.places, c.places(text))
		case guess.addUsual(text):
		default:
			guess.add(text)
			closed = closed || guess.candidates == 0
		}
	}
	if closed {
		g.open = slices.DeleteFunc(g.open, func(i int) bool { return g.guesses[i].isText() })
	}
}

// fork returns a guesser that starts anew, for records that may turn out not to be
// ones. It shares what does not change.
func (g *recordGuesser) fork() *recordGuesser {
	return &recordGuesser{columns: g.columns, guesses: make([]typeGuess, len(g.columns)), open: slices.Clone(g.open)}
}

// merge adds what a fork has found out.
func (g *recordGuesser) merge(fork *recordGuesser) {
	for i := range g.guesses {
		g.guesses[i].merge(fork.guesses[i])
	}
	g.open = slices.DeleteFunc(g.open, func(i int) bool { return g.guesses[i].isText() })
}
