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
	// PostgreSQL. It determines the order of the relations, but not their names.
	Name          string
	Table         string   // the table that refers
	Columns       []string // its columns
	TargetTable   string   // the table that is referred to
	TargetColumns []string // its columns, in the order of Columns; empty means its primary key
	// Unusable says why rows cannot be found by the key, if the source knows a reason. See
	// [Relation.Unusable].
	Unusable string
}

// Relate sets the relations of all tables of the catalog from foreign keys, and
// replaces those that they have. Relations are named in the same way for every source.
// What a relation can be called depends only on its own keys:
//
//   - [BelongsTo], from the referencing table. The short names are the key's column
//     without _id or Id, the target table, and TARGET_by_COLUMNS. The qualified name is
//     TARGET__by__COLUMNS.
//   - [HasOne], if the key is unique, or [HasMany], from the target table. The short
//     names are the referencing table and TABLE_by_COLUMNS. The qualified name is
//     TABLE__with__COLUMNS.
//   - [ManyToMany], across a join table, for two foreign keys that make up its primary
//     key. The short names are the table at the far end, FAR_by_JOINTABLE and
//     FAR_by_COLUMNS. The qualified name is FAR__through__JOINTABLE__NEAR__FAR, of which
//     NEAR and FAR are columns of the join table.
//
// In short names, COLUMNS are joined by "_"; there is one name with _id or Id removed
// from each column and one with the whole columns. If a table refers to itself by a
// column without _id or Id, its name is short for the row that is referred to, otherwise
// for the referring rows.
//
// In qualified names, columns are joined by "__and__". After another "__" follow the
// columns that the key refers to, or the two keys refer to, unless each of them is a
// single column id. In a table or column with a name that
// contains "__", or begins or ends with "_", each of these "_" is written as %5F.
//
// Which short names lead to a relation is decided by [Table.FindRelation]. A key that
// cannot be followed, because its types differ or because it names a table or a column
// that does not exist, gives relations that are [Relation.Unusable]. A key that occurs
// twice gives its relations once. If a key's own table does not exist or the key has no
// columns, the error is of kind [Invalid].
func Relate(c *Catalog, keys []ForeignKey) error {
	r := relater{catalog: c, tables: make(map[string]*Table, len(c.Tables)), names: map[*Table]map[string]int{}}
	for i := range c.Tables {
		c.Tables[i].Relations = nil
		r.tables[c.Tables[i].Name] = &c.Tables[i]
	}
	keys = slices.Clone(keys)
	for i := range keys {
		if err := r.complete(&keys[i]); err != nil {
			return err
		}
	}
	slices.SortStableFunc(keys, func(a, b ForeignKey) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Table, b.Table))
	})
	for _, k := range keys {
		r.belongsTo(k)
	}
	for _, k := range keys {
		r.has(k)
	}
	own := map[string][]ForeignKey{}
	for _, k := range keys {
		own[k.Table] = append(own[k.Table], k)
	}
	for i := range c.Tables {
		r.across(&c.Tables[i], own[c.Tables[i].Name])
	}
	return nil
}

// relater adds relations to the tables of a catalog.
type relater struct {
	catalog *Catalog
	tables  map[string]*Table
	names   map[*Table]map[string]int // indexes of a table's relations by qualified name
}

// complete sets a key's defaults, and its reason if it is unusable.
func (r *relater) complete(k *ForeignKey) error {
	if k.Name == "" {
		k.Name = k.Table + "_" + strings.Join(k.Columns, "_") + "_fkey"
	}
	from, to := r.tables[k.Table], r.tables[k.TargetTable]
	if from == nil {
		return Errorf(Invalid, "catalog", k.Table, "foreign key %s: there is no table %q", k.Name, k.Table)
	}
	if len(k.Columns) == 0 {
		return Errorf(Invalid, "catalog", k.Table, "foreign key %s: it has no columns", k.Name)
	}
	if len(k.TargetColumns) == 0 && to != nil {
		k.TargetColumns = to.Key
	}
	if k.Unusable == "" {
		k.Unusable = fault(from, to, k)
	}
	return nil
}

