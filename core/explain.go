package core

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// Explanation says how a stream would go about a query. Its JSON names are
// stable. An estimate that nobody can make is nil.
type Explanation struct {
	Table     string `json:"table"`
	Strategy  string `json:"strategy"`
	MaxDepth  int    `json:"max_depth"`
	ChunkRows int64  `json:"chunk_rows"` // of a chunk, which the figures for each are about
	// Sessions is 2 where the source reads one thing at a time in each.
	Sessions int `json:"sessions"`
	// Parallel is how many of the table's Partitions are read at once; both are 0
	// where it is read in one scan.
	Parallel   int            `json:"parallel,omitempty"`
	Partitions int            `json:"partitions,omitempty"`
	Source     Work           `json:"source"` // what the table is asked for
	Engine     Work           `json:"engine"` // what the engine does itself
	Rows       *int64         `json:"rows"`   // of the whole scan
	Bytes      *int64         `json:"bytes"`  // of the whole scan
	Detail     string         `json:"detail,omitempty"`
	Relations  []RelationPlan `json:"relations"`
}

// Explain returns how a stream of the query would work, without reading any row.
// Its errors are those of [Open].
func Explain(ctx context.Context, source sources.Source, q Query, o Options) (e *Explanation, err error) {
	o, err = o.checked(q, Resources{})
	if err != nil {
		return nil, err
	}
	catalog, err := sources.Call("catalog", "", func() (*sources.Catalog, error) { return source.Catalog(ctx) })
	if err != nil {
		return nil, err
	}
	p, err := compile(catalog, q, o, Resources{}.limit(o))
	if err != nil {
		return nil, err
	}
	session, err := sources.Call("begin", q.Table, func() (sources.Session, error) {
		return source.Begin(ctx, sources.Env{Mem: memory.DefaultAllocator})
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		_, closing := sources.Call("close", q.Table, func() (struct{}, error) { return struct{}{}, session.Close() })
		err = errors.Join(err, closing)
	}()
	return p.explain(ctx, session)
}

// explain asks the session for the plans of the query's scan and look-ups.
func (p *plan) explain(ctx context.Context, session sources.Session) (*Explanation, error) {
	scan, err := sources.Call("plan", p.table.Name, func() (*sources.Plan, error) { return session.Plan(ctx, p.pushed) })
	if err != nil {
		return nil, err
	}
	e := &Explanation{
		Table: p.table.Name, Strategy: p.tree.strategy.String(), MaxDepth: p.tree.depth, ChunkRows: p.options.ChunkRows, Sessions: 1,
		Source: workOf(p.pushed), Engine: p.rest.work(p.table, p.pushed.Columns != nil, p.tree.shown), Detail: scan.Detail,
	}
	if e.ChunkRows == 0 {
		e.ChunkRows = DefaultChunkRows
	}
	if p.tree.needsSecondSession() {
		e.Sessions = 2
	}
	if p.lanes.n > 1 && len(scan.Parts) > 1 {
		e.Partitions, e.Parallel = len(scan.Parts), min(p.lanes.n, len(scan.Parts))
	}
	rows, bytes := scan.Rows, scan.Bytes
	if rows < 0 && p.pushed.Where == nil && p.rest.where == nil {
		rows = p.table.Rows
	}
	if rows >= 0 && p.query.Limit > 0 {
		rows = min(rows, p.query.Limit)
	}
	if bytes < 0 && rows >= 0 {
		bytes = rows * widthOf(p.table.ScanSchema(p.pushed.Columns).Fields())
	}
	e.Rows, e.Bytes = known(rows), known(bytes)
	parents := e.ChunkRows
	if rows >= 0 {
		parents = min(parents, rows)
	}
	e.Relations, err = p.tree.explain(ctx, session, parents)
	return e, err
}

// String writes the explanation as a tree, for people.
func (e *Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Table, amount(e.Rows, e.Bytes))
	b.WriteByte('\n')
	indent := "  "
	if len(e.Relations) > 0 {
		indent = "│ "
	}
	line := func(format string, args ...any) { fmt.Fprintf(&b, indent+format+"\n", args...) }
	e.Source.write(line, "source", "")
	e.Engine.write(line, "engine", "")
	if e.Detail != "" {
		line("%s", e.Detail)
	}
	if e.Parallel > 0 {
		line("reads %s, %d at once", count(int64(e.Partitions), "partition"), e.Parallel)
	}
	if len(e.Relations) > 0 {
		line("%s, depth at most %d, chunks of %d rows, %s", e.Strategy, e.MaxDepth, e.ChunkRows, count(int64(e.Sessions), "session"))
	}
	writeRelations(&b, e.Relations, "")
	return b.String()
}

func writeRelations(b *strings.Builder, plans []RelationPlan, indent string) {
	for i, p := range plans {
		branch, below := "├─ ", "│    "
		if i == len(plans)-1 {
			branch, below = "└─ ", "     "
		}
		optional := ""
		if !p.Required {
			optional = ", optional"
		}
		fmt.Fprintf(b, "%s%s%s: %s%s on %s, depth %d, for each chunk %s\n", indent, branch, p.Path, p.Kind, optional, p.On, p.Depth, amount(p.Rows, p.Bytes))
		inner := indent + below
		if len(p.Relations) > 0 {
			inner = indent + strings.TrimRight(below, " ")
			inner += strings.Repeat(" ", 3-len([]rune(strings.TrimRight(below, " ")))) + "│ "
		}
		line := func(format string, args ...any) { fmt.Fprintf(b, inner+format+"\n", args...) }
		for _, s := range p.Steps {
			s.write(line)
		}
		writeRelations(b, p.Relations, indent+below[:len(below)-2])
	}
}

func (s LookupPlan) write(line func(string, ...any)) {
	if s.Scan {
		line("scans %s for each chunk, for it has no look-up by %s", s.Table, names(s.By))
	} else {
		atOnce := "any number of keys at once"
		if s.KeysAtOnce > 0 {
			atOnce = count(int64(s.KeysAtOnce), "key") + " at once"
		}
		line("looks up %s by %s, %s", s.Table, names(s.By), atOnce)
	}
	figures := ""
	if s.Keys != nil {
		figures = "at most " + count(*s.Keys, "key")
	}
	if s.Lookups != nil {
		figures = strings.TrimPrefix(figures+" in "+count(*s.Lookups, "look-up"), " in ")
	}
	if s.Remembered {
		figures = strings.TrimPrefix(figures+", fewer as rows are remembered", ", ")
	}
	if figures != "" {
		line("for each chunk %s", figures)
	}
	s.Source.write(line, "source", " for each key")
	s.Engine.write(line, "engine", " for each key")
	if s.Detail != "" {
		line("%s", s.Detail)
	}
}

// write writes what somebody does, where it is something.
func (w Work) write(line func(string, ...any), who, limit string) {
	var parts []string
	if w.Columns != nil {
		parts = append(parts, "columns "+names(w.Columns))
	}
	if w.Where != "" {
		parts = append(parts, "where "+w.Where)
	}
	if w.OrderBy != "" {
		parts = append(parts, "order by "+w.OrderBy)
	}
	if w.Limit > 0 {
		parts = append(parts, "limit "+strconv.FormatInt(w.Limit, 10)+limit)
	}
	if len(parts) > 0 {
		line("%s: %s", who, strings.Join(parts, "; "))
	}
}

func amount(rows, bytes *int64) string {
	if rows == nil {
		return "nobody knows how many rows"
	}
	text := "about " + count(*rows, "row")
	if bytes != nil {
		text += ", " + FormatBytes(*bytes)
	}
	return text
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatInt(n, 10) + " " + what + "s"
}
