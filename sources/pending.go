package sources

import "context"

type tablesKey struct{}

// ForTables returns a context for a call of [Source.Catalog] that needs the columns of no
// other tables than these, which it names exactly; with none it needs only the names. A
// source may then leave other tables [Table.Pending], but not those to which relations of
// the tables lead, directly or through others.
func ForTables(ctx context.Context, tables ...string) context.Context {
	return context.WithValue(ctx, tablesKey{}, tables)
}

// TablesFor returns the tables of [ForTables]. some is false if the call of
// [Source.Catalog] needs all tables.
func TablesFor(ctx context.Context) (tables []string, some bool) {
	tables, some = ctx.Value(tablesKey{}).([]string)
	return tables, some
}

// Describes reports whether none of the tables that a context asks for is pending in the
// catalog. A nil catalog describes nothing.
func (c *Catalog) Describes(ctx context.Context) bool {
	if c == nil {
		return false
	}
	tables, some := TablesFor(ctx)
	if !some {
		for i := range c.Tables {
			if c.Tables[i].Pending {
				return false
			}
		}
	}
	for _, name := range tables {
		if t := c.Table(name); t != nil && t.Pending {
			return false
		}
	}
	return true
}

// Update returns the latest catalog with the tables of an earlier one, which may be nil, in
// place of those that are pending in the latest. It modifies neither.
func (c *Catalog) Update(earlier *Catalog) *Catalog {
	if earlier == nil {
		return c
	}
	known := make(map[string]*Table, len(earlier.Tables))
	for i := range earlier.Tables {
		known[earlier.Tables[i].Name] = &earlier.Tables[i]
	}
	out := &Catalog{Tables: make([]Table, len(c.Tables)), Unreadable: c.Unreadable, Identity: c.Identity}
	copy(out.Tables, c.Tables)
	for i := range out.Tables {
		if t := known[out.Tables[i].Name]; t != nil && out.Tables[i].Pending {
			out.Tables[i] = *t
		}
	}
	return out
}