// fault returns why rows cannot be found by a key; an empty text if they can.
func fault(from, to *Table, k *ForeignKey) string {
	for _, column := range k.Columns {
		if from.Column(column) < 0 {
			return fmt.Sprintf("the table %q has no column %q%s", k.Table, column, Suggest(column, from.columns()))
		}
	}
	switch {
	case to == nil:
		return fmt.Sprintf("there is no table %q", k.TargetTable)
	case len(k.TargetColumns) == 0:
		return fmt.Sprintf("the table %q has no primary key, and the key names no columns of it", k.TargetTable)
	case len(k.Columns) != len(k.TargetColumns):
		return fmt.Sprintf("the columns (%s) and the columns (%s) of %q differ in number",
			strings.Join(k.Columns, ", "), strings.Join(k.TargetColumns, ", "), k.TargetTable)
	}
	for i, column := range k.Columns {
		b := to.Column(k.TargetColumns[i])
		if b < 0 {
			return fmt.Sprintf("the table %q has no column %q%s", k.TargetTable, k.TargetColumns[i], Suggest(k.TargetColumns[i], to.columns()))
		}
		x, y := from.Schema.Field(from.Column(column)), to.Schema.Field(b)
		if s, t := FieldType(x), FieldType(y); !Comparable(s, t) {
			return fmt.Sprintf("%s.%s (%s) cannot be compared with %s.%s (%s)", k.Table, column, s, k.TargetTable, y.Name, t)
		}
	}
	return ""
}

// belongsTo adds the relation of a key to the table that refers.
func (r *relater) belongsTo(k ForeignKey) {
	var short []string
	named := len(k.Columns) == 1 && stem(k.Columns[0]) != k.Columns[0]
	if named {
		short = append(short, stem(k.Columns[0]))
	}
	if !named || k.Table != k.TargetTable {
		short = append(short, k.TargetTable)
	}
	if k.Table != k.TargetTable {
		short = append(short, byColumns(k.TargetTable, k.Columns)...)
	}
	r.add(k.Table, Relation{
		Name: qualified(k.TargetTable, byWord, k.Columns, k.TargetColumns), Aliases: short, Unusable: k.Unusable,
		Kind: BelongsTo, Columns: k.Columns, TargetTable: k.TargetTable, TargetColumns: k.TargetColumns,
	})
}

// has adds the relation of a key to the table that is referred to.
func (r *relater) has(k ForeignKey) {
	kind := HasMany
	if r.tables[k.Table].identifies(k.Columns) {
		kind = HasOne
	}
	var short []string
	if k.Table != k.TargetTable || len(k.Columns) == 1 && stem(k.Columns[0]) != k.Columns[0] {
		short = append(short, k.Table)
	}
	r.add(k.TargetTable, Relation{
		Name: qualified(k.Table, withWord, k.Columns, k.TargetColumns), Aliases: append(short, byColumns(k.Table, k.Columns)...), Unusable: k.Unusable,
		Kind: kind, Columns: k.TargetColumns, TargetTable: k.Table, TargetColumns: k.Columns,
	})
}

// across adds the many_to_many relations of a join table, with its own keys, to the
// tables at both ends.
func (r *relater) across(join *Table, own []ForeignKey) {
	for i, near := range own {
		for j, far := range own {
			if i == j || !sameSet(join.Key, slices.Concat(near.Columns, far.Columns)) {
				continue
			}
			short := append([]string{far.TargetTable, far.TargetTable + "_by_" + join.Name}, byColumns(far.TargetTable, far.Columns)...)
			r.add(near.TargetTable, Relation{
				Name: qualifiedThrough(join.Name, near, far), Aliases: short, Unusable: cmp.Or(near.Unusable, far.Unusable),
				Kind: ManyToMany, Columns: near.TargetColumns, TargetTable: far.TargetTable, TargetColumns: far.TargetColumns,
				Through: &Through{Table: join.Name, Near: near.Columns, Far: far.Columns},
			})
		}
	}
}

// add adds a relation to a table of the catalog, if there is one of that name. Two
// relations with the same qualified name are the same; a usable one is kept.
func (r *relater) add(table string, relation Relation) {
	t := r.tables[table]
	if t == nil {
		return
	}
	if r.names[t] == nil {
		r.names[t] = map[string]int{}
	}
	if i, ok := r.names[t][relation.Name]; ok {
		if t.Relations[i].Unusable != "" && relation.Unusable == "" {
			t.Relations[i] = relation
		}
		return
	}
	var aliases []string
	for _, name := range relation.Aliases {
		if name != "" && !isReserved(name) && !slices.Contains(aliases, name) {
			aliases = append(aliases, name)
		}
	}
	relation.Aliases = aliases
	r.names[t][relation.Name] = len(t.Relations)
	t.Relations = append(t.Relations, relation)
}

// identifies reports whether the columns are a key of the table.
func (t *Table) identifies(columns []string) bool {
	if t.Key != nil && sameSet(t.Key, columns) {
		return true
	}
	return slices.ContainsFunc(t.Unique, func(u []string) bool { return sameSet(u, columns) })
}

func sameSet(a, b []string) bool {
	x, y := slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(x, y)
}
