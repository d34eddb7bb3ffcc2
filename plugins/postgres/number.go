package postgres

import (
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// The numbers of digits of a numeric before and after the point.
const (
	numericWhole    = 131072
	numericFraction = 16383
)

// holdsNumber reports whether a numeric can have the value.
func (c *column) holdsNumber(d sources.Digits) bool {
	switch d {
	case "NaN":
		return true
	case "Infinity", "-Infinity":
		return c.infinities
	}
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(string(d), "-"), ".")
	return len(whole) <= numericWhole && len(fraction) <= numericFraction
}

// numberBound returns a comparison that has the same result as that of op with d for all values of
// a numeric. It is one with a number that a numeric can hold.
func (c *column) numberBound(op sources.Op, d sources.Digits) (sources.Op, sources.Digits) {
	less := op == sources.OpLt || op == sources.OpLe
	choose := func(ifLess, ifGreater sources.Op, to sources.Digits) (sources.Op, sources.Digits) {
		if less {
			return c.numberBound(ifLess, to)
		}
		return c.numberBound(ifGreater, to)
	}
	if c.holdsNumber(d) {
		return op, d
	}
	positive, negative := strings.CutPrefix(string(d), "-")
	whole, fraction, _ := strings.Cut(positive, ".")
	switch {
	case d == "Infinity": // greater than all but NaN
		return choose(sources.OpLt, sources.OpGe, "NaN")
	case d == "-Infinity": // less than all
		return choose(sources.OpGt, sources.OpLe, "NaN")
	case len(whole) > numericWhole && negative:
		return choose(sources.OpLe, sources.OpGt, "-Infinity")
	case len(whole) > numericWhole:
		return choose(sources.OpLt, sources.OpGe, "Infinity")
	}
	near, _ := sources.ParseNumber(string(d[:len(d)-len(fraction)+numericFraction]))
	if negative {
		return choose(sources.OpLt, sources.OpGe, near.V.(sources.Digits))
	}
	return choose(sources.OpLe, sources.OpGt, near.V.(sources.Digits))
}
