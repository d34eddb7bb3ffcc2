package testkit

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// literal returns a value of a column, as it is stored, as a literal.
func literal(f arrow.Field, v sources.Value) sources.Value {
	if sources.FieldType(f) != sources.Number {
		return v
	}
	if text, ok := v.V.(string); ok {
		n, _ := sources.ParseNumber(text) // the rule about the meaning checks it
		return n
	}
	return sources.Null(sources.Number)
}

// reference returns the rows as the source in memory evaluates them.
func (t *table) reference() *memoryTable {
	m := &memoryTable{values: t.rows, column: map[string]int{}}
	for i, f := range t.Schema.Fields() {
		m.column[f.Name] = i
		m.meanings = append(m.meanings, meaningOf(f))
	}
	return m
}

// onlySource reports whether only the source can evaluate a predicate on one column.
func (t *table) onlySource(p sources.Predicate) bool {
	column, op, _ := sources.Leaf(p)
	m := sources.MeaningOf(t.Schema.Field(t.Column(column)))
	switch {
	case op == sources.OpEq, op == sources.OpNe, op == sources.OpIn:
		return !m.CanEqual()
	case op >= sources.OpLt && op <= sources.OpGe:
		return !m.CanOrder()
	}
	return false
}

// truth returns the truth of a predicate for the row with that index. What only the
// source can evaluate, it asks the source, one term at a time.
func (t *table) truth(reference *memoryTable, p sources.Predicate, row int) (sources.Truth, error) {
	fold := func(ps []sources.Predicate, neutral sources.Truth, combine func(a, b sources.Truth) sources.Truth) (sources.Truth, error) {
		for _, p := range ps {
			truth, err := t.truth(reference, p, row)
			if err != nil {
				return 0, err
			}
			neutral = combine(neutral, truth)
		}
		return neutral, nil
	}
	switch p := p.(type) {
	case sources.And:
		return fold(p, sources.True, func(a, b sources.Truth) sources.Truth { return min(a, b) })
	case sources.Or:
		return fold(p, sources.False, func(a, b sources.Truth) sources.Truth { return max(a, b) })
	case sources.Not:
		truth, err := t.truth(reference, p.Predicate, row)
		return -truth, err
	}
	if !t.onlySource(p) {
		translated, err := reference.translate(p)
		return sources.Eval(translated, func(name string) sources.Value { return reference.translated(row, name) }), err
	}
	selected, err := t.selected(p)
	if err != nil {
		return 0, err
	}
	column, _, _ := sources.Leaf(p)
	null := t.rows[row][t.Column(column)].IsNull()
	switch p := p.(type) {
	case sources.Comparison:
		null = null || p.Value.IsNull()
	case sources.In:
		null = len(p.Values) > 0 && (null || slices.ContainsFunc(p.Values, sources.Value.IsNull))
	}
	switch {
	case selected[text(t.rows[row])]:
		return sources.True, nil
	case null:
		return sources.Unknown, nil
	}
	return sources.False, nil
}

// selected returns the rows, as text, that the source selects by a predicate.
func (t *table) selected(p sources.Predicate) (map[string]bool, error) {
	if rows, ok := t.answers[p.String()]; ok {
		return rows, nil
	}
	q := t.query()
	q.Where = p
	rows, err := t.ask(q, sources.Env{})
	if err != nil {
		return nil, err
	}
	selected := map[string]bool{}
	for _, row := range rows {
		selected[text(row)] = true
	}
	if t.answers == nil {
		t.answers = map[string]map[string]bool{}
	}
	t.answers[p.String()] = selected
	return selected, nil
}

// meaning checks that the values of the columns are as their meanings say, and that
// the answers of the source about values that only it can compare agree.
func (t *table) meaning() error {
	var faults []error
	for i, f := range t.Schema.Fields() {
		m := meaningOf(f)
		for _, row := range t.rows {
			if err := m.check(row[i]); err != nil {
				faults = append(faults, err)
				break
			}
		}
		if err := t.laws(i, f, m); err != nil {
			faults = append(faults, fmt.Errorf("column %q: %w", f.Name, err))
		}
	}
	return errors.Join(faults...)
}

// laws checks a column that only the source can compare.
func (t *table) laws(column int, f arrow.Field, m meaning) error {
	if !t.whole || m.CanEqual() && m.CanOrder() || !sources.Comparable(f.Type, f.Type) {
		return nil
	}
	for _, v := range t.samples(column) {
		if err := t.lawsOf(column, f, m, v); err != nil {
			return fmt.Errorf("the value %s: %w", v, err)
		}
	}
	return nil
}

