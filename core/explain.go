package core

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// Explanation describes how a stream would execute a query. Its JSON names are
// stable. Estimates are nil if unknown.
type Explanation struct {
	Table     string `json:"table"`
	Strategy  string `json:"strategy"`
	MaxDepth  int    `json:"max_depth"`
	ChunkRows int64  `json:"chunk_rows"` // rows of a chunk, assumed by the figures of Relations
	// Sessions is how many sessions the stream begins: 2 if a table that it reads does
	// not allow a look-up during the scan of the same session, otherwise 1.
	Sessions int `json:"sessions"`
	// Parallel is how many of the table's Partitions are read at once. Both are 0 if
	// the table is read in one scan.
	Parallel   int `json:"parallel,omitempty"`
	Partitions int `json:"partitions,omitempty"`
	// OneScan is why the table is read in one scan although [Options.Parallel] asks for
	// more.
	OneScan   string          `json:"one_scan,omitempty"`
	Source    query.Work      `json:"source"`           // the part of the query that the table does
	Engine    query.Work      `json:"engine"`           // the part that the engine does
	Rows      *int64          `json:"rows"`             // estimated rows of the whole scan
	Bytes     *int64          `json:"bytes"`            // estimated bytes of the whole scan
	Detail    string          `json:"detail,omitempty"` // the source's own description of the scan
	Relations []relation.Plan `json:"relations"`
}

// Explain returns how a stream of a query would execute, without reading any rows. It
// begins a session of the source and closes it, with the options' Retry and Timeouts. Its
// errors are those of [Open]. A source may have a method LateCalls that returns its
// [Resources.LateCalls].
func Explain(ctx context.Context, source sources.Source, q Query, o Options) (e *Explanation, err error) {
	o, err = o.checked(q, Resources{})
	if err != nil {
		return nil, err
	}
	var late *retry.LateCalls
	if s, ok := source.(interface{ LateCalls() *retry.LateCalls }); ok {
		late = s.LateCalls()
	}
	retrying := retry.NewSource(source, o.Retry, o.Timeouts, nil, late, nil)
	catalog, err := retrying.Catalog(sources.ForTables(ctx, q.Table))
	if err != nil {
		return nil, err
	}
	p, err := compile(catalog, q, o, Resources{}.limit(o))
	if err != nil {
		return nil, err
	}
	session, err := sources.GuardCall("begin", q.Table, func() (sources.Session, error) {
		return retrying.Begin(ctx, sources.Env{Mem: memory.DefaultAllocator})
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		_, closing := sources.GuardCall("close", q.Table, func() (struct{}, error) { return struct{}{}, session.Close() })
		err = errors.Join(err, closing)
	}()
	return p.explain(ctx, session)
}

// explain returns the explanation of p, with the session's plans of the scan and of
// the look-ups.
func (p *plan) explain(ctx context.Context, session sources.Session) (*Explanation, error) {
	scan, err := sources.GuardCall("plan", p.table.Name, func() (*sources.Plan, error) { return session.Plan(ctx, p.pushed) })
	if err != nil {
		return nil, err
	}
	e := &Explanation{
		Table: p.table.Name, Strategy: p.tree.Strategy.String(), MaxDepth: p.tree.MaxDepth, ChunkRows: p.options.ChunkRows, Sessions: 1,
		Source: query.WorkOf(p.table, p.pushed), Engine: p.residual.Work(p.table, p.pushed.Columns != nil, p.tree.Shown), Detail: scan.Detail,
	}
	if e.ChunkRows == 0 {
		e.ChunkRows = budget.DefaultChunkRows
	}
	if p.tree.NeedsSecondSession() {
		e.Sessions = 2
	}
	if p.parallel.workers > 1 && len(scan.Parts) > 1 {
		e.Partitions, e.Parallel = len(scan.Parts), min(p.parallel.workers, len(scan.Parts))
	} else if p.options.Parallel > 1 {
		e.OneScan = oneScan(p.options, p.table, p.pushed, p.related())
		if e.OneScan == "" {
			e.OneScan = "the source does not divide the table: it may be too small"
		}
	}
	rows, bytes := scan.Rows, scan.Bytes
	if rows < 0 && p.pushed.Where == nil && p.residual.Where == nil {
		rows = p.table.Rows
	}
	if rows >= 0 && p.query.Limit > 0 {
		rows = min(rows, p.query.Limit)
	}
	if bytes < 0 && rows >= 0 {
		bytes = rows * query.RowWidth(p.table.ScanSchema(p.pushed.Columns).Fields())
	}
	e.Rows, e.Bytes = query.Known(rows), query.Known(bytes)
	parents := e.ChunkRows
	if rows >= 0 {
		parents = min(parents, rows)
	}
	e.Relations, err = p.tree.Explain(ctx, session, parents)
	return e, err
}

// String returns the explanation as a tree of lines, for people to read.
func (e *Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", query.OneLine(e.Table), query.FormatAmount(e.Rows, e.Bytes))
	b.WriteByte('\n')
	indent := "  "
	if len(e.Relations) > 0 {
		indent = "│ "
	}
	line := func(format string, args ...any) {
		b.WriteString(indent + query.OneLine(fmt.Sprintf(format, args...)) + "\n")
	}
	e.Source.Write(line, "source", "")
	e.Engine.Write(line, "engine", "")
	if e.Detail != "" {
		line("%s", e.Detail)
	}
	if e.Parallel > 0 {
		line("reads %s, %d at once", query.FormatCount(int64(e.Partitions), "partition"), e.Parallel)
	}
	if e.OneScan != "" {
		line("reads the table in one scan: %s", e.OneScan)
	}
	if len(e.Relations) > 0 {
		line("%s, depth at most %d, chunks of %d rows, %s", e.Strategy, e.MaxDepth, e.ChunkRows, query.FormatCount(int64(e.Sessions), "session"))
	}
	relation.WritePlans(&b, e.Relations, "")
	return b.String()
}
