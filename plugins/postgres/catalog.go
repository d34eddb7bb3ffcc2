package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/sources"
)

// catalog is the contract's catalogue with what the SQL is made of.
type catalog struct {
	*sources.Catalog
	tables map[string]*table
}

// table is what the source knows of one table beyond the contract. It never
// changes.
type table struct {
	oid     uint32
	from    string // quoted, with its schema
	columns map[string]*column
	order   []string // the key that every ordered scan ends in; nil where there is none
	// heap says that the rows have a place on the disk that a scan can go by: a
	// plain table or a materialised view, in a session with one snapshot.
	heap bool
}

// The three questions that make a catalogue, whatever its size.
const (
	tablesSQL = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::float8, coalesce(obj_description(c.oid, 'pg_class'), ''),
  coalesce(m.amname = 'heap', false) AND NOT c.relhassubclass
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am m ON m.oid = c.relam
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE')
  AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))
ORDER BY n.nspname <> $1::text, n.nspname, c.relname`

	columnsSQL = `
WITH RECURSIVE base(oid, base, typmod) AS (
  SELECT t.oid, t.typbasetype, t.typtypmod FROM pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT b.oid, t.typbasetype, CASE WHEN b.typmod <> -1 THEN b.typmod ELSE t.typtypmod END
  FROM base b JOIN pg_type t ON t.oid = b.base AND t.typtype = 'd'
), domain AS (
  SELECT b.* FROM base b JOIN pg_type t ON t.oid = b.base AND t.typtype <> 'd'
)
SELECT a.attrelid, a.attnum, a.attname::text, coalesce(d.base, a.atttypid),
  CASE WHEN a.atttypmod <> -1 THEN a.atttypmod ELSE coalesce(d.typmod, -1) END,
  format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
  coalesce(col_description(a.attrelid, a.attnum), ''), coalesce(l.collisdeterministic, true)
FROM pg_attribute a LEFT JOIN domain d ON d.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
ORDER BY a.attrelid, a.attnum`

	constraintsSQL = `
