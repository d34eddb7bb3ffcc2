package postgres

import (
	"fmt"

	"github.com/penstock-data/penstock/sources"
)

// addForeign adds a foreign key, unless its target is not in the catalog. A key that
// cannot be followed says why.
func (l *catalogLoader) addForeign(name string, relation uint32, numbers []int16, target uint32, targeted []int16) {
	i, ok := l.index[target]
	if !ok {
		return
	}
	k := sources.ForeignKey{Name: name, Table: l.table(relation).Name, TargetTable: l.c.Tables[i].Name}
	var reason, far string
	k.Columns, reason = l.keyColumns(relation, numbers)
	k.TargetColumns, far = l.keyColumns(target, targeted)
	switch {
	case reason != "":
		k.Unusable = reason
	case far != "":
		k.Unusable = far
	case l.c.tables[k.TargetTable].inherited:
		k.Unusable = fmt.Sprintf("the key does not cover the rows of the tables that inherit from %q", k.TargetTable)
	}
	l.foreign = append(l.foreign, k)
}

// keyColumns returns the names of the columns of a key, and why they may not be read.
func (l *catalogLoader) keyColumns(relation uint32, numbers []int16) (names []string, reason string) {
	table := l.table(relation).Name
	if denied := l.c.tables[table].denied; denied != "" {
		reason = fmt.Sprintf("%q may not be read: %s", table, denied)
	}
	for _, n := range numbers {
		name, ok := l.columns[relation][n]
		if !ok {
			name = l.hidden[relation][n]
			reason = fmt.Sprintf("the column %q of %q may not be read: %s", name, table, l.table(relation).Denied[name])
		}
		names = append(names, name)
	}
	return names, reason
}
