package relation

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// groups are rows by key: those of key k are rows [starts[k], starts[k+1]).
type groups struct {
	rows.Set
	starts []int32
}

// findRows returns the rows of each key: remembered ones, and for the others those of
// one look-up, or as many as the table needs for so many keys.
func (l *Loader) findRows(ctx context.Context, s *batch, a *keyAccess, tier keyStore, keys *keySet) (groups, error) {
	n := keys.list.rows
	l.count(a, func(r *Figures) { r.Keys += int64(n) })
	if tier == nil {
		numbers := s.Ints(n)
		for i := range numbers {
			numbers[i] = int32(i)
		}
		return l.fetchRows(ctx, s, a, keys, numbers)
	}
	places, records := tier.find(s.Arena, &keys.list)
	missing := s.Ints(n)[:0]
	for i, p := range places {
		if p.record < 0 {
			missing = append(missing, int32(i))
		}
	}
	l.count(a, func(r *Figures) { r.Remembered += int64(n - len(missing)) })
	fetched, err := l.fetchRows(ctx, s, a, keys, missing)
	if err != nil {
		return groups{}, err
	}
	tier.remember(&keys.list, missing, fetched.starts, fetched.Set)
	if len(missing) == n {
		return fetched, nil
	}
	all := groups{starts: s.Ints(n + 1)}
	all.Records = slices.Concat(fetched.Records, records)
	for i, m := range missing {
		places[m] = rowRange{record: -1, from: fetched.starts[i], rows: fetched.starts[i+1] - fetched.starts[i]}
	}
	total := 0
	for i, p := range places {
		total += int(p.rows)
		all.starts[i+1] = int32(total)
	}
	all.Refs = s.Refs(total)
	for i, p := range places {
		to := all.Refs[all.starts[i]:all.starts[i+1]]
		if p.record < 0 {
			copy(to, fetched.Refs[p.from:])
			continue
		}
		for j := range to {
			to[j] = rows.Ref{Record: p.record + int32(len(fetched.Records)), Row: p.from + int32(j)}
		}
	}
	return all, nil
}

// fetchRows asks the table for the keys of those numbers: key numbers[i] becomes
// group i.
func (l *Loader) fetchRows(ctx context.Context, s *batch, a *keyAccess, keys *keySet, numbers []int32) (groups, error) {
	g := groups{starts: s.Ints(len(numbers) + 1)}
	if len(numbers) == 0 {
		return g, nil
	}
	group := s.Ints(keys.list.rows) // by number
	for i := range group {
		group[i] = -1
	}
	for i, n := range numbers {
		group[n] = int32(i)
	}
	most := len(numbers)
	if a.lookup != nil && a.lookup.MaxKeys > 0 {
		most = a.lookup.MaxKeys
	}
	var of [][]int32 // of each row of each record: its group
	for part := range slices.Chunk(numbers, most) {
		err := l.ask(ctx, s, a, keys, group, part, func(record arrow.RecordBatch, number []int32) {
			g.Records, of = append(g.Records, record), append(of, number)
		})
		if err != nil {
			return groups{}, err
		}
	}
	count := 0
	for _, number := range of {
		count += len(number)
		for _, n := range number {
			g.starts[n+1]++
		}
	}
	for i := range numbers {
		if a.single && g.starts[i+1] > 1 {
			return groups{}, &sources.Error{Op: "scan", Table: a.table.Name, Kind: sources.Invalid,
				Err: fmt.Errorf("%d rows have %s, where the relation says that there is at most one", g.starts[i+1], describeKey(keys.values, int(numbers[i])))}
		}
		g.starts[i+1] += g.starts[i]
	}
	g.Refs = s.Refs(count)
	next := s.Ints(len(numbers))
	copy(next, g.starts)
	for r, number := range of {
		for row, n := range number {
			g.Refs[next[n]] = rows.Ref{Record: int32(r), Row: int32(row)}
			next[n]++
		}
	}
	a.sortGroups(s.Mem, &g)
	return g, nil
}

