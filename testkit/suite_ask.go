package testkit

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// columns queries every second column in reverse order, and no columns.
func (t *table) columns() error {
	if err := t.require(sources.CapProject); err != nil {
		return err
	}
	var names []string
	var indexes []int
	for i := t.Schema.NumFields() - 1; i >= 0; i -= 2 {
		names, indexes = append(names, t.Schema.Field(i).Name), append(indexes, i)
	}
	for _, c := range []struct {
		names   []string
		indexes []int
	}{{names, indexes}, {[]string{}, nil}} {
		q := t.query()
		q.Columns = c.names
		want := make([][]sources.Value, len(t.rows))
		for i, row := range t.rows {
			for _, p := range c.indexes {
				want[i] = append(want[i], row[p])
			}
		}
		var got [][]sources.Value
		bytes := int64(0)
		err := t.begin(sources.Env{}, func(session sources.Session) error {
			for batch, err := range session.Scan(t.ctx, q) {
				if err != nil {
					return err
				}
				if err := conforms(batch.Record, t.ScanSchema(c.names)); err != nil {
					return err
				}
				got = append(got, rowsOf(batch.Record)...)
				if bytes += sources.Size(batch.Record); len(got) >= most || bytes >= mostBytes {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !t.whole && !t.Capabilities.Has(sources.CapStable) {
			continue
		}
		n := min(len(want), len(got))
		if t.whole {
			n = max(len(want), len(got))
		}
		if err := differ(want[:min(n, len(want))], got[:min(n, len(got))], t.Capabilities.Has(sources.CapStable)); err != nil {
			return fmt.Errorf("columns %q: %w", c.names, err)
		}
	}
	return nil
}

func (t *table) limit() error {
	if err := t.require(sources.CapLimit); err != nil {
		return err
	}
	for _, n := range []int{1, 3, 1000} {
		if !t.whole && n > len(t.rows) {
			break
		}
		q := t.query()
		q.Limit = int64(n)
		got, err := t.ask(q, sources.Env{Page: small})
		if err != nil {
			return err
		}
		want := t.rows[:min(n, len(t.rows))]
		if len(got) != len(want) {
			return fmt.Errorf("a limit of %d returns %d rows, want %d", n, len(got), len(want))
		}
		if t.Capabilities.Has(sources.CapStable) {
			if err := differ(want, got, true); err != nil {
				return fmt.Errorf("a limit of %d: %w", n, err)
			}
		}
	}
	return nil
}

// samples returns a few values of a column, as they are stored: by [sources.Compare],
// the least, the greatest and another one.
func (t *table) samples(column int) []sources.Value {
	var all []sources.Value
	for _, row := range t.rows {
		if !row[column].IsNull() {
			all = append(all, row[column])
		}
		if len(all) == 1000 {
			break
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, sources.Compare)
	return slices.Compact([]sources.Value{all[0], all[len(all)/3], all[len(all)-1]})
}

// conditions returns predicates on a column that the table accepts.
func (t *table) conditions(column int) []sources.Predicate {
	f := t.Schema.Field(column)
	ops := t.Filters[f.Name]
	var all []sources.Predicate
	if sources.Comparable(f.Type, f.Type) {
		samples := t.samples(column)
		literals := make([]sources.Value, len(samples))
		for i, v := range samples {
			literals[i] = literal(f, v)
			for op := sources.OpEq; op <= sources.OpGe; op++ {
				all = append(all, sources.Comparison{Column: f.Name, Op: op, Value: literals[i]})
			}
			if s, ok := v.V.(string); ok && sources.Comparable(f.Type, arrow.BinaryTypes.String) {
				head, tail := ends(s)
				all = append(all, sources.HasPrefix{Column: f.Name, Prefix: head},
					sources.Like{Column: f.Name, Pattern: "%" + escapeLike(tail)},
					sources.Like{Column: f.Name, Pattern: escapeLike(head) + "_%"}, sources.Like{Column: f.Name, Pattern: "%"})
			}
		}
		if len(samples) > 0 {
			null := sources.Null(literals[0].Type)
			all = append(all, sources.In{Column: f.Name, Values: literals}, sources.In{Column: f.Name, Values: append([]sources.Value{null}, literals[0])},
				sources.Comparison{Column: f.Name, Op: sources.OpEq, Value: null})
		}
		all = append(all, sources.In{Column: f.Name})
	}
	all = append(all, sources.IsNull{Column: f.Name}, sources.IsNull{Column: f.Name, Not: true})
	return slices.DeleteFunc(all, func(p sources.Predicate) bool {
		_, op, _ := sources.Leaf(p)
		return !ops.Has(op)
	})
}

// ends returns the first two characters of a text, and its second half but at most 32
// characters of it: a server may take minutes to find a pattern of megabytes.
func ends(s string) (head, tail string) {
	first := []rune(s[:min(len(s), 2*utf8.UTFMax)])
	from := len(s)
	for range min(32, (utf8.RuneCountInString(s)+1)/2) {
		_, size := utf8.DecodeLastRuneInString(s[:from])
		from -= size
	}
	return string(first[:min(2, len(first))]), s[from:]
}

func escapeLike(s string) string {
	var out []rune
	for _, r := range s {
		if r == '%' || r == '_' || r == '\\' {
			out = append(out, '\\')
		}
		out = append(out, r)
	}
	return string(out)
}

// expect compares the result of a predicate with that of [table.truth].
func (t *table) expect(p sources.Predicate) error {
	q := t.query()
	q.Where = p
	got, err := t.ask(q, sources.Env{})
	if err != nil {
		return fmt.Errorf("where %s: %w", p, err)
	}
	reference := t.reference()
	var want [][]sources.Value
	for i, row := range t.rows {
		truth, err := t.truth(reference, p, i)
		if err != nil {
			return fmt.Errorf("where %s: %w", p, err)
		}
		if truth == sources.True {
			want = append(want, row)
		}
	}
	if err := differ(want, got, false); err != nil {
		return fmt.Errorf("where %s: %w", p, err)
	}
	return nil
}

func (t *table) where() error {
	if len(t.Filters) == 0 {
		return skipped("the table accepts no filters")
	}
	if err := t.requireWhole(); err != nil {
		return err
	}
	var two []sources.Predicate
	for i := range t.Schema.NumFields() {
		conditions := t.conditions(i)
		for _, p := range conditions {
			if err := t.expect(p); err != nil {
				return err
			}
		}
		if len(conditions) > 0 {
			two = append(two, conditions[len(conditions)/2])
		}
	}
	return t.expect(sources.And(two[:min(2, len(two))]))
}

func (t *table) logic() error {
	if err := t.require(sources.CapLogic); err != nil {
		return err
	}
	if err := t.requireWhole(); err != nil {
		return err
	}
	var leaves []sources.Predicate
	for i := range t.Schema.NumFields() {
		if conditions := t.conditions(i); len(conditions) > 0 {
			leaves = append(leaves, conditions[0], conditions[len(conditions)-1])
		}
	}
	if len(leaves) == 0 {
		return skipped("the table accepts no filters")
	}
	for i := range min(8, len(leaves)) {
		a, b, c := leaves[i], leaves[(i+1)%len(leaves)], leaves[(i*3+2)%len(leaves)]
		for _, p := range []sources.Predicate{
			sources.Or{a, b}, sources.Not{Predicate: a}, sources.Not{Predicate: sources.And{a, c}},
			sources.Or{sources.And{a, b}, sources.Not{Predicate: c}}, sources.Or{}, sources.And{},
		} {
			if err := t.expect(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// keys looks up rows by some existing keys, a key that is listed twice, and a key with a
// NULL.
func (t *table) keys() error {
	if len(t.Lookups) == 0 {
		return skipped("the table has no lookups")
	}
	if err := t.requireWhole(); err != nil {
		return err
	}
	for _, l := range t.Lookups {
		if l.Ordinals {
			continue
		}
		if err := t.lookup(l); err != nil {
			return fmt.Errorf("lookup by %q: %w", l.Columns, err)
		}
	}
	return nil
}

func (t *table) lookup(l sources.Lookup) error {
	indexes := make([]int, len(l.Columns))
	fields := make([]arrow.Field, len(l.Columns))
	for i, c := range l.Columns {
		indexes[i] = t.Column(c)
		fields[i] = keyField(t.Schema.Field(indexes[i]))
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	wanted, listed := map[string]bool{}, 0
	list := func(key []sources.Value) {
		if l.MaxKeys > 0 && listed >= l.MaxKeys {
			return
		}
		listed++
		for i, v := range key {
			if v.IsNull() {
				b.Field(i).AppendNull()
			} else {
				sources.AppendValue(b.Field(i), v)
			}
		}
	}
	keyOf := func(row []sources.Value) (key []sources.Value, null bool) {
		for i, p := range indexes {
			key, null = append(key, literal(fields[i], row[p])), null || row[p].IsNull()
		}
		return key, null
	}
	for i := 0; i < len(t.rows); i += 1 + len(t.rows)/10 {
		key, null := keyOf(t.rows[i])
		if null {
			continue
		}
		if list(key); l.MaxKeys == 0 || listed <= l.MaxKeys {
			wanted[text(key)] = true
		}
		if i == 0 {
			list(key)
		}
	}
	nulls := make([]sources.Value, len(indexes))
	for i, f := range fields {
		nulls[i] = sources.Null(sources.FieldType(f))
	}
	list(nulls)
	values := b.NewRecordBatch()
	defer values.Release()
	var want [][]sources.Value
	for _, row := range t.rows {
		if key, null := keyOf(row); !null && wanted[text(key)] {
			want = append(want, row)
		}
	}
	q := t.query()
	q.Keys = &sources.Keys{Columns: l.Columns, Values: values}
	got, err := t.ask(q, sources.Env{})
	if err != nil {
		return err
	}
	if err := differ(want, got, false); err != nil {
		return err
	}
	q.Keys = &sources.Keys{Columns: l.Columns, Values: values, LimitPerKey: 1}
	if got, err = t.ask(q, sources.Env{}); err != nil {
		return err
	}
	given := map[string]bool{}
	for _, row := range got {
		key, _ := keyOf(row)
		if given[text(key)] || !wanted[text(key)] {
			return fmt.Errorf("with LimitPerKey 1, the key %s has more than one row or is not in the query", text(key))
		}
		given[text(key)] = true
	}
	has := map[string]bool{}
	for _, row := range want {
		key, _ := keyOf(row)
		has[text(key)] = true
	}
	if len(given) != len(has) {
		return fmt.Errorf("with LimitPerKey 1, %d keys have a row, want %d", len(given), len(has))
	}
	return nil
}

func (t *table) order() error {
	if err := t.require(sources.CapSort); err != nil {
		return err
	}
	for i, f := range t.Schema.Fields() {
		m := meaningOf(f)
		if !sources.Comparable(f.Type, f.Type) && m.CanOrder() {
			continue
		}
		for _, s := range []sources.Sort{{Column: f.Name}, {Column: f.Name, NullsFirst: true}, {Column: f.Name, Desc: true}, {Column: f.Name, Desc: true, NullsFirst: true}} {
			q := t.query()
			q.OrderBy = []sources.Sort{s}
			got, err := t.ask(q, sources.Env{})
			if err != nil {
				return fmt.Errorf("order by %+v: %w", s, err)
			}
			for j := 1; j < len(got); j++ {
				x, y := m.ordered(got[j-1][i]), m.ordered(got[j][i])
				if !m.CanOrder() && !x.IsNull() && !y.IsNull() {
					continue // see the rule about the meaning
				}
				if CompareBy(s, x, y) > 0 {
					return fmt.Errorf("order by %+v: %s comes before %s", s, got[j-1][i], got[j][i])
				}
			}
			if t.whole {
				if err := differ(t.rows, got, false); err != nil {
					return fmt.Errorf("order by %+v: %w", s, err)
				}
			}
		}
	}
	return nil
}

func (t *table) parts() error {
	if err := t.require(sources.CapPartition); err != nil {
		return err
	}
	if err := t.requireWhole(); err != nil {
		return err
	}
	return t.begin(sources.Env{}, func(session sources.Session) error {
		plan, err := session.Plan(t.ctx, t.query())
		if err != nil {
			return err
		}
		if len(plan.Parts) == 0 {
			if len(t.rows) > 0 {
				return errors.New("the plan of a table with rows has no partitions")
			}
			return nil
		}
		var all [][]sources.Value
		for _, part := range plan.Parts {
			q := t.query()
			q.Part = part
			rows, err := collect(session.Scan(t.ctx, q), most)
			if err != nil {
				return err
			}
			all = append(all, rows...)
		}
		return differ(t.rows, all, false)
	})
}

func (t *table) snapshot() error {
	if err := t.require(sources.CapSnapshot); err != nil {
		return err
	}
	return t.begin(sources.Env{}, func(first sources.Session) error {
		plan, err := first.Plan(t.ctx, t.query())
		if err != nil {
			return err
		}
		if plan.Snapshot == "" {
			return nil // another session cannot use it
		}
		rows, err := t.ask(t.query(), sources.Env{Snapshot: plan.Snapshot})
		if err != nil {
			return fmt.Errorf("using the snapshot %q: %w", plan.Snapshot, err)
		}
		if !t.whole {
			return nil
		}
		return differ(t.rows, rows, false)
	})
}
