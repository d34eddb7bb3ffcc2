package query

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

func shopCatalog(can sources.Capability, filters map[string]sources.Ops) *sources.Catalog {
	return &sources.Catalog{Tables: []sources.Table{{
		Name: "orders", Capabilities: can, Filters: filters, Rows: -1,
		Schema: arrow.NewSchema([]arrow.Field{
			{Name: "id", Type: arrow.PrimitiveTypes.Int64},
			{Name: "customer_id", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
			{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
		}, nil),
	}}}
}

func int32s(n int64) sources.Value { return sources.Value{Type: arrow.PrimitiveTypes.Int32, V: n} }

// TestSplit checks, for tables with different abilities, what is pushed down and
// what is left to the engine.
func TestSplit(t *testing.T) {
	idOver5 := sources.Comparison{Column: "id", Op: sources.OpGt, Value: sources.Int(5)}
	noNote := sources.IsNull{Column: "note"}
	query := sources.Query{
		Table: "orders", Columns: []string{"note"}, Limit: 3,
		Where:   sources.And{sources.Comparison{Column: "id", Op: sources.OpGt, Value: int32s(5)}, noNote},
		OrderBy: []sources.Sort{{Column: "customer_id"}},
	}
	all := map[string]sources.Ops{"id": sources.OpsOf(sources.OpGt), "note": sources.OpsOf(sources.OpIsNull)}
	for _, c := range []struct {
		name     string
		can      sources.Capability
		filters  map[string]sources.Ops
		pushed   sources.Query
		residual Residual
	}{
		{
			name:     "a table without abilities gets a plain scan",
			pushed:   sources.Query{Table: "orders"},
			residual: Residual{Columns: query.Columns, Where: sources.And{idOver5, noNote}, OrderBy: query.OrderBy, Limit: 3},
		},
		{
			name: "a table with every ability leaves a residual of columns only",
			can:  sources.CapProject | sources.CapSort | sources.CapLimit, filters: all,
			pushed:   sources.Query{Table: "orders", Columns: query.Columns, Where: sources.And{idOver5, noNote}, OrderBy: query.OrderBy, Limit: 3},
			residual: Residual{Columns: query.Columns},
		},
		{
			name: "a scan includes the columns that the engine filters and sorts by",
			can:  sources.CapProject, filters: map[string]sources.Ops{"note": all["note"]},
			pushed:   sources.Query{Table: "orders", Columns: []string{"note", "id", "customer_id"}, Where: noNote},
			residual: Residual{Columns: query.Columns, Where: idOver5, OrderBy: query.OrderBy, Limit: 3},
		},
		{
			name: "the limit follows the filter",
			can:  sources.CapSort | sources.CapLimit, filters: map[string]sources.Ops{"note": all["note"]},
			pushed:   sources.Query{Table: "orders", Where: noNote, OrderBy: query.OrderBy},
			residual: Residual{Columns: query.Columns, Where: idOver5, Limit: 3},
		},
		{
			name: "the limit follows the sort",
			can:  sources.CapLimit, filters: all,
			pushed:   sources.Query{Table: "orders", Where: sources.And{idOver5, noNote}},
			residual: Residual{Columns: query.Columns, OrderBy: query.OrderBy, Limit: 3},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, pushed, residual, err := Split(shopCatalog(c.can, c.filters), query, true)
			if err != nil {
				t.Fatal(err)
			}
			types := cmp.Comparer(func(a, b arrow.DataType) bool { return arrow.TypeEqual(a, b) })
			if diff := cmp.Diff(c.pushed, *pushed, types); diff != "" {
				t.Errorf("pushed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.residual, residual, types, cmp.AllowUnexported(Residual{})); diff != "" {
				t.Errorf("residual (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllColumnsAreNotNamed(t *testing.T) {
	_, pushed, residual, err := Split(shopCatalog(sources.CapProject, nil), sources.Query{Table: "orders"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if pushed.Columns != nil {
		t.Errorf("pushed columns are %q, want nil", pushed.Columns)
	}
	if diff := cmp.Diff([]string{"id", "customer_id", "note"}, residual.Columns); diff != "" {
		t.Errorf("the result's columns (-want +got):\n%s", diff)
	}
}

// TestInexactLiterals checks that a comparison of an integer column with 2.5 is
// valid but not pushed down.
func TestInexactLiterals(t *testing.T) {
	half := sources.Comparison{Column: "id", Op: sources.OpGt, Value: sources.Float(2.5)}
	far := sources.Comparison{Column: "customer_id", Op: sources.OpLt, Value: sources.Int(1 << 40)}
	ops := map[string]sources.Ops{"id": ^sources.Ops(0), "customer_id": ^sources.Ops(0)}
	for _, p := range []sources.Predicate{half, far} {
		_, pushed, residual, err := Split(shopCatalog(sources.CapLogic, ops), sources.Query{Table: "orders", Where: p}, true)
		if err != nil {
			t.Fatal(err)
		}
		if pushed.Where != nil || residual.Where == nil {
			t.Errorf("%s: pushed %v, residual %v", p, pushed.Where, residual.Where)
		}
	}
}

func TestQueryFaults(t *testing.T) {
	catalog := shopCatalog(0, nil)
	for _, c := range []struct {
		query sources.Query
		kind  sources.Kind
		parts []string
	}{
		{sources.Query{Table: "order"}, sources.NotFound, []string{"query order: not found", `the nearest is "orders"`}},
		{sources.Query{Table: "orders", Columns: []string{"idd", "note"}}, sources.NotFound, []string{"query orders: not found", `no column "idd"`, `the nearest is "id"`}},
		{sources.Query{Table: "orders", Columns: []string{"id", "id"}}, sources.Invalid, []string{`"id" is there twice`}},
		{sources.Query{Table: "orders", OrderBy: []sources.Sort{{Column: "nots"}}}, sources.NotFound, []string{`no column "nots"`, `"note"`}},
		{sources.Query{Table: "orders", Limit: -1}, sources.Invalid, []string{"limit: -1 is negative"}},
		{sources.Query{Table: "orders", Where: sources.IsNull{Column: "customer"}}, sources.NotFound, []string{`no column "customer"`, `"customer_id"`}},
		{sources.Query{Table: "orders", Where: sources.Comparison{Column: "note", Value: sources.Int(1)}}, sources.Invalid, []string{"has type int64", "utf8"}},
		{sources.Query{Table: "orders", Where: sources.Like{Column: "id", Pattern: "1%"}}, sources.Invalid, []string{"wants text"}},
		{
			sources.Query{Table: "orders", Columns: []string{"x"}, OrderBy: []sources.Sort{{Column: "y"}}}, sources.NotFound,
			[]string{`no column "x"`, `no column "y"`},
		},
	} {
		_, _, _, err := Split(catalog, c.query, true)
		if sources.KindOf(err) != c.kind || err == nil {
			t.Errorf("%+v: %v, want kind %s", c.query, err, c.kind)
			continue
		}
		for _, part := range c.parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%+v: %q does not contain %q", c.query, err, part)
			}
		}
	}
}
