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

// groups are rows grouped by key: those of key k are rows [starts[k],
// starts[k+1]).
type groups struct {
	rows.Set
	starts []int32
}

// findRows returns the rows of each key, from the key store if it has them. It
// looks up the remaining keys.
func (l *Loader) findRows(ctx context.Context, b *batch, a *keyAccess, tier keyStore, keys *keySet) (groups, error) {
	n := keys.list.rows
	l.count(a, func(r *Figures) { r.Keys += int64(n) })
	if tier == nil {
		numbers := b.Ints(n)
		for i := range numbers {
			numbers[i] = int32(i)
		}
		return l.fetchRows(ctx, b, a, keys, numbers)
	}
	ranges, records := tier.find(b.Arena, &keys.list)
	missing := b.Ints(n)[:0]
	for i, p := range ranges {
		if p.record < 0 {
			missing = append(missing, int32(i))
		}
	}
	l.count(a, func(r *Figures) { r.Remembered += int64(n - len(missing)) })
	fetched, err := l.fetchRows(ctx, b, a, keys, missing)
	if err != nil {
		return groups{}, err
	}
	tier.put(&keys.list, missing, fetched.starts, fetched.Set)
	if len(missing) == n {
		return fetched, nil
	}
	all := groups{starts: b.Ints(n + 1)}
	all.Records = slices.Concat(fetched.Records, records)
	for i, m := range missing {
		ranges[m] = rowRange{record: -1, from: fetched.starts[i], rows: fetched.starts[i+1] - fetched.starts[i]}
	}
	total := 0
	for i, p := range ranges {
		total += int(p.rows)
		all.starts[i+1] = int32(total)
	}
	all.Refs = b.Refs(total)
	for i, p := range ranges {
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

// fetchRows looks up the keys with those indexes: group i is key numbers[i]. It
// scans more than once if the table limits the keys of a look-up.
func (l *Loader) fetchRows(ctx context.Context, b *batch, a *keyAccess, keys *keySet, numbers []int32) (groups, error) {
	g := groups{starts: b.Ints(len(numbers) + 1)}
	if len(numbers) == 0 {
		return g, nil
	}
	groupOfKey := b.Ints(keys.list.rows) // of each key by index; -1 if it is not looked up
	for i := range groupOfKey {
		groupOfKey[i] = -1
	}
	for i, n := range numbers {
		groupOfKey[n] = int32(i)
	}
	keysPerLookup := len(numbers)
	if a.lookup != nil && a.lookup.MaxKeys > 0 {
		keysPerLookup = a.lookup.MaxKeys
	}
	var rowGroups [][]int32 // for each record: the group of each row
	for part := range slices.Chunk(numbers, keysPerLookup) {
		err := l.lookUp(ctx, b, a, keys, groupOfKey, part, func(record arrow.RecordBatch, groupOf []int32) {
			g.Records, rowGroups = append(g.Records, record), append(rowGroups, groupOf)
		})
		if err != nil {
			return groups{}, err
		}
	}
	count := 0
	for _, groupOf := range rowGroups {
		count += len(groupOf)
		for _, n := range groupOf {
			g.starts[n+1]++
		}
	}
	for i := range numbers {
		if a.atMostOne && g.starts[i+1] > 1 {
			return groups{}, sources.Errorf(sources.Invalid, "scan", a.table.Name, "%d rows have %s, but the relation allows at most one", g.starts[i+1], describeColumns(a.keyFields(), keys.values.Columns(), int(numbers[i])))
		}
		g.starts[i+1] += g.starts[i]
	}
	g.Refs = b.Refs(count)
	next := b.Ints(len(numbers))
	copy(next, g.starts)
	for r, groupOf := range rowGroups {
		for row, n := range groupOf {
			g.Refs[next[n]] = rows.Ref{Record: int32(r), Row: int32(row)}
			next[n]++
		}
	}
	a.sortGroups(b.Mem, &g)
	return g, nil
}

// lookUp scans for some keys and calls emit for each page with the group of each
// row. The batch owns both. groupOfKey maps the index of a key to its group.
func (l *Loader) lookUp(ctx context.Context, b *batch, a *keyAccess, keys *keySet, groupOfKey, numbers []int32, emit func(arrow.RecordBatch, []int32)) error {
	scratch := rows.NewArena(b.Mem)
	defer scratch.Release()
	values := keys.values
	if len(numbers) < int(values.NumRows()) {
		refs := scratch.Refs(len(numbers))
		for i, n := range numbers {
			refs[i].Row = n
		}
		values = rows.Keep(scratch, takeRecord(b.Mem, a.keyTypes, values.Columns(), refs))
	}
	q := a.pushed
	switch {
	case a.lookup != nil:
		q.Keys = &sources.Keys{Columns: a.key, Values: values, From: a.from, LimitPerKey: a.perKey}
	case a.pushIn:
		in := sources.In{Column: a.key[0], Values: make([]sources.Value, values.NumRows())}
		for i := range in.Values {
			in.Values[i] = sources.FieldValueAt(a.keyTypes.Field(0), values.Column(0), i)
		}
		q.Where = query.Conjunction(append(sources.Conjuncts(q.Where), in))
	}
	l.count(a, func(r *Figures) { r.Lookups++ })
	match := func(page arrow.RecordBatch) (arrow.RecordBatch, []int32, error) {
		return a.match(b, keys, groupOfKey, page)
	}
	if a.hasOrdinals() {
		o := ordinals{access: a, groupOfKey: groupOfKey, numbers: numbers}
		match = func(page arrow.RecordBatch) (arrow.RecordBatch, []int32, error) { return o.match(b, page) }
	}
	for page, err := range l.scan(ctx, a, &q) {
		if err != nil {
			return err
		}
		if page.Record.NumRows() == 0 {
			continue
		}
		record, groupOf, err := match(page.Record)
		if err != nil {
			return err
		}
		if record == nil {
			continue
		}
		l.count(a, func(r *Figures) { r.Rows += record.NumRows() })
		if b.fetched += sources.Size(record); len(b.root.Refs) > 1 && b.fetched > l.maxBytes {
			return sources.NewError(sources.Exhausted, "", "", errTooMany)
		}
		emit(record, groupOf)
	}
	return nil
}

// scan returns the pages of a look-up, in the schema of the access.
func (l *Loader) scan(ctx context.Context, a *keyAccess, q *sources.Query) sources.Batches {
	session, err := l.session(ctx, a.table)
	if err != nil {
		return func(yield func(sources.Batch, error) bool) { yield(sources.Batch{}, err) }
	}
	pages := query.CheckSchema(ctx, a.table.Name, session.Scan(ctx, q), a.table.QuerySchema(q))
	residual := a.residual
	if a.hasOrdinals() {
		residual.Columns = append(slices.Clone(residual.Columns), sources.OrdinalColumn)
	}
	return query.PostProcess(l.countSkipped(a, pages), residual, l.mem, l.accounts, l.env.Page)
}

// countSkipped counts the records that the source skipped.
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

// match returns the rows of a page that belong to a group, with the group of each;
// nil if there are none.
func (a *keyAccess) match(b *batch, keys *keySet, groupOfKey []int32, page arrow.RecordBatch) (arrow.RecordBatch, []int32, error) {
	scratch := rows.NewArena(b.Mem)
	defer scratch.Release()
	count := int(page.NumRows())
	columns, original := make([]arrow.Array, len(a.keyIndexes)), make([]arrow.Array, len(a.keyIndexes))
	for i, index := range a.keyIndexes {
		original[i] = page.Column(index)
		columns[i] = rows.Keep(scratch, castKey(b.Mem, page.Schema().Field(index), original[i], a.keyTypes.Field(i)))
	}
	list := encodeKeys(scratch, columns, original, count)
	rowGroup := scratch.Ints(count)
	matched := 0
	var ranges []rows.Range
	for row := range count {
		rowGroup[row] = -1
		if list.state[row] == keyValid {
			if n := keys.find(list.at(row)); n >= 0 {
				rowGroup[row] = groupOfKey[n]
			}
		}
		if rowGroup[row] < 0 {
			continue
		}
		if n := len(ranges); n > 0 && ranges[n-1].From+ranges[n-1].Rows == row {
			ranges[n-1].Rows++
		} else if a.lookup == nil || n == 0 {
			ranges = append(ranges, rows.Range{From: row, Rows: 1})
		}
		matched++
	}
	if a.lookup != nil && matched < count {
		row := slices.Index(rowGroup, -1)
		return nil, nil, sources.Errorf(sources.Internal, "scan", a.table.Name, "the source returned a row with %s, which matches no requested key", describeColumns(a.keyFields(), original, row))
	}
	if matched == 0 {
		return nil, nil, nil
	}
	groupOf := b.Ints(matched)
	if matched == count {
		copy(groupOf, rowGroup)
		return b.hold(b.Retain(page)), groupOf, nil
	}
	at := 0
	for _, r := range ranges {
		at += copy(groupOf[at:], rowGroup[r.From:r.From+r.Rows])
	}
	return b.hold(rows.Keep(b.Arena, rows.CopyRanges(b.loader.mem, a.schema, []arrow.RecordBatch{page}, ranges))), groupOf, nil
}

// sortGroups sorts the rows of each group and applies the limit to each.
func (a *keyAccess) sortGroups(mem memory.Allocator, g *groups) {
	if len(a.order) > 0 && !a.sourceOrders && !a.atMostOne && len(g.Refs) > 1 {
		scratch := rows.NewArena(mem)
		defer scratch.Release()
		a.sortEach(scratch, g)
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

// sortEach sorts the rows of each group that are not in order yet.
func (a *keyAccess) sortEach(scratch *rows.Arena, g *groups) {
	compare := a.comparer(scratch, g.Set)
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
			order, sorted = scratch.Ints(len(g.Refs)), scratch.Refs(len(g.Refs))
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

// ranks returns the position of each row in the order of all rows of the set.
func (a *keyAccess) ranks(scratch *rows.Arena, rows rows.Set) []int32 {
	rank, order := scratch.Ints(len(rows.Refs)), scratch.Ints(len(rows.Refs))
	for i := range order {
		order[i] = int32(i)
	}
	if len(a.order) > 0 && !a.sourceOrders && len(order) > 1 {
		slices.SortFunc(order, a.comparer(scratch, rows))
	}
	for at, i := range order {
		rank[i] = int32(at)
	}
	return rank
}

// comparer returns a function that compares two rows of a set by the terms of the
// order, and equal ones by their index.
func (a *keyAccess) comparer(scratch *rows.Arena, set rows.Set) func(i, j int32) int {
	compares := make([]func(i, j int) int, len(a.order))
	for i, term := range a.order {
		index := a.schema.FieldIndices(term.Column)[0]
		column := rows.Keep(scratch, set.Column(scratch.Mem, index, a.schema.Field(index)))
		compares[i] = query.OrderComparer(a.schema.Field(index), column, term)
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

// keyFields returns the fields of the key columns, with their metadata.
func (a *keyAccess) keyFields() []arrow.Field {
	fields := make([]arrow.Field, len(a.key))
	for i, name := range a.key {
		fields[i] = a.table.Schema.Field(a.table.Column(name))
	}
	return fields
}

// describeColumns returns one row of columns as text, as in "id = 7, n = 1".
func describeColumns(columns []arrow.Field, values []arrow.Array, row int) string {
	text := ""
	for i, f := range columns {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s = %s", f.Name, sources.DescribeValue(f, sources.ValueAt(values[i], row)))
	}
	return text
}
