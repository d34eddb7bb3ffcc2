package core

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/sources"
)

// plan is a query compiled against a catalog. Open and Explain both start from it.
type plan struct {
	query    Query
	options  Options
	table    *sources.Table
	identity string         // of the catalog
	pushed   *sources.Query // the part that the table does
	residual query.Residual // the part that the engine does
	tree     *relation.Tree // the relations to load
	scanned  *arrow.Schema  // the columns of the rows, without relations
	start    resumePoint    // where the stream resumes; zero is the first row
	// resumption is what resuming the stream itself takes, once prepareTokens has run.
	resumption Resumption
	changed    bool         // the data may have changed since the token was made
	limit      int64        // memory limit, in bytes
	parallel   parallelScan // partitions to read at once, and the page size
}

// compile checks a query against a catalog and divides the work between the table
// and the engine. Its error is of kind [sources.NotFound] or [sources.Invalid].
func compile(catalog *sources.Catalog, q Query, o Options, limit int64) (*plan, error) {
	table := catalog.Table(q.Table)
	if table == nil {
		_, _, _, err := query.Split(catalog, sources.Query{Table: q.Table}, true)
		return nil, err
	}
	tree, err := relation.Resolve(catalog, table, q.Columns, q.Load, o.Strategy, o.MaxDepth, !o.NoPushdown)
	if err != nil {
		return nil, err
	}
	if q.Columns != nil {
		q.Columns = tree.Scanned // including those that relations need
	}
	if o.Tokens && !o.NoPushdown && len(q.OrderBy) == 0 && o.Parallel < 2 && !madeInParts(q.After) {
		q.OrderBy = lastingOrder(table)
	}
	_, pushed, residual, err := query.Split(catalog, sources.Query{Table: q.Table, Columns: q.Columns, Where: q.Where, OrderBy: q.OrderBy, Limit: q.Limit}, !o.NoPushdown)
	if err != nil {
		return nil, err
	}
	p := &plan{query: q, options: o, table: table, identity: catalog.Identity, pushed: pushed, residual: residual, tree: tree, scanned: table.ScanSchema(residual.Columns), limit: limit}
	if err := p.resume(); err != nil {
		return nil, err
	}
	page := pageLimits(table.QuerySchema(pushed).NumFields(), limit)
	p.parallel = planParallel(o, table, pushed, p.start.inParts(), p.related(), page, limit)
	return p, nil
}

// columnPageBytes is how much of a page each column should have. Every hop does some
// work for each column of a page, which is small only beside the work for many rows.
const columnPageBytes = 1 << 10

// pageLimits returns the limits of the pages of a scan with that many columns. The
// stream's memory limit has room for several pages, each twice, since a growing
// builder has two buffers. Pages do not depend on the size of chunks: that way they
// can be cached and resumed.
func pageLimits(columns int, limit int64) sources.Limits {
	bytes := max(sources.DefaultLimits.Bytes, int64(columns)*columnPageBytes)
	return sources.Limits{Bytes: max(min(bytes, limit/32), 1), Rows: sources.DefaultLimits.Rows}
}

// resume makes the plan start after the chunk that the query's token marks.
func (p *plan) resume() error {
	if !p.options.Tokens {
		return nil
	}
	start, err := resumeFrom(p.table, p.query, p.options.NoPushdown)
	if err != nil {
		return sources.WithOp("query", p.table.Name, err)
	}
	p.start = start
	if start.inParts() { // the source limits one scan
		p.residual.Limit, p.pushed.Limit = max(p.residual.Limit, p.pushed.Limit), 0
	} else {
		p.pushed.After = start.cursor
	}
	if p.query.Limit > 0 { // rows between the cursor and the token are read again
		if p.residual.Limit > 0 {
			p.residual.Limit += start.rowsAfter
		} else {
			p.pushed.Limit += start.rowsAfter
		}
	}
	return nil
}

// related reports whether the query loads relations.
func (p *plan) related() bool { return p.tree.HasRelations() }

// expected returns the catalog's estimate of the rows to read, or -1 if unknown.
func (p *plan) expected() int64 {
	if p.pushed.Where == nil && p.query.After == "" {
		return p.table.Rows
	}
	return -1
}
