package csv

import (
	"slices"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// keysByName makes foreign keys of the names of columns, for files that nobody
// has described: customer_id of orders is id of customers or of customer, or
// their column customer_id where that is their only key by name. A key that is
// declared is not made again. What is found so is unique in its table by
// convention, not by proof.
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
