package core

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
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
	Sessions  int            `json:"sessions"`
	Source    Work           `json:"source"` // what the table is asked for
	Engine    Work           `json:"engine"` // what the engine does itself
	Rows      *int64         `json:"rows"`   // of the whole scan
	Bytes     *int64         `json:"bytes"`  // of the whole scan
	Detail    string         `json:"detail,omitempty"`
	Relations []RelationPlan `json:"relations"`
}

// Work is a part of a query that somebody does.
type Work struct {
	Columns []string `json:"columns,omitempty"` // the ones that are chosen; none where all come
	Where   string   `json:"where,omitempty"`
	OrderBy string   `json:"order_by,omitempty"`
	Limit   int64    `json:"limit,omitempty"` // of a relation: for each key
}

// RelationPlan says how one relation is loaded.
type RelationPlan struct {
	Path     string `json:"path"`
	Kind     string `json:"kind"`
	Depth    int    `json:"depth"`
	Required bool   `json:"required"`
	On       string `json:"on"` // as in customer_id = customers.id
	// Steps are the questions for each chunk: one, or two where the relation goes
	// through a join table.
	Steps     []LookupPlan   `json:"steps"`
	Rows      *int64         `json:"rows"`  // for each chunk
	Bytes     *int64         `json:"bytes"` // for each chunk
	Relations []RelationPlan `json:"relations"`
}

// LookupPlan is one question of a relation.
type LookupPlan struct {
	Table string   `json:"table"`
	By    []string `json:"by"`
	// Scan says that the table finds no rows by these columns: it is read as a
	// whole for each chunk.
	Scan bool `json:"scan"`
	// KeysAtOnce is how many keys one look-up takes; 0 is any number.
	KeysAtOnce int `json:"keys_at_once"`
	// Keys and Lookups are for each chunk, at most: what is remembered is not
	// asked again.
	Keys       *int64 `json:"keys"`
	Lookups    *int64 `json:"lookups"`
	Remembered bool   `json:"remembered"`
	Source     Work   `json:"source"`
	Engine     Work   `json:"engine"`
	Detail     string `json:"detail,omitempty"`
}

// Explain says how a stream of the query would work, and reads no rows. Its
// errors are those of [Open].
func Explain(ctx context.Context, source sources.Source, q Query, o Options) (e *Explanation, err error) {
	catalog, err := sources.Call("catalog", "", func() (*sources.Catalog, error) { return source.Catalog(ctx) })
	if err != nil {
		return nil, err
	}
	tree, err := plan(catalog, &q, o)
	if err != nil {
		return nil, err
	}
	table, asked, rest, err := split(catalog, q)
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
	x := explainer{ctx: ctx, session: session, root: table}
	p, err := x.plan(asked)
	if err != nil {
		return nil, err
	}
	e = &Explanation{
		Table: q.Table, Strategy: tree.strategy.String(), MaxDepth: tree.depth, ChunkRows: o.ChunkRows, Sessions: 1,
		Source: workOf(asked), Engine: rest.work(table, asked.Columns != nil, tree.shown), Detail: p.Detail, Relations: []RelationPlan{},
	}
	if e.ChunkRows == 0 {
		e.ChunkRows = DefaultChunkRows
	}
	for _, t := range tree.tables()[1:] {
		if t.Scans == 1 || table.Scans == 1 {
			e.Sessions = 2
		}
	}
	rows, bytes := p.Rows, p.Bytes
	if rows < 0 && asked.Where == nil && rest.where == nil {
		rows = table.Rows
	}
	if rows >= 0 && q.Limit > 0 {
		rows = min(rows, q.Limit)
	}
	if bytes < 0 && rows >= 0 {
		bytes = rows * widthOf(table.ScanSchema(asked.Columns).Fields())
	}
	e.Rows, e.Bytes = known(rows), known(bytes)
	parents := e.ChunkRows
	if rows >= 0 {
		parents = min(parents, rows)
	}
	e.Relations, err = x.relations(tree.nodes, table, parents)
	return e, err
}

type explainer struct {
	ctx     context.Context
	session sources.Session
	root    *sources.Table
}

func (x *explainer) plan(q *sources.Query) (*sources.Plan, error) {
	return sources.Call("plan", q.Table, func() (*sources.Plan, error) { return x.session.Plan(x.ctx, q) })
}

