package testkit

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// MemoryTable is a table of the source that [NewMemory] returns.
type MemoryTable struct {
	Name string
	// Schema has the columns. Their values are compared according to the
	// [sources.Meaning] that the fields declare. For a column that is compared by
	// [sources.BySource], the source ignores the case of letters.
	Schema *arrow.Schema
	Key    []string
	Unique [][]string
	Rows   iter.Seq[[]any] // rows as in [sources.Row]; NewMemory reads them once
}

// NewMemory returns a source in memory with all capabilities. It is the reference
// implementation of the specification, and is meant to be clear rather than fast. Its
// data never changes. It is safe for concurrent use.
func NewMemory(tables []MemoryTable, keys []sources.ForeignKey) (sources.Source, error) {
	m := &inMemory{catalog: &sources.Catalog{}, tables: map[string]*memoryTable{}}
	for _, t := range tables {
		data, err := load(t)
		if err != nil {
			return nil, sources.WithOp("open", t.Name, err)
		}
		m.tables[t.Name] = data
		m.catalog.Tables = append(m.catalog.Tables, sources.Table{
			Name: t.Name, Schema: t.Schema, Key: t.Key, Unique: t.Unique, Rows: int64(len(data.rows)),
			Capabilities: sources.CapProject | sources.CapSort | sources.CapLimit | sources.CapResume | sources.CapStable |
				sources.CapPartition | sources.CapSnapshot | sources.CapLogic,
			Filters: filtersOf(t.Schema),
		})
	}
	if err := sources.Relate(m.catalog, keys); err != nil {
		return nil, sources.WithOp("open", "", err)
	}
	for i := range m.catalog.Tables {
		t := &m.catalog.Tables[i]
		// add adds a look-up for keys that come from columns of another table.
		add := func(table string, columns []string, from string, fromColumns []string) {
			if len(columns) == 0 {
				return
			}
			target := m.catalog.Table(table)
			if target.Lookup(columns) == nil {
				target.Lookups = append(target.Lookups, sources.Lookup{Columns: columns})
			}
			if m.folds(table, columns) || m.folds(from, fromColumns) {
				target.Lookup(columns).Ordinals = true
			}
		}
		add(t.Name, t.Key, t.Name, t.Key)
		for _, u := range t.Unique {
			add(t.Name, u, t.Name, u)
		}
		for _, r := range t.Relations {
			if r.Unusable != "" {
				continue
			}
			if r.Through == nil {
				add(r.TargetTable, r.TargetColumns, t.Name, r.Columns)
				continue
			}
			add(r.Through.Table, r.Through.Near, t.Name, r.Columns)
			add(r.TargetTable, r.TargetColumns, r.Through.Table, r.Through.Far)
		}
	}
	return m, nil
}

// filtersOf returns all operators that make sense for each column.
func filtersOf(schema *arrow.Schema) map[string]sources.Ops {
	filters := map[string]sources.Ops{}
	for _, f := range schema.Fields() {
		ops := sources.OpsOf(sources.OpIsNull, sources.OpNotNull)
		if sources.Comparable(f.Type, f.Type) {
			ops |= sources.OpsOf(sources.OpEq, sources.OpNe, sources.OpLt, sources.OpLe, sources.OpGt, sources.OpGe, sources.OpIn)
		}
		if sources.Comparable(f.Type, arrow.BinaryTypes.String) { // by bytes, whatever the column's meaning
			ops |= sources.OpsOf(sources.OpPrefix, sources.OpLike)
		}
		filters[f.Name] = ops
	}
	return filters
}

// memoryTable holds each row as it was given and as values.
type memoryTable struct {
	rows     [][]any
	values   [][]sources.Value
	column   map[string]int
	meanings []meaning // of the columns
}

