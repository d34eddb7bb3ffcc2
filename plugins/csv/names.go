package csv

import (
	"slices"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// keysByName derives foreign keys from column names, for files without a description:
// customer_id of orders refers to the column id, or customer_id, of customers or
// customer. Where several columns could be meant, there is a key for each, so that a
// file or a column that is added later does not change what a name leads to. The
// referenced column is taken to be unique, without a check.
func keysByName(c *sources.Catalog) (keys []sources.ForeignKey) {
	for i := range c.Tables {
		t := &c.Tables[i]
		for _, f := range t.Schema.Fields() {
			stem, ok := strings.CutSuffix(f.Name, "_id")
			if !ok || stem == "" {
				continue
			}
			for _, name := range []string{stem + "s", stem, stem + "es", strings.TrimSuffix(stem, "y") + "ies"} {
				if target := c.Table(name); target != nil {
					keys = append(keys, keysTo(t, f.Name, target)...)
				}
			}
		}
	}
	return keys
}

// keysTo returns the keys that a column has to a table by its name.
func keysTo(t *sources.Table, name string, target *sources.Table) (keys []sources.ForeignKey) {
	columns := []string{"id"}
	if target.Name != t.Name {
		columns = append(columns, name)
	}
	for _, column := range columns {
		at := target.Column(column)
		if at < 0 {
			continue
		}
		usable := sources.Comparable(sources.FieldType(t.Schema.Field(t.Column(name))), sources.FieldType(target.Schema.Field(at)))
		unique := []string{column}
		if usable && len(target.Key) == 0 && !slices.ContainsFunc(target.Unique, func(u []string) bool { return slices.Equal(u, unique) }) {
			target.Unique = append(target.Unique, unique)
		}
		keys = append(keys, sources.ForeignKey{Table: t.Name, Columns: []string{name}, TargetTable: target.Name, TargetColumns: unique})
	}
	return keys
}
