package csv

import (
	"slices"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// keysByName derives foreign keys from column names, for files without a
// description: customer_id of orders refers to the column id of customers or
// customer, or to their column customer_id if they have no id. Columns of declared
// keys are left out. The referenced column is taken to be unique, without a check.
func keysByName(c *sources.Catalog, declared []sources.ForeignKey) (keys []sources.ForeignKey) {
	for i := range c.Tables {
		t := &c.Tables[i]
		for _, f := range t.Schema.Fields() {
			stem, ok := strings.CutSuffix(f.Name, "_id")
			known := slices.ContainsFunc(declared, func(k sources.ForeignKey) bool {
				return k.Table == t.Name && slices.Equal(k.Columns, []string{f.Name})
			})
			if !ok || stem == "" || known {
				continue
			}
			for _, name := range []string{stem + "s", stem, stem + "es", strings.TrimSuffix(stem, "y") + "ies"} {
				target := c.Table(name)
				if target == nil {
					continue
				}
				column := ""
				switch {
				case target.Column("id") >= 0:
					column = "id"
				case target.Name != t.Name && target.Column(f.Name) >= 0:
					column = f.Name
				default:
					continue
				}
				if !sources.Comparable(f.Type, target.Schema.Field(target.Column(column)).Type) || f.Type.ID() != target.Schema.Field(target.Column(column)).Type.ID() {
					continue
				}
				if len(target.Key) == 0 && !slices.ContainsFunc(target.Unique, func(u []string) bool { return slices.Equal(u, []string{column}) }) {
					target.Unique = append(target.Unique, []string{column})
				}
				keys = append(keys, sources.ForeignKey{Table: t.Name, Columns: []string{f.Name}, TargetTable: target.Name, TargetColumns: []string{column}})
				break
			}
		}
	}
	return keys
}