// relations explains the relations of so many rows of a table; a negative number
// is not known.
func (x *explainer) relations(nodes []*loadNode, from *sources.Table, parents int64) ([]RelationPlan, error) {
	plans := []RelationPlan{}
	for _, n := range nodes {
		p := RelationPlan{Path: n.path, Kind: n.relation.Kind.String(), Depth: n.depth, Required: n.required, On: n.on()}
		rows := parents
		if n.join != nil {
			step, err := x.step(n, n.join, parents)
			if err != nil {
				return nil, err
			}
			p.Steps = append(p.Steps, step)
			rows = fanOut(parents, from, n.join)
		}
		step, err := x.step(n, n.target, rows)
		if err != nil {
			return nil, err
		}
		p.Steps = append(p.Steps, step)
		switch {
		case n.join != nil, n.relation.Kind.ToOne():
			rows = atMost(rows, n.target.table.Rows)
		default:
			rows = fanOut(parents, from, n.target)
		}
		p.Rows = known(rows)
		if rows >= 0 {
			p.Bytes = known(rows * widthOf(n.target.schema.Fields()))
		}
		if p.Relations, err = x.relations(n.below, n.target.table, rows); err != nil {
			return nil, err
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// fanOut estimates how many rows belong to so many parents, if all have about as
// many.
func fanOut(parents int64, from *sources.Table, a *access) int64 {
	if parents < 0 || from.Rows <= 0 || a.table.Rows < 0 {
		return -1
	}
	rows := int64(float64(parents) * float64(a.table.Rows) / float64(from.Rows))
	if a.limit > 0 {
		rows = min(rows, parents*int64(a.limit))
	}
	return atMost(rows, a.table.Rows)
}

func atMost(n, most int64) int64 {
	if most >= 0 && n > most {
		return most
	}
	return n
}

// step explains one question for so many rows.
func (x *explainer) step(n *loadNode, a *access, rows int64) (LookupPlan, error) {
	p := LookupPlan{
		Table: a.table.Name, By: a.key, Scan: a.lookup == nil, Remembered: n.repeats || n.join != nil && a == n.target,
		Source: workOf(&a.asked), Engine: a.rest.work(a.table, a.asked.Columns != nil, len(a.rest.columns)),
	}
	p.Source.Limit = int64(a.perKey)
	if p.Source.OrderBy == "" {
		p.Engine.OrderBy = orderText(a.order)
	}
	if a.perKey == 0 {
		p.Engine.Limit = int64(a.limit)
	}
	q := a.asked
	keys := rows
	if n.relation.Kind.ToOne() || a == n.target && n.join != nil {
		keys = atMost(keys, a.table.Rows)
	}
	lookups := int64(1)
	if a.lookup != nil {
		p.KeysAtOnce = a.lookup.Keys
		lookups = -1
		if p.KeysAtOnce == 0 {
			lookups = 1
		} else if keys >= 0 {
			lookups = (keys + int64(p.KeysAtOnce) - 1) / int64(p.KeysAtOnce)
		}
		columns := make([]arrow.Array, len(a.key))
		for i, f := range a.types.Fields() {
			columns[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, 0)
			defer columns[i].Release()
		}
		values := array.NewRecordBatch(a.types, columns, 0)
		defer values.Release()
		q.Keys = &sources.Keys{Columns: a.key, Values: values, PerKey: a.perKey}
	} else if a.pushIn {
		p.Source.Where = strings.TrimPrefix(p.Source.Where+" and "+a.key[0]+" in the keys", " and ")
	}
	p.Keys, p.Lookups = known(keys), known(lookups)
	plan, err := x.plan(&q)
	if err != nil {
		return p, err
	}
	p.Detail = plan.Detail
	return p, nil
}

// on says which columns a relation's rows equal.
func (n *loadNode) on() string {
	equal := func(a []string, t string, b []string) string {
		terms := make([]string, len(a))
		for i := range a {
			terms[i] = fmt.Sprintf("%s = %s.%s", a[i], t, b[i])
		}
		return strings.Join(terms, " and ")
	}
	r := n.relation
	if r.Through == nil {
		return equal(r.Columns, r.Table, r.Target)
	}
	return equal(r.Columns, r.Through.Table, r.Through.Near) + ", " + equal(r.Through.Far, r.Table, r.Target)
}

func workOf(q *sources.Query) Work {
	return Work{Columns: q.Columns, Where: predicateText(q.Where), OrderBy: orderText(q.OrderBy), Limit: q.Limit}
}

// work is what is left to the engine: also to choose columns, where the table
// does not or where it gives more than are shown.
func (r residue) work(table *sources.Table, projected bool, shown int) Work {
	w := Work{Where: predicateText(r.where), OrderBy: orderText(r.orderBy), Limit: r.limit}
	if shown = min(shown, len(r.columns)); !sameColumns(table, r.columns[:shown]) && (!projected || shown < len(r.columns)) {
		w.Columns = r.columns[:shown]
	}
	return w
}

func sameColumns(table *sources.Table, columns []string) bool {
	if len(columns) != table.Schema.NumFields() {
		return false
	}
	for i, f := range table.Schema.Fields() {
		if f.Name != columns[i] {
			return false
		}
	}
	return true
}

func orderText(order []sources.Sort) string {
	terms := make([]string, len(order))
	for i, s := range order {
		terms[i] = s.Column
		if s.Desc {
			terms[i] += " desc"
		}
		if s.NullsFirst {
			terms[i] += " nulls first"
		}
	}
	return strings.Join(terms, ", ")
}

func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// widthOf is about how many bytes a row of the fields has: a guess for texts.
func widthOf(fields []arrow.Field) int64 {
	var n int64
	for _, f := range fields {
		switch t := keyType(f.Type).(type) {
		case *arrow.BooleanType:
			n++
		case arrow.FixedWidthDataType:
			n += int64(t.BitWidth() / 8)
		default:
			n += 4 + 16
		}
	}
	return n
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