// lawsOf checks what the source says about a value and the other values of its column.
func (t *table) lawsOf(column int, f arrow.Field, m meaning, v sources.Value) error {
	accepts := t.Filters[f.Name]
	// is returns the truth of "row op v" for each row, or nil if the source does not say.
	is := func(op sources.Op) ([]bool, error) {
		if !accepts.Has(op) {
			return nil, nil
		}
		selected, err := t.selected(sources.Comparison{Column: f.Name, Op: op, Value: literal(f, v)})
		if err != nil {
			return nil, err
		}
		truths := make([]bool, len(t.rows))
		for i, row := range t.rows {
			truths[i] = selected[text(row)]
		}
		return truths, nil
	}
	var answers [sources.OpGe + 1][]bool
	for op := range answers {
		var err error
		if answers[op], err = is(sources.Op(op)); err != nil {
			return err
		}
	}
	for i, row := range t.rows {
		w := row[column]
		says := func(op sources.Op) bool { return answers[op] != nil && answers[op][i] }
		for op := range answers {
			if w.IsNull() && says(sources.Op(op)) {
				return fmt.Errorf("NULL %s it", sources.Op(op))
			}
		}
		if w.IsNull() {
			continue
		}
		same := w.V == v.V
		for _, p := range [][2]sources.Op{{sources.OpEq, sources.OpNe}, {sources.OpLt, sources.OpGe}, {sources.OpGt, sources.OpLe}} {
			if answers[p[0]] != nil && answers[p[1]] != nil && says(p[0]) == says(p[1]) {
				return fmt.Errorf("%s is both or neither %s and %s it", w, p[0], p[1])
			}
		}
		switch {
		case same && answers[sources.OpEq] != nil && !says(sources.OpEq), same && says(sources.OpNe):
			return errors.New("it does not equal itself")
		case same && (says(sources.OpLt) || says(sources.OpGt)):
			return errors.New("it is smaller or greater than itself")
		case says(sources.OpLt) && says(sources.OpGt):
			return fmt.Errorf("%s is smaller and greater", w)
		case !m.CanEqual() && !m.CanOrder() && says(sources.OpEq) && (says(sources.OpLt) || says(sources.OpGt)):
			return fmt.Errorf("%s is equal, and smaller or greater", w)
		}
	}
	return t.sortedAround(column, f, m, v)
}

// sortedAround checks that the order of the source has the values that are smaller than
// v before the others.
func (t *table) sortedAround(column int, f arrow.Field, m meaning, v sources.Value) error {
	if m.CanOrder() || !t.Capabilities.Has(sources.CapSort) || !t.Filters[f.Name].Has(sources.OpLt) {
		return nil
	}
	smaller, err := t.selected(sources.Comparison{Column: f.Name, Op: sources.OpLt, Value: literal(f, v)})
	if err != nil {
		return err
	}
	for _, desc := range []bool{false, true} {
		q := t.query()
		q.OrderBy = []sources.Sort{{Column: f.Name, Desc: desc}}
		rows, err := t.ask(q, sources.Env{})
		if err != nil {
			return err
		}
		passed := false // a row that belongs after v
		for _, row := range rows {
			switch before := smaller[text(row)] != desc; {
			case row[column].IsNull():
			case !before:
				passed = true
			case passed:
				return fmt.Errorf("%s is on the wrong side of it in the order (descending %t)", row[column], desc)
			}
		}
	}
	return nil
}

// checkMeanings calls fault for each meaning of the table that is not valid.
func checkMeanings(t *sources.Table, fault func(format string, args ...any)) {
	for _, f := range t.Schema.Fields() {
		m := sources.MeaningOf(f)
		text := sources.Comparable(f.Type, arrow.BinaryTypes.String)
		if (m.Equality == sources.ByNumber || m.Order == sources.ByNumber || m.Order == sources.ByLabels) && !text {
			fault("table %s: column %q is %s, but its meaning is one of text", t.Name, f.Name, f.Type)
		}
		if sorted := slices.Sorted(slices.Values(m.Labels)); len(slices.Compact(sorted)) < len(m.Labels) {
			fault("table %s: column %q has a label twice: %q", t.Name, f.Name, m.Labels)
		}
		if f.Name == sources.OrdinalColumn {
			fault("table %s has a column with the reserved name %q", t.Name, f.Name)
		}
	}
	for _, l := range t.Lookups {
		for _, c := range l.Columns {
			if i := t.Column(c); i >= 0 && !l.Ordinals && !sources.MeaningOf(t.Schema.Field(i)).CanEqual() {
				fault("table %s: only the source can tell which values of column %q are equal, but the lookup by %q has no ordinals", t.Name, c, l.Columns)
			}
		}
	}
}
