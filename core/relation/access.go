package relation

import (
	"slices"

	"github.com/penstock-data/penstock/sources"
)

// orderOf returns the order of the rows of one key: orderBy, then the table's own
// key, without the columns in equal, by which all of them are in one place.
func orderOf(table *sources.Table, orderBy []sources.Sort, equal []string) []sources.Sort {
	var order []sources.Sort
	add := func(s sources.Sort) {
		if !slices.Contains(equal, s.Column) && !slices.ContainsFunc(order, func(o sources.Sort) bool { return o.Column == s.Column }) {
			order = append(order, s)
		}
	}
	for _, s := range orderBy {
		add(s)
	}
	for _, column := range table.Key {
		i := table.Column(column)
		if i < 0 {
			continue
		}
		switch f := table.Schema.Field(i); {
		case !sources.MeaningOf(f).CanOrder() && !table.Capabilities.Has(sources.CapSort):
		case sources.Comparable(f.Type, f.Type) || !sources.MeaningOf(f).CanOrder():
			add(sources.Sort{Column: column})
		}
	}
	return order
}

// equalColumns returns the key columns by which all rows of a key are in one place of an
// order. Rows that the source calls equal may differ in a column whose order is not the
// source's.
func (a *keyAccess) equalColumns() []string {
	if !a.hasOrdinals() {
		return a.key
	}
	return slices.DeleteFunc(slices.Clone(a.key), func(column string) bool {
		m := sources.MeaningOf(a.table.Schema.Field(a.table.Column(column)))
		return m.CanEqual() || m.CanOrder()
	})
}

// findLookup finds a look-up by the key's columns, in any order, and puts the key
// in the order of the look-up.
func (a *keyAccess) findLookup() {
	if l := lookupBy(a.table, a.key); l != nil {
		a.lookup, a.key = l, l.Columns
		return
	}
	a.pushIn = len(a.key) == 1 && a.table.Filters[a.key[0]].Has(sources.OpIn)
}

// lookupBy returns a look-up by the columns, in any order, or nil.
func lookupBy(t *sources.Table, columns []string) *sources.Lookup {
	for i := range t.Lookups {
		l := &t.Lookups[i]
		if len(l.Columns) == len(columns) && !slices.ContainsFunc(l.Columns, func(c string) bool { return !slices.Contains(columns, c) }) {
			return l
		}
	}
	return nil
}