func load(t MemoryTable) (*memoryTable, error) {
	data := &memoryTable{column: map[string]int{}}
	for i, f := range t.Schema.Fields() {
		data.column[f.Name] = i
		data.meanings = append(data.meanings, meaningOf(f))
	}
	given := func(yield func(sources.Row, error) bool) {
		for row := range t.Rows {
			data.rows = append(data.rows, slices.Clone(row))
			if !yield(sources.Row{Values: row}, nil) {
				return
			}
		}
	}
	env := sources.Env{Mem: memory.DefaultAllocator}
	for batch, err := range sources.Guard("load", t.Name, sources.FromRows(env, t.Schema, given)) {
		if err != nil {
			return nil, err
		}
		for i := range int(batch.Record.NumRows()) {
			row := make([]sources.Value, len(data.column))
			for j, c := range batch.Record.Columns() {
				row[j] = sources.ValueAt(c, i)
				if err := data.meanings[j].check(row[j]); err != nil {
					return nil, err
				}
			}
			data.values = append(data.values, row)
		}
	}
	return data, nil
}

type inMemory struct {
	catalog *sources.Catalog
	tables  map[string]*memoryTable
}

func (m *inMemory) Catalog(context.Context) (*sources.Catalog, error) { return m.catalog, nil }

func (m *inMemory) Close() error { return nil }

// onlySnapshot is the name of the only snapshot.
const onlySnapshot = "always"

func (m *inMemory) Begin(_ context.Context, env sources.Env) (sources.Session, error) {
	if env.Snapshot != "" && env.Snapshot != onlySnapshot {
		return nil, sources.Errorf(sources.Invalid, "begin", "", "there is no snapshot %q", env.Snapshot)
	}
	env.Page = env.Page.OrDefault()
	return &memorySession{source: m, env: env}, nil
}

type memorySession struct {
	source *inMemory
	env    sources.Env
}

func (s *memorySession) Close() error { return nil }

func (s *memorySession) Plan(_ context.Context, q *sources.Query) (*sources.Plan, error) {
	t, err := s.source.catalog.Check(q)
	if err != nil {
		return nil, sources.WithOp("plan", q.Table, err)
	}
	plan := &sources.Plan{Rows: t.Rows, Bytes: -1, Version: onlySnapshot, Snapshot: onlySnapshot, Detail: "reads memory"}
	const parts = 3
	for i := range int64(parts) {
		if from, to := i*t.Rows/parts, (i+1)*t.Rows/parts; from < to {
			plan.Parts = append(plan.Parts, numbers(from, to))
		}
	}
	return plan, nil
}

// numbers encodes row numbers as a cursor or a partition.
func numbers(ns ...int64) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// readNumbers decodes n row numbers, each at most most.
func readNumbers(b []byte, most int64, n int) ([]int64, error) {
	var all []int64
	for range n {
		v, size := binary.Uvarint(b)
		if size <= 0 || v > uint64(most) {
			return nil, sources.Errorf(sources.Invalid, "", "", "the cursor or the partition does not belong to this query")
		}
		all, b = append(all, int64(v)), b[size:]
	}
	if len(b) > 0 {
		return nil, sources.Errorf(sources.Invalid, "", "", "the cursor or the partition is too long")
	}
	return all, nil
}

func (s *memorySession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return sources.Guard("scan", q.Table, func(yield func(sources.Batch, error) bool) {
		table, err := s.source.catalog.Check(q)
		var rows []answer
		if err == nil {
			rows, err = s.source.answer(table, q)
		}
		from := int64(0)
		if err == nil && q.After != nil {
			var positions []int64
			if positions, err = readNumbers(q.After, int64(len(rows)), 1); err == nil {
				from = positions[0]
			}
		}
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		rows = rows[from:]
		if q.Limit > 0 {
			rows = rows[:min(q.Limit, int64(len(rows)))]
		}
		schema := table.QuerySchema(q)
		ordinals := q.Keys != nil && table.Lookup(q.Keys.Columns).Ordinals
		sources.FromRows(s.env, schema, s.source.tables[q.Table].give(ctx, rows, from, q.Columns, ordinals))(yield)
	})
}

// answer is one row of a result: its number, and the ordinal of its key if the query
// has keys.
type answer struct{ row, ordinal int }

