package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/penstock-data/penstock/sources"
)

// Plan returns the statement, and the estimates of the server. If all connections of the
// session are in use, it returns the estimates of the catalog and no partitions.
func (n *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	st, err := n.c.Check(q)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	t := n.c.tables[q.Table]
	if t.denied != "" {
		return nil, sources.NewError(sources.Denied, "plan", q.Table, errors.New(t.denied))
	}
	plan := &sources.Plan{Rows: -1, Bytes: -1}
	if q.Where == nil && q.Keys == nil && q.After == nil && q.Part == nil && st.Rows >= 0 {
		plan.Rows = st.Rows
		if q.Limit > 0 {
			plan.Rows = min(plan.Rows, q.Limit)
		}
	}
	m, err := n.acquire(ctx)
	if errors.Is(err, errBusy) {
		if n.s.options.version != "" || n.s.session.isMixed() {
			plan.Version = uniqueVersion()
		}
		plan.State = uniqueVersion()
		return plan, nil
	}
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	defer n.release(m)
	b, err := n.chooseStatement(ctx, m, t, st, q)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	explained, err := m.explain(ctx, b)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, n.translateError(ctx, err))
	}
	if plan.Version, err = m.version(ctx, n.s.options.version, q.Table); err != nil {
		return nil, sources.WithOp("plan", q.Table, n.translateError(ctx, err))
	}
	if plan.State, err = m.state(ctx, plan.Version, t); err != nil {
		return nil, sources.WithOp("plan", q.Table, n.translateError(ctx, err))
	}
	if n.s.session.isMixed() {
		plan.Version, plan.State = uniqueVersion(), uniqueVersion()
	}
	plan.Snapshot, plan.Detail = m.exported, b.sql
	if explained.node != "" { // the plan of the server could be parsed
		plan.Rows, plan.Bytes = explained.rows, explained.bytes
	}
	if st.Capabilities.Has(sources.CapPartition) && q.Part == nil && q.After == nil && q.Keys == nil && len(q.OrderBy) == 0 && q.Limit == 0 {
		if plan.Parts, err = m.partitions(ctx, t); err != nil {
			return nil, sources.WithOp("plan", q.Table, n.translateError(ctx, err))
		}
	}
	return plan, nil
}

// serverPlan is a query plan of the server.
type serverPlan struct {
	node        string // the type of the first node that is not a limit; empty if the plan cannot be parsed
	rows, bytes int64
}

// explain returns the server's plan for a statement.
func (m *snapshotConn) explain(ctx context.Context, b *statement) (serverPlan, error) {
	result := m.conn.Conn().PgConn().ExecParams(ctx, "EXPLAIN (FORMAT JSON) "+b.sql, b.values, b.oids, b.formats(), nil).Read()
	if result.Err != nil {
		m.rollBack()
		return serverPlan{}, result.Err
	}
	type node struct {
		Type  string  `json:"Node Type"`
		Rows  float64 `json:"Plan Rows"`
		Width float64 `json:"Plan Width"`
		Plans []node
	}
	var plans []struct{ Plan node }
	if len(result.Rows) != 1 || json.Unmarshal(result.Rows[0][0], &plans) != nil || len(plans) != 1 {
		return serverPlan{}, nil
	}
	p := plans[0].Plan
	const most = 1 << 53 // larger than any table
	e := serverPlan{rows: int64(min(p.Rows, most)), bytes: int64(min(p.Rows*p.Width, most))}
	for p.Type == "Limit" && len(p.Plans) == 1 {
		p = p.Plans[0]
	}
	e.node = p.Type
	return e, nil
}

// partitions returns the partitions of a table.
func (m *snapshotConn) partitions(ctx context.Context, t *table) ([]sources.Part, error) {
	node, err := m.filenode(ctx, t)
	if err != nil {
		return nil, err
	}
	oid := strconv.FormatUint(uint64(t.oid), 10)
	results, err := m.conn.Conn().PgConn().Exec(ctx, "SELECT pg_catalog.pg_relation_size("+oid+") / pg_catalog.current_setting('block_size')::pg_catalog.int8").ReadAll()
	if err != nil {
		m.rollBack()
		return nil, err
	}
	blocks, err := strconv.ParseInt(string(results[0].Rows[0][0]), 10, 64)
	if err != nil {
		return nil, err
	}
	return splitBlocks(blocks, digest(m.snapshotID, node)), nil
}
