package query

import (
	"errors"
	"slices"

	"github.com/penstock-data/penstock/sources"
)

// Split checks a query against a catalog and divides it. It returns the query's
// table, the query that is pushed down to the table, and the residual that the
// engine applies. If pushdown is false, the engine applies all that it can: the table
// only does what depends on a comparison that only the source knows, see
// [sources.BySource], and selects columns.
//
// The error reports every mistake in q and is of kind [sources.NotFound],
// [sources.Denied] or [sources.Invalid]. A condition or an order that only the source can evaluate, and
// that the table does not accept, is a mistake too.
func Split(catalog *sources.Catalog, q sources.Query, pushdown bool) (*sources.Table, *sources.Query, Residual, error) {
	where, err := checkQuery(catalog, q)
	if err != nil {
		return nil, nil, Residual{}, sources.WithOp("query", q.Table, err)
	}
	table := catalog.Table(q.Table)
	pushed := &sources.Query{Table: q.Table}
	residual := Residual{Columns: q.Columns}
	var pushedTerms, keptTerms []sources.Predicate
	var refused []error
	for _, p := range sources.Conjuncts(where) {
		undecidable := onlySource(table, p)
		if (pushdown || undecidable != "") && literalsFit(table, p) && table.Accepts(p) {
			pushedTerms = append(pushedTerms, p)
			continue
		}
		if undecidable != "" {
			refused = append(refused, refuseCondition(table, undecidable, p))
		}
		keptTerms = append(keptTerms, p)
	}
	pushed.Where, residual.Where = Conjunction(pushedTerms), Conjunction(keptTerms)
	undecidable := OrderNeedsSource(table, q.OrderBy)
	if table.Capabilities.Has(sources.CapSort) && (pushdown || undecidable != "") {
		pushed.OrderBy = slices.Clone(q.OrderBy)
	} else {
		residual.OrderBy = slices.Clone(q.OrderBy)
		if undecidable != "" {
			refused = append(refused, RefuseOrder(table, undecidable))
		}
	}
	if len(refused) > 0 {
		return nil, nil, Residual{}, sources.NewError(sources.Invalid, "query", q.Table, errors.Join(refused...))
	}
	if pushdown && table.Capabilities.Has(sources.CapLimit) && residual.Where == nil && len(residual.OrderBy) == 0 {
		pushed.Limit = q.Limit
	} else {
		residual.Limit = q.Limit
	}
	if residual.Columns == nil {
		residual.Columns = make([]string, table.Schema.NumFields())
		for i := range residual.Columns {
			residual.Columns[i] = table.Schema.Field(i).Name
		}
	} else {
		residual.Columns = slices.Clone(residual.Columns)
		if table.Capabilities.Has(sources.CapProject) {
			pushed.Columns = columnsFor(residual)
		}
	}
	return table, pushed, residual, nil
}

// columnsFor returns the columns that a scan must return for a residual: those of
// the result, followed by those that only its predicate and its order use.
func columnsFor(r Residual) []string {
	if r.Where == nil && len(r.OrderBy) == 0 {
		return slices.Clone(r.Columns)
	}
	columns := slices.Clone(r.Columns)
	has := make(map[string]bool, len(columns))
	for _, column := range columns {
		has[column] = true
	}
	add := func(column string) {
		if !has[column] {
			columns, has[column] = append(columns, column), true
		}
	}
	sources.Leaves(r.Where, func(p sources.Predicate) {
		column, _, _ := sources.Leaf(p)
		add(column)
	})
	for _, s := range r.OrderBy {
		add(s.Column)
	}
	return columns
}

// Conjunction returns the conjunction of predicates. It returns nil if there are
// none.
func Conjunction(terms []sources.Predicate) sources.Predicate {
	switch len(terms) {
	case 0:
		return nil
	case 1:
		return terms[0]
	}
	return sources.And(terms)
}

