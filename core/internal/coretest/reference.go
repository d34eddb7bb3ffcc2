package coretest

import (
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// Data has all rows of a source, from which [Data.Expected] computes the result that
// a stream must have.
type Data struct {
	catalog *sources.Catalog
	Rows    map[string][]map[string]sources.Value // by table, in the source's order; a row maps columns to values
}

// ReadTables reads every table of a source.
func ReadTables(t testing.TB, source sources.Source) Data {
	t.Helper()
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	d := Data{catalog: catalog, Rows: map[string][]map[string]sources.Value{}}
	for _, table := range catalog.Tables {
		for batch, err := range session.Scan(t.Context(), &sources.Query{Table: table.Name}) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range int(batch.Record.NumRows()) {
				row := map[string]sources.Value{}
				for j, f := range batch.Record.Schema().Fields() {
					row[f.Name] = sources.ValueAt(batch.Record.Column(j), i)
				}
				d.Rows[table.Name] = append(d.Rows[table.Name], row)
			}
		}
	}
	return d
}

// Expected returns a row of a table with the given columns and relations, computed by
// comparing every row with every other. Nil columns are all of the table's.
func (d Data) Expected(table string, row map[string]sources.Value, columns []string, load []query.Branch) Object {
	out := Object{}
	if columns == nil {
		for _, f := range d.catalog.Table(table).Schema.Fields() {
			columns = append(columns, f.Name)
		}
	}
	for _, c := range columns {
		if out[c] = nil; !row[c].IsNull() {
			out[c] = row[c].String()
		}
	}
	for _, level := range load {
		r, err := d.catalog.Table(table).FindRelation(level.Name)
		if err != nil {
			panic(err)
		}
		related := d.related(row, r, level)
		list := []any{}
		for _, other := range related {
			list = append(list, d.Expected(r.TargetTable, other, level.Columns, level.Below))
		}
		switch {
		case !r.Kind.ToOne():
			out[level.Name] = list
		case len(list) == 0:
			out[level.Name] = nil
		default:
			out[level.Name] = list[0]
		}
	}
	return out
}

func (d Data) related(row map[string]sources.Value, r *sources.Relation, level query.Branch) []map[string]sources.Value {
	matching := func(table string, from map[string]sources.Value, as, bs []string) (all []map[string]sources.Value) {
		for _, other := range d.Rows[table] {
			same := true
			for i := range as {
				a, b := from[as[i]], other[bs[i]]
				same = same && !a.IsNull() && !b.IsNull() && sources.Compare(a, b) == 0
			}
			if same {
				all = append(all, other)
			}
		}
		return all
	}
	var all []map[string]sources.Value
	if r.Through == nil {
		all = matching(r.TargetTable, row, r.Columns, r.TargetColumns)
	} else {
		for _, join := range matching(r.Through.Table, row, r.Columns, r.Through.Near) {
			all = append(all, matching(r.TargetTable, join, r.Through.Far, r.TargetColumns)...)
		}
	}
	all = slices.DeleteFunc(all, func(other map[string]sources.Value) bool {
		return sources.Eval(level.Where, func(c string) sources.Value { return other[c] }) != sources.True
	})
	order := slices.Clone(level.OrderBy)
	for _, c := range d.catalog.Table(r.TargetTable).Key {
		order = append(order, sources.Sort{Column: c})
	}
	slices.SortStableFunc(all, func(a, b map[string]sources.Value) int {
		for _, s := range order {
			if c := testkit.CompareBy(s, a[s.Column], b[s.Column]); c != 0 {
				return c
			}
		}
		return 0
	})
	if level.Limit > 0 && len(all) > level.Limit {
		all = all[:level.Limit]
	}
	return all
}
