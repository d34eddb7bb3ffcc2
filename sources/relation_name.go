package sources

import (
	"slices"
	"strings"
)

// The words in qualified names. Short names that contain one of them are not used, so
// that a short name can never be the qualified name of a relation that is added later.
const (
	byWord      = "__by__"
	withWord    = "__with__"
	throughWord = "__through__"
)

// FindRelation returns the relation that a name leads to. A qualified name leads to its
// relation. Another name leads to the relation that has it among its
// [Relation.Aliases], if this is a single one and the table has no column of the name.
//
// If there is no such relation, the error is of kind [NotFound]. If the name is
// ambiguous or that of a column, or if the relation is [Relation.Unusable], the error is
// of kind [Invalid]; it lists the qualified names, or says the reason. The error has
// neither an operation nor a table.
func (t *Table) FindRelation(name string) (*Relation, error) {
	var found []*Relation
	for i := range t.Relations {
		if r := &t.Relations[i]; r.Name == name {
			found = []*Relation{r}
			break
		} else if slices.Contains(r.Aliases, name) {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		if len(t.Relations) == 0 {
			return nil, Errorf(NotFound, "", "", "table %q has no relation %q; the table has none", t.Name, name)
		}
		return nil, Errorf(NotFound, "", "", "table %q has no relation %q%s", t.Name, name, Suggest(name, t.RelationNames()))
	}
	if len(found) > 1 {
		return nil, Errorf(Invalid, "", "", "relation %q is ambiguous: %s", name, alternatives(found, name))
	}
	r := found[0]
	if t.Column(name) >= 0 {
		return nil, Errorf(Invalid, "", "", "table %q has a column %q: the relation is %s", t.Name, name, alternatives(found, name))
	}
	if r.Unusable != "" {
		return nil, Errorf(Invalid, "", "", "relation %q cannot be loaded: %s", name, r.Unusable)
	}
	return r, nil
}

// alternatives lists names of relations other than the one that was asked for.
func alternatives(relations []*Relation, asked string) string {
	var names []string
	for _, r := range relations {
		if r.Name == asked { // it is the name of a column as well
			names = append(names, strings.Join(r.Aliases, " or "))
			continue
		}
		names = append(names, r.Name)
	}
	if n := len(names) - 1; n > 1 {
		return strings.Join(names[:n], ", ") + " or " + names[n]
	}
	return strings.Join(names, " or ")
}

// RelationNames returns a name for each of the table's relations, in their order: the
// first of its [Relation.Aliases] that leads to it, otherwise the qualified name.
func (t *Table) RelationNames() []string {
	uses := make(map[string]int, len(t.Relations))
	for i := range t.Relations {
		uses[t.Relations[i].Name]++
		for _, name := range t.Relations[i].Aliases {
			uses[name]++
		}
	}
	for _, f := range t.Schema.Fields() {
		uses[f.Name]++
	}
	out := make([]string, len(t.Relations))
	for i, r := range t.Relations {
		out[i] = r.Name
		if at := slices.IndexFunc(r.Aliases, func(name string) bool { return uses[name] == 1 }); at >= 0 {
			out[i] = r.Aliases[at]
		}
	}
	return out
}

// qualified returns the qualified name of a relation to a table by a key.
func qualified(table, word string, columns, targets []string) string {
	near, far := pairs(columns, targets)
	if len(targets) == 0 || isID(targets) {
		return encode(table) + word + near
	}
	return encode(table) + word + near + "__" + far
}

// qualifiedThrough returns the qualified name of a relation across a join table.
func qualifiedThrough(join string, near, far ForeignKey) string {
	nearColumns, nearTargets := pairs(near.Columns, near.TargetColumns)
	farColumns, farTargets := pairs(far.Columns, far.TargetColumns)
	name := encode(far.TargetTable) + throughWord + encode(join) + "__" + nearColumns + "__" + farColumns
	if isID(near.TargetColumns) && isID(far.TargetColumns) {
		return name
	}
	return name + "__" + nearTargets + "__" + farTargets
}

// isID reports whether the columns that a key refers to are left out of names.
func isID(columns []string) bool { return slices.Equal(columns, []string{"id"}) }

// pairs returns the columns of a key and the columns that they refer to, for a qualified
// name. The order in which the key lists them does not matter.
func pairs(columns, targets []string) (near, far string) {
	columns, targets = slices.Clone(columns), slices.Clone(targets)
	if len(columns) == len(targets) { // a key that is not usable may differ
		order := make([][2]string, len(columns))
		for i := range order {
			order[i] = [2]string{columns[i], targets[i]}
		}
		slices.SortFunc(order, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
		for i, pair := range order {
			columns[i], targets[i] = pair[0], pair[1]
		}
	}
	for i := range columns {
		columns[i] = encodeColumn(columns[i])
	}
	for i := range targets {
		targets[i] = encodeColumn(targets[i])
	}
	return strings.Join(columns, "__and__"), strings.Join(targets, "__and__")
}

// encodeColumn is [encode], except that no column is taken for the word "and".
func encodeColumn(name string) string {
	if name == "and" {
		return "%61nd"
	}
	return encode(name)
}

// encode returns a name so that it neither contains "__" nor begins or ends with "_".
// Different names stay different.
func encode(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c == '%':
			b.WriteString("%25")
		case c == '_' && (i == 0 || i == len(name)-1 || name[i-1] == '_' || name[i+1] == '_'):
			b.WriteString("%5F")
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isReserved reports whether a name has the form of a qualified name.
func isReserved(name string) bool {
	return strings.Contains(name, byWord) || strings.Contains(name, withWord) || strings.Contains(name, throughWord)
}

// byColumns returns short names of a relation to a table by columns.
func byColumns(table string, columns []string) []string {
	stems := make([]string, len(columns))
	for i, c := range columns {
		stems[i] = stem(c)
	}
	return []string{table + "_by_" + strings.Join(stems, "_"), table + "_by_" + strings.Join(columns, "_")}
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
