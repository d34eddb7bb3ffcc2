package csv

import (
	"context"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// Catalog returns the catalog. It reads the files of the tables that the caller needs, see
// [sources.ForTables], and those that foreign keys connect with them, when they are asked
// for the first time. The others are pending. Tables that cannot be read leave the others
// readable.
func (s *source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables, unreadable := maps.Clone(s.tables), maps.Clone(s.unreadable)
	var first error // of a table
	wanted := s.connected(ctx)
	for i := range s.specs {
		d := &s.specs[i]
		if tables[d.table] != nil || unreadable[d.table] != nil || !wanted[d.table] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, sources.WithOp("catalog", "", err)
		}
		t, err := s.load(ctx, *d)
		if err = asInvalid(err); err == nil {
			tables[d.table] = t
			continue
		}
		located := sources.WithOp("catalog", d.table, err)
		if !mayFail(err) {
			return nil, located
		}
		unreadable[d.table] = &sources.TableError{Table: d.table, Kind: sources.KindOf(err), Reason: reasonOf(err)}
		if first == nil {
			first = located
		}
	}
	switch {
	case first != nil && len(tables) == 0:
		return nil, first
	case s.catalog != nil && len(tables) == len(s.tables) && len(unreadable) == len(s.unreadable):
		return s.catalog, nil
	}
	catalog, err := s.describeTables(tables, unreadable)
	if err != nil {
		return nil, err
	}
	s.catalog, s.tables, s.unreadable = catalog, tables, unreadable
	return catalog, nil
}

// table returns a table that is not pending.
func (s *source) table(name string) *table {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tables[name]
}

// connected returns the names of the tables that a call of Catalog needs: those that it
// asks for, and all that foreign keys connect with them. Where keys are derived from the
// names of columns, these are all tables.
func (s *source) connected(ctx context.Context) map[string]bool {
	wanted := map[string]bool{}
	names, some := sources.TablesFor(ctx)
	if !some || s.options.ByName && len(names) > 0 {
		for i := range s.specs {
			wanted[s.specs[i].table] = true
		}
		return wanted
	}
	neighbors := map[string][]string{}
	if len(names) > 0 {
		for _, k := range s.declaredKeys() {
			neighbors[k.Table] = append(neighbors[k.Table], k.TargetTable)
			neighbors[k.TargetTable] = append(neighbors[k.TargetTable], k.Table)
		}
	}
	for next := slices.Clone(names); len(next) > 0; {
		name := next[len(next)-1]
		if next = next[:len(next)-1]; !wanted[name] {
			wanted[name] = true
			next = append(next, neighbors[name]...)
		}
	}
	return wanted
}

// declaredKeys returns the foreign keys of the package and the options.
func (s *source) declaredKeys() []sources.ForeignKey {
	var keys []sources.ForeignKey
	for i := range s.specs {
		keys = append(keys, s.specs[i].foreignKeys...)
	}
	return append(keys, s.options.ForeignKeys...)
}

// describeTables returns the catalog in which all tables are pending that are neither
// described nor unreadable.
func (s *source) describeTables(tables map[string]*table, unreadable map[string]*sources.TableError) (*sources.Catalog, error) {
	catalog := &sources.Catalog{}
	pending := map[string]bool{}
	var keys []sources.ForeignKey
	for i := range s.specs {
		d := &s.specs[i]
		switch t := tables[d.table]; {
		case t != nil:
			catalog.Tables = append(catalog.Tables, t.describe())
			keys = append(keys, d.foreignKeys...)
		case unreadable[d.table] != nil:
			catalog.Unreadable = append(catalog.Unreadable, *unreadable[d.table])
		default:
			pending[d.table] = true
			catalog.Tables = append(catalog.Tables, sources.Table{Name: d.table, Schema: arrow.NewSchema(nil, nil), Rows: -1, Pending: true})
		}
	}
	if s.options.ByName {
		keys = append(keys, keysByName(catalog)...)
	}
	// A pattern may select some files of a package whose foreign keys lead to others.
	keys = slices.DeleteFunc(keys, func(k sources.ForeignKey) bool {
		return catalog.Table(k.TargetTable) == nil && s.declaredNames[k.TargetTable]
	})
	given := slices.DeleteFunc(slices.Clone(s.options.ForeignKeys), func(k sources.ForeignKey) bool { return pending[k.Table] || pending[k.TargetTable] })
	if err := catalog.CheckForeignKeys(given); err != nil {
		return nil, err
	}
	if err := sources.Relate(catalog, append(keys, given...)); err != nil {
		return nil, sources.WithOp("catalog", "", err)
	}
	addLookups(catalog, tables)
	if s.catalog != nil {
		catalog.Identity = s.catalog.Identity
		return catalog, nil
	}
	var err error
	if catalog.Identity, err = s.identity(); err != nil {
		return nil, sources.WithOp("catalog", "", err)
	}
	return catalog, nil
}