// checkQuery checks a query against the catalog. It returns the query's predicate
// with each literal converted to its column's type, if that type can represent it.
// A comparison such as 1.5 < n on an integer column keeps its literal. It is valid
// but cannot be pushed down.
func checkQuery(catalog *sources.Catalog, q sources.Query) (sources.Predicate, error) {
	table := catalog.Table(q.Table)
	if table == nil {
		_, err := catalog.Check(&sources.Query{Table: q.Table})
		return nil, err
	}
	where := rewrite(q.Where, func(p sources.Predicate) sources.Predicate {
		switch p := p.(type) {
		case sources.Comparison:
			p.Value, _ = convert(table, p.Column, p.Value)
			return p
		case sources.In:
			p.Values = slices.Clone(p.Values)
			for i, v := range p.Values {
				p.Values[i], _ = convert(table, p.Column, v)
			}
			return p
		}
		return p
	})
	// Check the query as a table with the same columns and every ability would: such
	// a table takes every query that is valid.
	permissive := *table
	permissive.Capabilities = sources.CapProject | sources.CapSort | sources.CapLimit | sources.CapLogic
	permissive.Filters = map[string]sources.Ops{}
	for _, f := range table.Schema.Fields() {
		permissive.Filters[f.Name] = ^sources.Ops(0)
	}
	checkable := rewrite(where, func(p sources.Predicate) sources.Predicate {
		if column, _, _ := sources.Leaf(p); !literalsFit(table, p) && literalsCompare(table, p) {
			return sources.IsNull{Column: column}
		}
		return p
	})
	_, err := (&sources.Catalog{Tables: []sources.Table{permissive}}).Check(
		&sources.Query{Table: q.Table, Columns: q.Columns, Where: checkable, OrderBy: q.OrderBy, Limit: q.Limit})
	if err == nil {
		err = checkLabels(table, where)
	}
	return where, err
}

// rewrite returns p with each predicate on a single column replaced by the result
// of leaf.
func rewrite(p sources.Predicate, leaf func(sources.Predicate) sources.Predicate) sources.Predicate {
	rewriteAll := func(ps []sources.Predicate) []sources.Predicate {
		out := make([]sources.Predicate, len(ps))
		for i, p := range ps {
			out[i] = rewrite(p, leaf)
		}
		return out
	}
	switch p := p.(type) {
	case nil:
		return sources.And{}
	case sources.And:
		return sources.And(rewriteAll(p))
	case sources.Or:
		return sources.Or(rewriteAll(p))
	case sources.Not:
		return sources.Not{Predicate: rewrite(p.Predicate, leaf)}
	}
	return leaf(p)
}

// convert converts a literal to its column's type. It returns v and false if the
// type cannot represent v, or if there is no such column.
func convert(table *sources.Table, column string, v sources.Value) (sources.Value, bool) {
	i := table.Column(column)
	if i < 0 {
		return v, false
	}
	if converted, ok := sources.Convert(v, sources.FieldType(table.Schema.Field(i))); ok {
		return converted, true
	}
	return v, false
}

// literalsFit reports whether each literal in p can be represented in its column's
// type.
func literalsFit(table *sources.Table, p sources.Predicate) bool {
	return everyLiteral(p, func(column string, v sources.Value) bool {
		_, ok := convert(table, column, v)
		return ok
	})
}

// literalsCompare reports whether each literal in p can be compared with its
// column.
func literalsCompare(table *sources.Table, p sources.Predicate) bool {
	return everyLiteral(p, func(column string, v sources.Value) bool {
		i := table.Column(column)
		return i >= 0 && (v.IsNull() || sources.Comparable(v.Type, sources.FieldType(table.Schema.Field(i))))
	})
}

// everyLiteral reports whether holds returns true for each literal in p.
func everyLiteral(p sources.Predicate, holds func(column string, v sources.Value) bool) bool {
	all := true
	sources.Leaves(p, func(p sources.Predicate) {
		switch p := p.(type) {
		case sources.Comparison:
			all = all && holds(p.Column, p.Value)
		case sources.In:
			for _, v := range p.Values {
				all = all && holds(p.Column, v)
			}
		}
	})
	return all
}