// answer returns the rows of the whole result, in order.
func (m *inMemory) answer(table *sources.Table, q *sources.Query) ([]answer, error) {
	t := m.tables[q.Table]
	from, to := int64(0), int64(len(t.rows))
	if q.Part != nil {
		positions, err := readNumbers(q.Part, to, 2)
		if err != nil {
			return nil, err
		}
		from, to = positions[0], max(positions[0], positions[1])
	}
	where, err := t.translate(q.Where)
	if err != nil {
		return nil, err
	}
	var rows []int
	for i := from; i < to; i++ {
		if sources.Eval(where, func(column string) sources.Value { return t.translated(int(i), column) }) == sources.True {
			rows = append(rows, int(i))
		}
	}
	slices.SortStableFunc(rows, func(a, b int) int {
		for _, s := range q.OrderBy {
			c := t.column[s.Column]
			if order := CompareBy(s, t.meanings[c].ordered(t.values[a][c]), t.meanings[c].ordered(t.values[b][c])); order != 0 {
				return order
			}
		}
		return 0
	})
	switch {
	case q.Keys == nil:
		answers := make([]answer, len(rows))
		for i, row := range rows {
			answers[i].row = row
		}
		return answers, nil
	case table.Lookup(q.Keys.Columns).Ordinals:
		return m.withOrdinals(rows, q), nil
	}
	return t.among(rows, q.Keys), nil
}

// CompareBy compares two values by a term of an order, by [sources.Compare]. It returns
// -1, 0 or +1.
func CompareBy(s sources.Sort, a, b sources.Value) int {
	if a.IsNull() || b.IsNull() {
		switch {
		case a.IsNull() && b.IsNull():
			return 0
		case a.IsNull() == s.NullsFirst:
			return -1
		}
		return 1
	}
	if s.Desc {
		return sources.Compare(b, a)
	}
	return sources.Compare(a, b)
}

// among returns the rows that match a key, up to the limit for each key.
func (t *memoryTable) among(rows []int, keys *sources.Keys) []answer {
	given := map[string]int{} // rows of each key so far
	for k := range int(keys.Values.NumRows()) {
		values := make([]sources.Value, len(keys.Columns))
		for i := range values {
			values[i] = sources.FieldValueAt(keys.Values.Schema().Field(i), keys.Values.Column(i), k)
		}
		if key, ok := keyText(values); ok {
			given[key] = 0 // a key that is listed twice selects its rows once
		}
	}
	var kept []answer
	for _, row := range rows {
		values := make([]sources.Value, len(keys.Columns))
		for i, name := range keys.Columns {
			values[i] = t.meanings[t.column[name]].equal(t.values[row][t.column[name]])
		}
		key, ok := keyText(values)
		n, asked := given[key]
		if !ok || !asked || keys.LimitPerKey > 0 && n >= keys.LimitPerKey {
			continue
		}
		given[key]++
		kept = append(kept, answer{row: row})
	}
	return kept
}

// keyText returns a text that is the same for equal keys, or false for a key with a
// NULL, which equals nothing.
func keyText(values []sources.Value) (string, bool) {
	var text strings.Builder
	for _, v := range values {
		if v.IsNull() {
			return "", false
		}
		if f, ok := v.V.(float64); ok && f == 0 {
			v.V = 0.0 // which -0 equals
		}
		fmt.Fprintf(&text, "%q,", v.String())
	}
	return text.String(), true
}

// give yields the rows with their cursors until the context is canceled. With ordinals,
// these are the last column.
func (t *memoryTable) give(ctx context.Context, rows []answer, from int64, columns []string, ordinals bool) iter.Seq2[sources.Row, error] {
	return func(yield func(sources.Row, error) bool) {
		for i, a := range rows {
			if err := ctx.Err(); err != nil {
				yield(sources.Row{}, err)
				return
			}
			values := t.rows[a.row]
			if columns != nil {
				values = make([]any, len(columns))
				for j, name := range columns {
					values[j] = t.rows[a.row][t.column[name]]
				}
			}
			if ordinals {
				values = append(slices.Clip(values), int32(a.ordinal))
			}
			if !yield(sources.Row{Values: values, Cursor: numbers(from + int64(i) + 1)}, nil) {
				return
			}
		}
	}
}
