package relation

import (
	"context"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Explain returns how the relations are loaded for that many rows of the root; a
// negative number is unknown. It asks the session for a plan of each look-up and
// reads no rows. Its errors are the session's.
func (t *Tree) Explain(ctx context.Context, session sources.Session, parents int64) ([]Plan, error) {
	x := explainer{ctx: ctx, session: session}
	return x.relations(t.nodes, t.root, parents)
}

// NeedsSecondSession reports whether look-ups need a session of their own, because
// a table allows one scan at a time.
func (t *Tree) NeedsSecondSession() bool {
	for _, table := range t.tables()[1:] {
		if table.MaxScans == 1 || t.root.MaxScans == 1 {
			return true
		}
	}
	return false
}

// explainer makes plans with the help of a session.
type explainer struct {
	ctx     context.Context
	session sources.Session
}

func (x *explainer) plan(q *sources.Query) (*sources.Plan, error) {
	return sources.GuardCall("plan", q.Table, func() (*sources.Plan, error) { return x.session.Plan(x.ctx, q) })
}

// relations explains the relations of that many rows of a table; a negative number
// is unknown.
func (x *explainer) relations(nodes []*node, from *sources.Table, parents int64) ([]Plan, error) {
	plans := []Plan{}
	for _, n := range nodes {
		p := Plan{Path: n.path, Kind: n.relation.Kind.String(), Depth: n.depth, Required: n.required, On: n.condition()}
		rows := parents
		if n.join != nil {
			lookup, err := x.lookupPlan(n, n.join, parents)
			if err != nil {
				return nil, err
			}
			p.Steps = append(p.Steps, lookup)
			rows = fanOut(parents, from, n.join)
		}
		lookup, err := x.lookupPlan(n, n.target, rows)
		if err != nil {
			return nil, err
		}
		p.Steps = append(p.Steps, lookup)
		switch {
		case n.join != nil, n.relation.Kind.ToOne():
			rows = atMost(rows, n.target.table.Rows)
		default:
			rows = fanOut(parents, from, n.target)
		}
		p.Rows = query.Known(rows)
		if rows >= 0 {
			p.Bytes = query.Known(rows * query.RowWidth(n.target.schema.Fields()))
		}
		if p.Relations, err = x.relations(n.below, n.target.table, rows); err != nil {
			return nil, err
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// fanOut estimates the related rows of that many parents, if all have about as
// many. A negative number is unknown.
func fanOut(parents int64, from *sources.Table, a *keyAccess) int64 {
	if parents < 0 || from.Rows <= 0 || a.table.Rows < 0 {
		return -1
	}
	rows := int64(float64(parents) * float64(a.table.Rows) / float64(from.Rows))
	if a.limit > 0 {
		rows = min(rows, parents*int64(a.limit))
	}
	return atMost(rows, a.table.Rows)
}

// atMost returns n limited to most, unless most is negative.
func atMost(n, most int64) int64 {
	if most >= 0 && n > most {
		return most
	}
	return n
}

// lookupPlan explains the look-ups of one access for that many rows.
func (x *explainer) lookupPlan(n *node, a *keyAccess, rows int64) (LookupPlan, error) {
	p := LookupPlan{
		Table: a.table.Name, By: a.key, Scan: a.lookup == nil, Remembered: n.repeats || n.join != nil && a == n.target,
		Source: query.WorkOf(a.table, &a.pushed), Engine: a.residual.Work(a.table, a.pushed.Columns != nil, len(a.residual.Columns)),
	}
	p.Source.Limit = int64(a.perKey)
	if p.Source.OrderBy == "" {
		p.Engine.OrderBy = query.OrderText(a.order)
	}
	if a.perKey == 0 {
		p.Engine.Limit = int64(a.limit)
	}
	q := a.pushed
	keys := rows
	if n.relation.Kind.ToOne() || a == n.target && n.join != nil {
		keys = atMost(keys, a.table.Rows)
	}
	lookups := int64(1)
	if a.lookup != nil {
		p.KeysAtOnce = a.lookup.MaxKeys
		lookups = -1
		if p.KeysAtOnce == 0 {
			lookups = 1
		} else if keys >= 0 {
			lookups = (keys + int64(p.KeysAtOnce) - 1) / int64(p.KeysAtOnce)
		}
		columns := make([]arrow.Array, len(a.key))
		for i, f := range a.keyTypes.Fields() {
			columns[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, 0)
			defer columns[i].Release()
		}
		values := array.NewRecordBatch(a.keyTypes, columns, 0)
		defer values.Release()
		q.Keys = &sources.Keys{Columns: a.key, Values: values, LimitPerKey: a.perKey}
	} else if a.pushIn {
		p.Source.Where = strings.TrimPrefix(p.Source.Where+" and "+a.key[0]+" in the keys", " and ")
	}
	p.Keys, p.Lookups = query.Known(keys), query.Known(lookups)
	plan, err := x.plan(&q)
	if err != nil {
		return p, err
	}
	p.Detail = plan.Detail
	return p, nil
}

// condition returns the relation's join condition as text.
func (n *node) condition() string {
	equal := func(a []string, t string, b []string) string {
		terms := make([]string, len(a))
		for i := range a {
			terms[i] = fmt.Sprintf("%s = %s.%s", a[i], t, b[i])
		}
		return strings.Join(terms, " and ")
	}
	r := n.relation
	if r.Through == nil {
		return equal(r.Columns, r.TargetTable, r.TargetColumns)
	}
	return equal(r.Columns, r.Through.Table, r.Through.Near) + ", " + equal(r.Through.Far, r.TargetTable, r.TargetColumns)
}