// ask reads the rows of some keys, and gives them page by page, each with the
// groups of its rows. Both are the step's.
func (l *Loader) ask(ctx context.Context, s *batch, a *keyAccess, keys *keySet, group, numbers []int32, give func(arrow.RecordBatch, []int32)) error {
	work := rows.NewArena(s.Mem)
	defer work.Release()
	values := keys.values
	if len(numbers) < int(values.NumRows()) {
		refs := work.Refs(len(numbers))
		for i, n := range numbers {
			refs[i].Row = n
		}
		values = rows.Keep(work, pickRecord(s.Mem, a.types, values.Columns(), refs))
	}
	q := a.asked
	switch {
	case a.lookup != nil:
		q.Keys = &sources.Keys{Columns: a.key, Values: values, LimitPerKey: a.perKey}
	case a.pushIn:
		in := sources.In{Column: a.key[0], Values: make([]sources.Value, values.NumRows())}
		for i := range in.Values {
			in.Values[i] = sources.ValueAt(values.Column(0), i)
		}
		q.Where = query.Conjunction(append(sources.Conjuncts(q.Where), in))
	}
	l.count(a, func(r *Figures) { r.Lookups++ })
	for page, err := range l.scan(ctx, a, &q) {
		if err != nil {
			return err
		}
		if page.Record.NumRows() == 0 {
			continue
		}
		record, number, err := a.match(s, keys, group, page.Record)
		if err != nil {
			return err
		}
		if record == nil {
			continue
		}
		l.count(a, func(r *Figures) { r.Rows += record.NumRows() })
		if s.fetched += sources.Size(record); len(s.root.Refs) > 1 && s.fetched > l.maxBytes {
			return &sources.Error{Kind: sources.Exhausted, Err: errTooMany}
		}
		give(record, number)
	}
	return nil
}

// scan reads what a look-up found, in the schema that the access says.
func (l *Loader) scan(ctx context.Context, a *keyAccess, q *sources.Query) sources.Batches {
	session, err := l.session(ctx, a.table)
	if err != nil {
		return func(yield func(sources.Batch, error) bool) { yield(sources.Batch{}, err) }
	}
	pages := sources.Guard("scan", a.table.Name, session.Scan(ctx, q))
	pages = query.CheckSchema(ctx, a.table.Name, pages, a.table.ScanSchema(q.Columns))
	return query.PostProcess(l.countSkipped(a, pages), a.rest, l.mem, l.accounts, l.env.Page)
}

// countSkipped counts the records that a look-up left out.
func (l *Loader) countSkipped(a *keyAccess, pages sources.Batches) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		for page, err := range pages {
			if n := page.Skipped.Records; err == nil && n > 0 {
				l.count(a, func(r *Figures) { r.Skipped = max(r.Skipped, n) })
			}
			if !yield(page, err) {
				return
			}
		}
	}
}

// match finds the groups of a page's rows, by their keys. It returns the page, or
// the rows of it that are in one; nil where none is.
func (a *keyAccess) match(s *batch, keys *keySet, group []int32, page arrow.RecordBatch) (arrow.RecordBatch, []int32, error) {
	work := rows.NewArena(s.Mem)
	defer work.Release()
	count := int(page.NumRows())
	columns, given := make([]arrow.Array, len(a.keyIndexes)), make([]arrow.Array, len(a.keyIndexes))
	for i, place := range a.keyIndexes {
		given[i] = page.Column(place)
		columns[i] = rows.Keep(work, castKey(s.Mem, given[i], a.types.Field(i).Type))
	}
	list := encodeKeys(work, columns, given, count)
	number := work.Ints(count)
	matched := 0
	var spans []rows.Range
	for row := range count {
		number[row] = -1
		if list.state[row] == keyValid {
			if n := keys.find(list.at(row)); n >= 0 {
				number[row] = group[n]
			}
		}
		if number[row] < 0 {
			continue
		}
		if n := len(spans); n > 0 && spans[n-1].From+spans[n-1].Rows == row {
			spans[n-1].Rows++
		} else if a.lookup == nil || n == 0 {
			spans = append(spans, rows.Range{From: row, Rows: 1})
		}
		matched++
	}
	if a.lookup != nil && matched < count {
		row := slices.Index(number, -1)
		return nil, nil, &sources.Error{Op: "scan", Table: a.table.Name, Kind: sources.Internal,
			Err: fmt.Errorf("the source gave a row with %s, which no key asked for", describeColumns(a.key, given, row))}
	}
	if matched == 0 {
		return nil, nil, nil
	}
	kept := s.Ints(matched)
	if matched == count {
		copy(kept, number)
		return s.hold(s.Retain(page)), kept, nil
	}
	at := 0
	for _, sp := range spans {
		at += copy(kept[at:], number[sp.From:sp.From+sp.Rows])
	}
	return s.hold(rows.Keep(s.Arena, rows.CopyRanges(s.l.mem, a.schema, []arrow.RecordBatch{page}, spans))), kept, nil
}

