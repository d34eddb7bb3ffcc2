package relation_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// folding is a source whose texts named "name" and "owner" are equal without regard to
// case, and in the order of their lower case. It looks rows up with ordinals.
type folding struct {
	sources.Source
	catalog *sources.Catalog
	rows    map[string][][]any
	keyed   atomic.Int64 // scans with keys
	keys    atomic.Int64 // in all of them
	lie     func(ordinal int32) int32
}

func newFolding(t *testing.T) *folding {
	t.Helper()
	fold := arrow.MetadataFrom(sources.Meaning{Equality: sources.BySource, Order: sources.BySource}.Metadata())
	number := arrow.MetadataFrom(sources.Meaning{Equality: sources.ByNumber, Order: sources.ByNumber}.Metadata())
	text := func(name string, nullable bool, meta arrow.Metadata) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: nullable, Metadata: meta}
	}
	id := arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64}
	f := &folding{rows: map[string][][]any{
		"people":  {{1, "Mark"}, {2, "ANNA"}, {3, "zoe"}},
		"badges":  {{1, "mark", "b"}, {2, "MARK", "a"}, {3, "anna", "d"}, {4, nil, "e"}, {5, "nobody", "f"}, {6, "mark", "c"}},
		"prices":  {{1, "1.0"}, {2, "2.50"}, {3, "NaN"}, {4, "100"}},
		"invoice": {{1, "1", 1, decimal128.FromI64(100)}, {2, "2.5", 2, decimal128.FromI64(250)}, {3, "NaN", nil, nil}, {4, "1e2", 100, decimal128.FromI64(10000)}, {5, "2.501", 7, decimal128.FromI64(101)}},
	}}
	f.catalog = &sources.Catalog{Tables: []sources.Table{
		{Name: "people", Schema: arrow.NewSchema([]arrow.Field{id, text("name", false, fold)}, nil), Key: []string{"id"}, Unique: [][]string{{"name"}}},
		{Name: "badges", Schema: arrow.NewSchema([]arrow.Field{id, text("owner", true, fold), text("label", false, arrow.Metadata{})}, nil), Key: []string{"id"}},
		{Name: "prices", Schema: arrow.NewSchema([]arrow.Field{id, text("price", false, number)}, nil), Key: []string{"id"}, Unique: [][]string{{"price"}}},
		{Name: "invoice", Schema: arrow.NewSchema([]arrow.Field{
			id, text("price", true, number), {Name: "whole", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "exact", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}, Nullable: true},
		}, nil), Key: []string{"id"}},
	}}
	for i := range f.catalog.Tables {
		table := &f.catalog.Tables[i]
		table.Capabilities, table.Rows = sources.CapProject|sources.CapSort, int64(len(f.rows[table.Name]))
		table.Filters = map[string]sources.Ops{}
		for _, field := range table.Schema.Fields() {
			source := !sources.MeaningOf(field).CanEqual()
			if source {
				table.Filters[field.Name] = sources.OpsOf(sources.OpEq, sources.OpNe, sources.OpIn, sources.OpLt, sources.OpGe)
			}
			table.Lookups = append(table.Lookups, sources.Lookup{Columns: []string{field.Name}, Ordinals: source})
		}
	}
	if err := sources.Relate(f.catalog, []sources.ForeignKey{
		{Table: "badges", Columns: []string{"owner"}, TargetTable: "people", TargetColumns: []string{"name"}},
		{Table: "invoice", Columns: []string{"price"}, TargetTable: "prices", TargetColumns: []string{"price"}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, column := range []string{"whole", "exact"} {
		invoice := f.catalog.Table("invoice")
		invoice.Relations = append(invoice.Relations, sources.Relation{Name: "by_" + column, Kind: sources.BelongsTo, Columns: []string{column}, TargetTable: "prices", TargetColumns: []string{"price"}})
	}
	f.Source = sources.Simple(f.catalog, f.scan)
	return f
}

// value returns a value in a form in which equal values are equal and smaller ones
// smaller.
func value(table *sources.Table, column string, row []any) sources.Value {
	field := table.Schema.Field(table.Column(column))
	switch v := row[table.Column(column)].(type) {
	case string:
		if !sources.MeaningOf(field).CanEqual() {
			v = strings.ToLower(v)
		} else if n, ok := sources.ParseNumber(v); ok && sources.FieldType(field) == sources.Number {
			return n
		}
		return sources.Text(v)
	case int:
		return sources.Int(int64(v))
	case decimal128.Num:
		return sources.Value{Type: field.Type, V: v}
	}
	return sources.Null(field.Type)
}

func folded(v sources.Value) sources.Value {
	if s, ok := v.V.(string); ok {
		v.V = strings.ToLower(s)
	}
	return v
}

func (f *folding) scan(_ context.Context, env sources.Env, q *sources.Query) sources.Batches {
	table := f.catalog.Table(q.Table)
	rows := slices.Clone(f.rows[q.Table])
	where := q.Where
	if where != nil {
		rows = slices.DeleteFunc(rows, func(row []any) bool {
			for _, p := range sources.Conjuncts(where) {
				switch c := p.(type) {
				case sources.Comparison:
					c.Value = folded(c.Value)
					p = c
				case sources.In:
					c.Values = slices.Clone(c.Values)
					for i, v := range c.Values {
						c.Values[i] = folded(v)
					}
					p = c
				}
				if sources.Eval(p, func(column string) sources.Value { return value(table, column, row) }) != sources.True {
					return true
				}
			}
			return false
		})
	}
	slices.SortStableFunc(rows, func(a, b []any) int {
		for _, s := range q.OrderBy {
			x, y := value(table, s.Column, a), value(table, s.Column, b)
			c := 0
			switch {
			case x.IsNull() || y.IsNull():
				c = cmp.Compare(boolInt(x.IsNull()), boolInt(y.IsNull()))
			case s.Desc:
				c = sources.Compare(y, x)
			default:
				c = sources.Compare(x, y)
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	type answer struct {
		row     []any
		ordinal int32
	}
	var answers []answer
	if q.Keys == nil {
		for _, row := range rows {
			answers = append(answers, answer{row: row})
		}
	} else {
		f.keyed.Add(1)
		keys := q.Keys.Values.Column(0)
		f.keys.Add(int64(keys.Len()))
		ordinals := table.Lookup(q.Keys.Columns).Ordinals
		given := map[any]bool{}
		for i := range keys.Len() {
			key := folded(sources.FieldValueAt(q.Keys.Values.Schema().Field(0), keys, i))
			found := 0
			for _, row := range rows {
				v := value(table, q.Keys.Columns[0], row)
				if v.IsNull() || key.IsNull() || sources.Compare(v, key) != 0 || !ordinals && given[row[0]] {
					continue
				}
				if found++; q.Keys.LimitPerKey > 0 && found > q.Keys.LimitPerKey {
					break
				}
				given[row[0]] = true
				answers = append(answers, answer{row, int32(i)})
			}
		}
	}
	schema := table.QuerySchema(q)
	return sources.FromRows(env, schema, func(yield func(sources.Row, error) bool) {
		for _, a := range answers {
			var values []any
			for _, field := range schema.Fields() {
				if field.Name == sources.OrdinalColumn {
					if f.lie != nil {
						a.ordinal = f.lie(a.ordinal)
					}
					values = append(values, a.ordinal)
					continue
				}
				values = append(values, a.row[table.Column(field.Name)])
			}
			if !yield(sources.Row{Values: values}, nil) {
				return
			}
		}
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// lines returns the rows of a query as text.
func lines(t *testing.T, source sources.Source, q core.Query, o core.Options, r core.Resources) (out []string, err error) {
	t.Helper()
	stream, err := core.Open(t.Context(), source, q, o, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return nil, err
		}
		for row := range int(chunk.Record.NumRows()) {
			line := ""
			for _, c := range chunk.Record.Columns() {
				line += fmt.Sprint(" ", coretest.NestedValue(c, row))
			}
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out, nil
}

// TestRelationsByTheSource: rows belong together if the source says so, in every
// direction, once per key, whatever the size of chunks and with any cache.
func TestRelationsByTheSource(t *testing.T) {
	source := newFolding(t)
	person, badges := source.catalog.Table("badges").Relations[0].Name, source.catalog.Table("people").Relations[0].Name
	for name, c := range map[string]struct {
		query core.Query
		want  []string
	}{
		"to one": {core.Query{Table: "badges", Columns: []string{"id"}, Load: query.Load{Required: []query.Branch{{Name: person, Columns: []string{"name"}}}}},
			[]string{`1 map[name:"Mark"]`, `2 map[name:"Mark"]`, `3 map[name:"ANNA"]`, `4 <nil>`, `5 <nil>`, `6 map[name:"Mark"]`}},
		"to many": {core.Query{Table: "people", Columns: []string{"id"}, Load: query.Load{Required: []query.Branch{{Name: badges, Columns: []string{"id"}}}}},
			[]string{`1 [map[id:1] map[id:2] map[id:6]]`, `2 [map[id:3]]`, `3 []`}},
		"a limit per key": {core.Query{Table: "people", Columns: []string{"id"}, Load: query.Load{Required: []query.Branch{{Name: badges, Columns: []string{"label"}, OrderBy: []sources.Sort{{Column: "label"}}, Limit: 2}}}},
			[]string{`1 [map[label:"a"] map[label:"b"]]`, `2 [map[label:"d"]]`, `3 []`}},
		"the source's order": {core.Query{Table: "people", Columns: []string{"id"}, Load: query.Load{Required: []query.Branch{{Name: badges, Columns: []string{"id"}, OrderBy: []sources.Sort{{Column: "owner", Desc: true}, {Column: "label", Desc: true}}}}}},
			[]string{`1 [map[id:6] map[id:1] map[id:2]]`, `2 [map[id:3]]`, `3 []`}},
		"exact numbers": {core.Query{Table: "invoice", Columns: []string{"id"}, Load: query.Load{Required: []query.Branch{{Name: "prices", Columns: []string{"id"}}, {Name: "by_whole", Columns: []string{"id"}}, {Name: "by_exact", Columns: []string{"id"}}}}},
			[]string{`1 map[id:1] map[id:1] map[id:1]`, `2 map[id:2] <nil> map[id:2]`, `3 map[id:3] <nil> <nil>`, `4 map[id:4] map[id:4] map[id:4]`, `5 <nil> <nil> <nil>`}},
	} {
		for _, o := range []core.Options{{}, {ChunkRows: 1}, {NoPushdown: true}} {
			shared := core.Resources{}
			for _, cached := range []bool{false, true} {
				if cached {
					shared = coretest.WithCache(coretest.NewCache(t, cache.Options{}), nil)
				}
				for range 2 { // the second time from the cache
					got, err := lines(t, source, c.query, o, shared)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if diff := gocmp.Diff(c.want, got); diff != "" {
						t.Errorf("%s, %d rows a chunk, cache %t (-want +got):\n%s", name, o.ChunkRows, cached, diff)
					}
				}
			}
		}
	}
}

// TestOrdinalsAreChecked: a source that gives ordinals which it was not asked for ends
// the stream.
func TestOrdinalsAreChecked(t *testing.T) {
	source := newFolding(t)
	badges := source.catalog.Table("people").Relations[0].Name
	for name, lie := range map[string]func(int32) int32{
		"too large": func(n int32) int32 { return n + 100 },
		"negative":  func(n int32) int32 { return n - 100 },
		"unordered": func(n int32) int32 { return 2 - n },
	} {
		source.lie = lie
		_, err := lines(t, source, core.Query{Table: "people", Load: query.Load{Required: []query.Branch{{Name: badges}}}}, core.Options{}, core.Resources{})
		if sources.KindOf(err) != sources.Internal || !strings.Contains(fmt.Sprint(err), "scan badges: internal: the source returned a row for key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOnlyTheSourceCompares: conditions and orders go to the source or are refused
// before anything is read, also without push-down.
func TestOnlyTheSourceCompares(t *testing.T) {
	source := newFolding(t)
	equal := sources.Comparison{Column: "owner", Op: sources.OpEq, Value: sources.Text("mARK")}
	order := []sources.Sort{{Column: "owner"}, {Column: "id", Desc: true}}
	for name, c := range map[string]struct {
		where sources.Predicate
		order []sources.Sort
		want  []string
	}{
		"equal":               {equal, nil, []string{"1", "2", "6"}},
		"in":                  {sources.In{Column: "owner", Values: []sources.Value{sources.Text("ANNA"), sources.Text("x")}}, nil, []string{"3"}},
		"ordered":             {nil, order, []string{"3", "6", "2", "1", "5", "4"}},
		"with another term":   {sources.And{equal, sources.Comparison{Column: "label", Op: sources.OpGt, Value: sources.Text("a")}}, order, []string{"6", "1"}},
		"null":                {sources.IsNull{Column: "owner"}, nil, []string{"4"}},
		"a term in the order": {sources.Comparison{Column: "owner", Op: sources.OpLt, Value: sources.Text("B")}, nil, []string{"3"}},
	} {
		for _, noPushdown := range []bool{false, true} {
			got, err := lines(t, source, core.Query{Table: "badges", Columns: []string{"id"}, Where: c.where, OrderBy: c.order}, core.Options{NoPushdown: noPushdown}, core.Resources{})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := gocmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s, without push-down %t (-want +got):\n%s", name, noPushdown, diff)
			}
		}
	}
	people := core.Query{Table: "badges", Columns: []string{"id"}}
	refused := map[string]core.Query{}
	either := people
	either.Where = sources.Or{equal, sources.IsNull{Column: "label"}}
	refused[`column "owner" (utf8), and it does not accept the condition (owner = "mARK" or label is null): make the part about this column a condition of its own`] = either
	other := people
	other.Where = sources.Comparison{Column: "owner", Op: sources.OpLe, Value: sources.Text("x")}
	refused[`column "owner" (utf8), and it does not accept the condition owner <= "x": leave the condition out`] = other
	for text, q := range refused {
		_, err := lines(t, source, q, core.Options{}, core.Resources{})
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("%v, want %s", err, text)
		}
	}
	for i := range source.catalog.Tables {
		source.catalog.Tables[i].Capabilities = sources.CapProject
	}
	sorted := people
	sorted.OrderBy = order
	if _, err := lines(t, source, sorted, core.Options{}, core.Resources{}); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `order: only the source knows the order of column "owner" (utf8), and it does not sort here`) {
		t.Error(err)
	}
	for i := range source.catalog.Tables {
		source.catalog.Tables[i].Lookups = nil
	}
	badges := source.catalog.Table("people").Relations[0].Name
	_, err := lines(t, source, core.Query{Table: "people", Load: query.Load{Required: []query.Branch{{Name: badges}}}}, core.Options{}, core.Resources{})
	if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `only the source can compare values of people."name" (utf8)`) {
		t.Error(err)
	}
}

// TestExactNumbers: the engine compares text that holds numbers as numbers, and a text
// that is none is an error that names the column.
func TestExactNumbers(t *testing.T) {
	source := newFolding(t)
	number, _ := sources.ParseNumber("2.500")
	for name, c := range map[string]struct {
		q    core.Query
		want []string
	}{
		"ordered": {core.Query{OrderBy: []sources.Sort{{Column: "price", Desc: true}}, Limit: 3}, []string{"3", "4", "2"}},
		"greater": {core.Query{Where: sources.Comparison{Column: "price", Op: sources.OpGt, Value: sources.Int(2)}}, []string{"2", "3", "4"}},
		"equal":   {core.Query{Where: sources.Comparison{Column: "price", Op: sources.OpEq, Value: number}}, []string{"2"}},
		"in":      {core.Query{Where: sources.In{Column: "price", Values: []sources.Value{sources.Float(2.5), sources.Int(1), number}}}, []string{"1", "2"}},
	} {
		c.q.Table, c.q.Columns = "prices", []string{"id"}
		got, err := lines(t, source, c.q, core.Options{NoPushdown: true}, core.Resources{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := gocmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	source.rows["prices"][1][1] = "two"
	source.rows["invoice"][1][1] = "two"
	for name, q := range map[string]core.Query{
		"order": {Table: "prices", OrderBy: []sources.Sort{{Column: "price"}}},
		"where": {Table: "prices", Where: sources.Comparison{Column: "price", Op: sources.OpEq, Value: number}},
		"key":   {Table: "invoice", Load: query.Load{Required: []query.Branch{{Name: "prices"}}}},
	} {
		_, err := lines(t, source, q, core.Options{NoPushdown: true}, core.Resources{})
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(fmt.Sprint(err), `column "price": "two" is not a number`) || strings.Contains(fmt.Sprint(err), "panic") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
