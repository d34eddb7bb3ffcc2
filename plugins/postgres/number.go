package postgres

import (
	"errors"
	"fmt"
	"maps"
	"slices"
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

// optionsOf returns the options for a column of the table at an index of the catalog: those of the
// source, with the option numeric of the column.
func (l *catalogLoader) optionsOf(table int, i *columnInfo) *options {
	numeric, ok := l.s.options.numericOf[l.c.Tables[table].Name+"."+i.name]
	if !ok {
		return &l.s.options
	}
	o := l.s.options
	o.numeric = numeric
	return &o
}

// checkNumericOptions returns an error if an option numeric for a column has no effect.
func (l *catalogLoader) checkNumericOptions() error {
	if len(l.s.options.numericOf) == 0 {
		return nil
	}
	var all []string
	for i, info := range l.columnInfos {
		if l.types.isBareNumeric(info.oid, info.typmod) {
			all = append(all, l.c.Tables[l.index[l.columnTables[i]]].Name+"."+info.name)
		}
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(l.s.options.numericOf)) {
		if !slices.Contains(all, name) {
			faults = append(faults, fmt.Errorf("option %q: there is no numeric column %q without a declared precision%s", numericPrefix+name, name, sources.Suggest(name, all)))
		}
	}
	if len(faults) > 0 {
		return sources.NewError(sources.Invalid, "", "", errors.Join(faults...))
	}
	return nil
}

// isBareNumeric reports whether a type is numeric without a declared precision, a domain
// over it, or an array of either.
func (ts types) isBareNumeric(oid uint32, typmod int32) bool {
	base, typmod, t := ts.base(oid, typmod)
	if t != nil && t.elem != 0 {
		return ts.isBareNumeric(t.elem, typmod)
	}
	return base == oidNumeric && typmod < 4
}
