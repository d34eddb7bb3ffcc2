package core

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/sources"
)

// plan is a query compiled against a catalog: what a stream of it and an
// explanation both need before anything is read.
type plan struct {
	query    Query
	options  Options
	table    *sources.Table
	pushed   *sources.Query // what the table is asked for
	rest     query.Residual // what is left to the engine
	tree     *relation.Tree // the relations
	scanned  *arrow.Schema  // of the rows without relations
	from     resumePoint    // where the stream resumes; zero at the beginning
	limit    int64          // of memory, in bytes
	parallel parallelScan   // the partitions that are read at once, and the size of pages
}

// compile checks a query against a catalog and divides the work between the table
// and the engine. Its error is of kind [sources.NotFound] or [sources.Invalid].
func compile(catalog *sources.Catalog, q Query, o Options, limit int64) (*plan, error) {
	table := catalog.Table(q.Table)
	if table == nil {
		_, _, _, err := query.Split(catalog, sources.Query{Table: q.Table})
		return nil, err
	}
	tree, err := relation.Resolve(catalog, table, q.Columns, q.Load, o.Strategy, o.MaxDepth)
	if err != nil {
		return nil, err
	}
	if q.Columns != nil {
		q.Columns = tree.Scanned // with those that relations need
	}
	_, pushed, rest, err := query.Split(catalog, sources.Query{Table: q.Table, Columns: q.Columns, Where: q.Where, OrderBy: q.OrderBy, Limit: q.Limit})
	if err != nil {
		return nil, err
	}
	p := &plan{query: q, options: o, table: table, pushed: pushed, rest: rest, tree: tree, scanned: table.ScanSchema(rest.Columns), limit: limit}
	if err := p.resume(); err != nil {
		return nil, err
	}
	// A growing builder holds two buffers, and pages whose size does not follow that
	// of the chunks can be cached and resumed.
	page := sources.Limits{Bytes: max(min(sources.DefaultLimits.Bytes, limit/32), 1), Rows: sources.DefaultLimits.Rows}
	p.parallel = planParallel(o, table, pushed, p.related(), page, limit)
	return p, nil
}

// resume makes the plan start behind the query's token.
func (p *plan) resume() error {
	if !p.options.Tokens {
		return nil
	}
	from, err := resumeFrom(p.table, p.query)
	if err != nil {
		return sources.WithOp("query", p.table.Name, err)
	}
	p.from, p.pushed.After = from, from.cursor
	if p.query.Limit > 0 { // the rows since the cursor are read once more
		if p.rest.Limit > 0 {
			p.rest.Limit += from.since
		} else {
			p.pushed.Limit += from.since
		}
	}
	return nil
}

// related reports whether the query loads relations.
func (p *plan) related() bool { return len(p.tree.Nodes) > 0 }

// expected returns how many rows the catalog expects the source to give, or -1.
func (p *plan) expected() int64 {
	if p.pushed.Where == nil && p.query.After == "" {
		return p.table.Rows
	}
	return -1
}
