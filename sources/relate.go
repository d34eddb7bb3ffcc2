package sources

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ForeignKey is a reference from columns of one table to columns of another, or of
// the same table.
type ForeignKey struct {
	// Name is the name of the constraint. Empty means TABLE_COLUMNS_fkey, as in
	// PostgreSQL.
	Name          string
	Table         string   // the table that refers
	Columns       []string // its columns
	TargetTable   string   // the table that is referred to
	TargetColumns []string // its columns, in the order of Columns; empty means its primary key
}

// Relate sets the relations of all tables of the catalog from foreign keys, and
// replaces those that they have. Relations are named in the same way for every source:
// of the names listed here, a relation gets the first one that is not yet a column or
// a relation of its table. If there is none left, it gets the last one with a number.
//
//   - [BelongsTo], from the referencing table: the key's column without _id or Id, if
//     it is a single column; the target table; TARGET_by_COLUMNS.
//   - [HasOne], if the key is unique, or [HasMany], from the target table: the
//     referencing table, if it has only one key to the target; TABLE_by_COLUMNS, with
//     _id removed from the columns.
//   - [ManyToMany], across a join table whose primary key consists of two foreign
//     keys: the table at the far end; FAR_by_JOINTABLE; FAR_by_COLUMNS.
//
// Names are given to all relations of one kind before those of the next, and within a
// kind in the order of the keys' names.
//
// If a key names a table or a column that does not exist, the error is of kind
// [Invalid].
func Relate(c *Catalog, keys []ForeignKey) error {
	keys = slices.Clone(keys)
	for i := range keys {
		if err := complete(c, &keys[i]); err != nil {
			return err
		}
	}
	slices.SortStableFunc(keys, func(a, b ForeignKey) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Table, b.Table))
	})
	for i := range c.Tables {
		c.Tables[i].Relations = nil
	}
	for _, k := range keys {
		var names []string
		if len(k.Columns) == 1 {
			names = append(names, stem(k.Columns[0]))
		}
		c.Table(k.Table).relate(Relation{Kind: BelongsTo, Columns: k.Columns, TargetTable: k.TargetTable, TargetColumns: k.TargetColumns},
			append(names, k.TargetTable, k.TargetTable+"_by_"+stems(k.Columns))...)
	}
	for _, k := range keys {
		kind := HasMany
		if c.Table(k.Table).identifies(k.Columns) {
			kind = HasOne
		}
		names := []string{k.Table, k.Table + "_by_" + stems(k.Columns)}
		if siblings(keys, k) > 1 {
			names = names[1:]
		}
		c.Table(k.TargetTable).relate(Relation{Kind: kind, Columns: k.TargetColumns, TargetTable: k.Table, TargetColumns: k.Columns}, names...)
	}
	for i := range c.Tables {
		relateAcross(c, &c.Tables[i], keys)
	}
	return nil
}

// complete sets a key's defaults and checks it.
func complete(c *Catalog, k *ForeignKey) error {
	if k.Name == "" {
		k.Name = k.Table + "_" + strings.Join(k.Columns, "_") + "_fkey"
	}
	fault := func(format string, args ...any) error {
		return Errorf(Invalid, "catalog", k.Table, "foreign key %s: %s", k.Name, fmt.Sprintf(format, args...))
	}
	from, to := c.Table(k.Table), c.Table(k.TargetTable)
	if from == nil {
		return fault("there is no table %q", k.Table)
	}
	if to == nil {
		return fault("there is no target table %q", k.TargetTable)
	}
	if len(k.TargetColumns) == 0 {
		k.TargetColumns = to.Key
	}
	if len(k.Columns) == 0 || len(k.Columns) != len(k.TargetColumns) {
		return fault("%d columns refer to %d", len(k.Columns), len(k.TargetColumns))
	}
	for i, column := range k.Columns {
		a, b := from.Column(column), to.Column(k.TargetColumns[i])
		if a < 0 {
			return fault("there is no column %q", column)
		}
		if b < 0 {
			return fault("table %q has no column %q", k.TargetTable, k.TargetColumns[i])
		}
		if x, y := from.Schema.Field(a).Type, to.Schema.Field(b).Type; !Comparable(x, y) {
			return fault("%s (%s) cannot be compared with %s.%s (%s)", column, x, k.TargetTable, k.TargetColumns[i], y)
		}
	}
	return nil
}

// relateAcross adds the many_to_many relations of a join table to the tables at both
// ends.
func relateAcross(c *Catalog, join *Table, keys []ForeignKey) {
	var own []ForeignKey
	for _, k := range keys {
		if k.Table == join.Name {
			own = append(own, k)
		}
	}
	if len(own) != 2 || !sameSet(join.Key, slices.Concat(own[0].Columns, own[1].Columns)) {
		return
	}
	for i, near := range own {
		far := own[1-i]
		c.Table(near.TargetTable).relate(Relation{
			Kind: ManyToMany, Columns: near.TargetColumns, TargetTable: far.TargetTable, TargetColumns: far.TargetColumns,
			Through: &Through{Table: join.Name, Near: near.Columns, Far: far.Columns},
		}, far.TargetTable, far.TargetTable+"_by_"+join.Name, far.TargetTable+"_by_"+stems(far.Columns))
	}
}

// relate adds a relation under the first free name. If none is free, it appends a
// number to the last one.
func (t *Table) relate(r Relation, names ...string) {
	free := func(name string) bool { return name != "" && t.Column(name) < 0 && t.Relation(name) == nil }
	i := slices.IndexFunc(names, free)
	if i >= 0 {
		r.Name = names[i]
	}
	for n := 2; r.Name == ""; n++ {
		if name := fmt.Sprintf("%s_%d", names[len(names)-1], n); free(name) {
			r.Name = name
		}
	}
	t.Relations = append(t.Relations, r)
}

// Relation returns the relation with the exact name, or nil.
func (t *Table) Relation(name string) *Relation {
	for i := range t.Relations {
		if t.Relations[i].Name == name {
			return &t.Relations[i]
		}
	}
	return nil
}

// identifies reports whether the columns are a key of the table.
func (t *Table) identifies(columns []string) bool {
	if t.Key != nil && sameSet(t.Key, columns) {
		return true
	}
	return slices.ContainsFunc(t.Unique, func(u []string) bool { return sameSet(u, columns) })
}

// siblings counts the keys between the same two tables as k, including k.
func siblings(keys []ForeignKey, k ForeignKey) int {
	n := 0
	for _, other := range keys {
		if other.Table == k.Table && other.TargetTable == k.TargetTable {
			n++
		}
	}
	return n
}

// stem returns a column's name without a final _id or Id.
func stem(column string) string {
	for _, suffix := range []string{"_id", "Id", "_ID", "ID"} {
		if s, ok := strings.CutSuffix(column, suffix); ok && s != "" {
			return s
		}
	}
	return column
}

func stems(columns []string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = stem(c)
	}
	return strings.Join(out, "_")
}

func sameSet(a, b []string) bool {
	x, y := slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(x, y)
}