// sortGroups brings the rows of each key into their order, and leaves as many as
// each may have.
func (a *keyAccess) sortGroups(mem memory.Allocator, g *groups) {
	if len(a.order) > 0 && !a.single && len(g.Refs) > 1 {
		work := rows.NewArena(mem)
		defer work.Release()
		a.sortEach(work, g)
	}
	if a.limit == 0 {
		return
	}
	to := int32(0)
	for k := range len(g.starts) - 1 {
		from, end := g.starts[k], g.starts[k+1]
		g.starts[k] = to
		to += int32(copy(g.Refs[to:], g.Refs[from:min(end, from+int32(a.limit))]))
	}
	g.starts[len(g.starts)-1] = to
	g.Refs = g.Refs[:to]
}

func (a *keyAccess) sortEach(work *rows.Arena, g *groups) {
	compare := a.comparer(work, g.Set)
	var order []int32
	var sorted []rows.Ref
	for k := range len(g.starts) - 1 {
		from, end := g.starts[k], g.starts[k+1]
		inOrder := true
		for i := from + 1; i < end && inOrder; i++ {
			inOrder = compare(i-1, i) < 0
		}
		if inOrder {
			continue
		}
		if order == nil {
			order, sorted = work.Ints(len(g.Refs)), work.Refs(len(g.Refs))
		}
		n := end - from
		for i := range n {
			order[i] = from + i
		}
		slices.SortFunc(order[:n], compare)
		for i, at := range order[:n] {
			sorted[i] = g.Refs[at]
		}
		copy(g.Refs[from:end], sorted[:n])
	}
}

// ranks is where each row of a set stands in the order of all of them.
func (a *keyAccess) ranks(work *rows.Arena, rows rows.Set) []int32 {
	rank, order := work.Ints(len(rows.Refs)), work.Ints(len(rows.Refs))
	for i := range order {
		order[i] = int32(i)
	}
	if len(a.order) > 0 && len(order) > 1 {
		slices.SortFunc(order, a.comparer(work, rows))
	}
	for at, i := range order {
		rank[i] = int32(at)
	}
	return rank
}

// comparer compares rows of a set by the terms of the order, and where those are
// equal by their places.
func (a *keyAccess) comparer(work *rows.Arena, n rows.Set) func(i, j int32) int {
	compares := make([]func(i, j int) int, len(a.order))
	for i, term := range a.order {
		place := a.schema.FieldIndices(term.Column)[0]
		column := rows.Keep(work, n.Column(work.Mem, place, a.schema.Field(place)))
		compares[i] = query.OrderComparer(column, term)
	}
	return func(i, j int32) int {
		for _, c := range compares {
			if order := c(int(i), int(j)); order != 0 {
				return order
			}
		}
		return int(i) - int(j)
	}
}

// describeKey writes a key for people, as in "id = 7".
func describeKey(values arrow.RecordBatch, row int) string {
	columns := make([]string, values.NumCols())
	for i := range columns {
		columns[i] = values.ColumnName(i)
	}
	return describeColumns(columns, values.Columns(), row)
}

func describeColumns(columns []string, values []arrow.Array, row int) string {
	text := ""
	for i, name := range columns {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s = %s", name, sources.ValueAt(values[i], row))
	}
	return text
}
