package sources

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ForeignKey says that the Columns of a table hold keys of a Target table.
type ForeignKey struct {
	// Name is the constraint's name; empty means TABLE_COLUMNS_fkey, which is
	// PostgreSQL's choice too.
	Name          string
	Table         string
	Columns       []string
	TargetTable   string
	TargetColumns []string // empty means the target's primary key
}

// Relate fills in the relations of the catalogue's tables from foreign keys, so
// that every source gives them the same names. A name is never that of a column
// of the table or of another relation; the first free one of these is taken,
// with the keys in the order of their names:
//
//   - to one: the key's single column without _id or Id, then the target table,
//     then TARGET_by_COLUMNS;
//   - back, to one where the key is unique, else to many: the referencing table,
//     unless that table points here with several keys, then TABLE_by_COLUMNS,
//     the columns again without _id;
//   - across a join table whose two foreign keys make its primary key: the far
//     table, then FAR_by_JOINTABLE.
//
// A key that names a table or column which the catalogue lacks is an [Invalid]
// error that says which.
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

// complete fills in a key's defaults and checks it.
func complete(c *Catalog, k *ForeignKey) error {
	if k.Name == "" {
		k.Name = k.Table + "_" + strings.Join(k.Columns, "_") + "_fkey"
	}
	fault := func(format string, args ...any) error {
		return &Error{Op: "catalog", Table: k.Table, Kind: Invalid, Err: fmt.Errorf("foreign key %s: %s", k.Name, fmt.Sprintf(format, args...))}
	}
	from, to := c.Table(k.Table), c.Table(k.TargetTable)
	if from == nil {
		return fault("there is no table %q", k.Table)
	}
	if to == nil {
		return fault("there is no table %q to point to", k.TargetTable)
	}
	if len(k.TargetColumns) == 0 {
		k.TargetColumns = to.Key
	}
	if len(k.Columns) == 0 || len(k.Columns) != len(k.TargetColumns) {
		return fault("%d columns point to %d", len(k.Columns), len(k.TargetColumns))
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
			return fault("%s (%s) does not compare with %s.%s (%s)", column, x, k.TargetTable, k.TargetColumns[i], y)
		}
	}
	return nil
}

// relateAcross adds the many_to_many relations of a join table to both ends.
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

// relate adds a relation under the first free name; where none is, with a
// number behind the last.
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

// Relation returns the relation of that exact name, or nil.
func (t *Table) Relation(name string) *Relation {
	for i := range t.Relations {
		if t.Relations[i].Name == name {
			return &t.Relations[i]
		}
	}
	return nil
}

// identifies reports whether the columns hold a key of the table.
func (t *Table) identifies(columns []string) bool {
	if t.Key != nil && sameSet(t.Key, columns) {
		return true
	}
	return slices.ContainsFunc(t.Unique, func(u []string) bool { return sameSet(u, columns) })
}

// siblings counts the keys that lead between the same two tables as k.
func siblings(keys []ForeignKey, k ForeignKey) int {
	n := 0
	for _, other := range keys {
		if other.Table == k.Table && other.TargetTable == k.TargetTable {
			n++
		}
	}
	return n
}

// stem is a column's name without _id or Id at its end.
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
