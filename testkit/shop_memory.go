package testkit

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// Memory returns the shop as a source made by [NewMemory]. It holds every row twice in
// memory.
func (s Shop) Memory() (sources.Source, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var tables []MemoryTable
	var keys []sources.ForeignKey
	for _, t := range shopTables {
		table := MemoryTable{Name: t.name, Key: t.key, Rows: s.Values(t.name)}
		fields := make([]arrow.Field, len(t.columns))
		for i, c := range t.columns {
			fields[i] = arrow.Field{Name: c.name, Type: c.kind.arrow, Nullable: c.nullable}
			if c.unique {
				table.Unique = append(table.Unique, []string{c.name})
			}
			if target, ok := t.foreign[c.name]; ok {
				keys = append(keys, sources.ForeignKey{Table: t.name, Columns: []string{c.name}, TargetTable: target, TargetColumns: []string{"id"}})
			}
		}
		table.Schema = arrow.NewSchema(fields, nil)
		tables = append(tables, table)
	}
	return NewMemory(tables, keys)
}
