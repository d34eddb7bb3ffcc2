package query

import (
	"slices"

	"github.com/penstock-data/penstock/sources"
)

// Split divides a query over a table into what the table is asked for and the
// residue, what the engine does itself. Its error is of kind [sources.NotFound]
// or [sources.Invalid] and names everything that is wrong.
func Split(catalog *sources.Catalog, q sources.Query) (*sources.Table, *sources.Query, Residual, error) {
	where, err := check(catalog, q)
	if err != nil {
		return nil, nil, Residual{}, sources.WithOp("query", q.Table, err)
	}
	table := catalog.Table(q.Table)
	asked := &sources.Query{Table: q.Table}
	rest := Residual{Columns: q.Columns}
	var taken, kept []sources.Predicate
	for _, p := range sources.Conjuncts(where) {
		if literalsFit(table, p) && table.Accepts(p) {
			taken = append(taken, p)
		} else {
			kept = append(kept, p)
		}
	}
	asked.Where, rest.Where = Conjunction(taken), Conjunction(kept)
	if table.Capabilities.Has(sources.CapSort) {
		asked.OrderBy = slices.Clone(q.OrderBy)
	} else {
		rest.OrderBy = slices.Clone(q.OrderBy)
	}
	if table.Capabilities.Has(sources.CapLimit) && rest.Where == nil && len(rest.OrderBy) == 0 {
		asked.Limit = q.Limit
	} else {
		rest.Limit = q.Limit
	}
	if rest.Columns == nil {
		rest.Columns = make([]string, table.Schema.NumFields())
		for i := range rest.Columns {
			rest.Columns[i] = table.Schema.Field(i).Name
		}
	} else {
		rest.Columns = slices.Clone(rest.Columns)
		if table.Capabilities.Has(sources.CapProject) {
			asked.Columns = columnsFor(rest)
		}
	}
	return table, asked, rest, nil
}

// columnsFor are the columns that a scan must give for a residue: the result's,
// and behind them what only the residue's conditions and order look at.
func columnsFor(r Residual) []string {
	columns := slices.Clone(r.Columns)
	need := func(column string) {
		if !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
	}
	sources.Leaves(r.Where, func(p sources.Predicate) {
		column, _, _ := sources.Leaf(p)
		need(column)
	})
	for _, s := range r.OrderBy {
		need(s.Column)
	}
	return columns
}

// Conjunction is the And of predicates; nil where there are none.
func Conjunction(ps []sources.Predicate) sources.Predicate {
	switch len(ps) {
	case 0:
		return nil
	case 1:
		return ps[0]
	}
	return sources.And(ps)
}

// check holds a query against the catalogue, and returns its condition with
// every literal in its column's type where the type can hold it. The condition
// 1.5 < n over integers stays as it is: no source is asked for it, and it has
// an answer all the same.
func check(catalog *sources.Catalog, q sources.Query) (sources.Predicate, error) {
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
	// A table of the same columns that can do everything takes every query that
	// makes sense, so the contract's own check finds what does not.
	able := *table
	able.Capabilities = sources.CapProject | sources.CapSort | sources.CapLimit | sources.CapLogic
	able.Filters = map[string]sources.Ops{}
	for _, f := range table.Schema.Fields() {
		able.Filters[f.Name] = ^sources.Ops(0)
	}
	sensible := rewrite(where, func(p sources.Predicate) sources.Predicate {
		if column, _, _ := sources.Leaf(p); !literalsFit(table, p) && literalsCompare(table, p) {
			return sources.IsNull{Column: column}
		}
		return p
	})
	_, err := (&sources.Catalog{Tables: []sources.Table{able}}).Check(
		&sources.Query{Table: q.Table, Columns: q.Columns, Where: sensible, OrderBy: q.OrderBy, Limit: q.Limit})
	return where, err
}

// rewrite returns p with every predicate on one column replaced.
func rewrite(p sources.Predicate, leaf func(sources.Predicate) sources.Predicate) sources.Predicate {
	all := func(ps []sources.Predicate) []sources.Predicate {
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
		return sources.And(all(p))
	case sources.Or:
		return sources.Or(all(p))
	case sources.Not:
		return sources.Not{Predicate: rewrite(p.Predicate, leaf)}
	}
	return leaf(p)
}

// convert returns a literal in its column's type; the literal itself and false
// where the type cannot hold it or the column does not exist.
func convert(table *sources.Table, column string, v sources.Value) (sources.Value, bool) {
	i := table.Column(column)
	if i < 0 {
		return v, false
	}
	if converted, ok := sources.Convert(v, table.Schema.Field(i).Type); ok {
		return converted, true
	}
	return v, false
}

// literalsFit reports whether every literal in p fits its column's type.
func literalsFit(table *sources.Table, p sources.Predicate) bool {
	return literals(p, func(column string, v sources.Value) bool {
		_, ok := convert(table, column, v)
		return ok
	})
}

// literalsCompare reports whether every literal in p compares with its column.
func literalsCompare(table *sources.Table, p sources.Predicate) bool {
	return literals(p, func(column string, v sources.Value) bool {
		i := table.Column(column)
		return i >= 0 && (v.IsNull() || sources.Comparable(v.Type, table.Schema.Field(i).Type))
	})
}

// literals reports whether ok holds for every literal in p.
func literals(p sources.Predicate, ok func(column string, v sources.Value) bool) bool {
	all := true
	sources.Leaves(p, func(p sources.Predicate) {
		switch p := p.(type) {
		case sources.Comparison:
			all = all && ok(p.Column, p.Value)
		case sources.In:
			for _, v := range p.Values {
				all = all && ok(p.Column, v)
			}
		}
	})
	return all
}