SELECT c.conrelid, c.conname::text, c.contype::text, c.confrelid, c.conkey, coalesce(c.confkey, '{}')
FROM pg_constraint c
WHERE c.conrelid = ANY($1::oid[]) AND c.contype IN ('p', 'u', 'f')
ORDER BY c.conrelid, c.contype, c.conname`
)

// loading is a catalogue on its way.
type loading struct {
	s       *source
	c       *catalog
	index   map[uint32]int              // in the catalogue's tables, by OID
	columns map[uint32]map[int16]string // names by number
	oids    []uint32
	foreign []sources.ForeignKey
}

func (s *source) load(ctx context.Context, tx pgx.Tx) (*catalog, error) {
	l := &loading{s: s, c: &catalog{Catalog: &sources.Catalog{}, tables: map[string]*table{}}, index: map[uint32]int{}, columns: map[uint32]map[int16]string{}}
	for _, step := range []func(context.Context, pgx.Tx) error{l.loadTables, l.loadColumns, l.loadConstraints} {
		if err := step(ctx, tx); err != nil {
			return nil, err
		}
	}
	if err := sources.Relate(l.c.Catalog, l.foreign); err != nil {
		return nil, err
	}
	for i := range l.c.Tables {
		l.finish(&l.c.Tables[i])
	}
	return l.c, nil
}

func (l *loading) loadTables(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, tablesSQL, l.s.options.schema)
	if err != nil {
		return err
	}
	var (
		oid                         uint32
		schema, name, kind, comment string
		estimate                    float64
		heap                        bool
	)
	_, err = pgx.ForEachRow(rows, []any{&oid, &schema, &name, &kind, &estimate, &comment, &heap}, func() error {
		shown := name
		if schema != l.s.options.schema {
			shown = schema + "." + name
		}
		// A dot within a name can make two tables look the same.
		if l.c.tables[shown] != nil {
			shown = quote(schema, name)
		}
		t := sources.Table{Name: shown, Rows: -1, Comment: comment, Scans: l.s.options.connections, Can: sources.Project | sources.Limit | sources.Logic}
		if l.s.options.snapshot != none && kind != "f" { // a foreign table has moments of its own
			t.Can |= sources.Snapshot
		}
		if l.s.utf8 {
			t.Can |= sources.SortBy
		}
		if kind != "v" && estimate >= 0 {
			t.Rows = int64(estimate)
		}
		l.index[oid] = len(l.c.Tables)
		l.oids = append(l.oids, oid)
		l.columns[oid] = map[int16]string{}
		l.c.Tables = append(l.c.Tables, t)
		l.c.tables[shown] = &table{
			oid: oid, from: quote(schema, name), columns: map[string]*column{},
			heap: heap && l.s.options.snapshot == strict,
		}
		return nil
	})
	return err
}

func (l *loading) loadColumns(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, columnsSQL, l.oids)
	if err != nil {
		return err
	}
	var (
		relation, oid           uint32
		number                  int16
		name, shown, comment    string
		typmod                  int32
		nullable, deterministic bool
	)
	fields := make([][]arrow.Field, len(l.c.Tables))
	_, err = pgx.ForEachRow(rows, []any{&relation, &number, &name, &oid, &typmod, &shown, &nullable, &comment, &deterministic}, func() error {
		i := l.index[relation]
		c := newColumn(name, oid, typmod, shown, comment, nullable, deterministic)
		l.columns[relation][number] = name
		l.c.tables[l.c.Tables[i].Name].columns[name] = &c
		fields[i] = append(fields[i], c.field)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range fields {
		l.c.Tables[i].Schema = arrow.NewSchema(fields[i], nil)
	}
	return nil
}

// names returns the columns' names, or nil where one may not be read.
func (l *loading) names(relation uint32, numbers []int16) []string {
	names := make([]string, len(numbers))
	for i, n := range numbers {
		name, ok := l.columns[relation][n]
		if !ok {
			return nil
		}
		names[i] = name
	}
	return names
}

func (l *loading) loadConstraints(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, constraintsSQL, l.oids)
	if err != nil {
		return err
	}
	var (
		relation, target  uint32
		name, kind        string
		numbers, targeted []int16
	)
	_, err = pgx.ForEachRow(rows, []any{&relation, &name, &kind, &target, &numbers, &targeted}, func() error {
		t := &l.c.Tables[l.index[relation]]
		columns := l.names(relation, numbers)
		if columns == nil {
			return nil
		}
		switch kind {
		case "p":
			t.Key = columns
		case "u":
			t.Unique = append(t.Unique, columns)
		case "f":
			i, ok := l.index[target]
			far := l.names(target, targeted)
			if !ok || far == nil {
				return nil // a table or a column that is not shown
			}
			other := &l.c.Tables[i]
			for j := range columns {
				if !sources.Comparable(t.Schema.Field(t.Column(columns[j])).Type, other.Schema.Field(other.Column(far[j])).Type) {
					return nil // compares in PostgreSQL alone, as by an operator of its own
				}
			}
			l.foreign = append(l.foreign, sources.ForeignKey{Name: name, Table: t.Name, Columns: columns, Target: other.Name, TargetColumns: far})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("constraints: %w", err)
	}
	return nil
}

// finish says what the table can do.
func (l *loading) finish(t *sources.Table) {
	own := l.c.tables[t.Name]
	required := func(names []string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return own.columns[name].field.Nullable })
	}
	if own.order = t.Key; own.order == nil {
		if i := slices.IndexFunc(t.Unique, required); i >= 0 {
			own.order = t.Unique[i]
		}
	}
	if own.order != nil || own.heap {
		t.Can |= sources.Resume | sources.Stable
	}
	if own.heap && l.s.version >= 140000 { // older ones read the whole table for a range of it
		t.Can |= sources.Partition
	}
	t.Filters = map[string]sources.Ops{}
	add := func(columns []string) {
		same := func(have sources.Lookup) bool { return slices.Equal(have.Columns, columns) }
		takes := func(name string) bool { return !t.Filters[name].Has(sources.OpIn) }
		if len(columns) > 0 && !slices.ContainsFunc(t.Lookups, same) && !slices.ContainsFunc(columns, takes) {
			t.Lookups = append(t.Lookups, sources.Lookup{Columns: columns})
		}
	}
	for _, f := range t.Schema.Fields() {
		t.Filters[f.Name] = own.columns[f.Name].ops(l.s.utf8)
	}
	add(t.Key)
	for _, columns := range t.Unique {
		add(columns)
	}
	for _, k := range l.foreign {
		if k.Table == t.Name {
			add(k.Columns)
		}
		if k.Target == t.Name {
			add(k.TargetColumns)
		}
	}
	for _, f := range t.Schema.Fields() {
		add([]string{f.Name})
	}
}
