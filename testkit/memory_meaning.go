package testkit

import (
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// meaning is how the source in memory compares the values of a column. It has a form
// of each value such that [sources.Compare] compares the forms as the column's
// [sources.Meaning] says: one for equality and one for the order.
type meaning struct {
	sources.Meaning
	field arrow.Field
}

func meaningOf(f arrow.Field) meaning { return meaning{Meaning: sources.MeaningOf(f), field: f} }

// check returns an error of kind [sources.Invalid] if the meaning does not allow v.
func (m meaning) check(v sources.Value) error {
	text, ok := v.V.(string)
	if !ok {
		return nil
	}
	if _, number := sources.ParseNumber(text); sources.FieldType(m.field) == sources.Number && !number {
		return sources.Errorf(sources.Invalid, "", "", "column %q: %s is not a number", m.field.Name, v)
	}
	if m.Order == sources.ByLabels && !slices.Contains(m.Labels, text) {
		return sources.Errorf(sources.Invalid, "", "", "column %q has no label %s%s", m.field.Name, v, sources.Suggest(text, m.Labels))
	}
	return nil
}

// equal returns the form of a value, of the column or a literal, for equality.
func (m meaning) equal(v sources.Value) sources.Value {
	text, ok := v.V.(string)
	switch {
	case !ok:
	case m.Equality == sources.BySource:
		v.V = strings.ToLower(text)
	case sources.FieldType(m.field) == sources.Number:
		v, _ = sources.ParseNumber(text)
	}
	return v
}

// ordered returns the form of a value, of the column or a literal, for the order.
func (m meaning) ordered(v sources.Value) sources.Value {
	text, ok := v.V.(string)
	switch {
	case !ok:
	case m.Order == sources.ByLabels:
		return sources.Int(int64(slices.Index(m.Labels, text)))
	case m.Order == sources.BySource && m.Equality == sources.BySource:
		v.V = strings.ToLower(text)
	case m.Order == sources.BySource: // values that differ are not equal
		v.V = strings.ToLower(text) + "\x00" + text
	case m.Order == sources.ByNumber || sources.FieldType(m.field) == sources.Number:
		v, _ = sources.ParseNumber(text)
	}
	return v
}

// The names of a column's values as they are, and of their forms for equality and for
// the order, are the column's name after one of these bytes.
const (
	asStored = "."
	asEqual  = "="
	asOrder  = "<"
)

// translated returns the value that a name in a translated predicate has in a row.
func (t *memoryTable) translated(row int, name string) sources.Value {
	column := t.column[name[1:]]
	v := t.values[row][column]
	switch name[:1] {
	case asEqual:
		return t.meanings[column].equal(v)
	case asOrder:
		return t.meanings[column].ordered(v)
	}
	return v
}

// translate returns a predicate over the names of [memoryTable.translated], whose
// meaning under [sources.Eval] is that of p.
func (t *memoryTable) translate(p sources.Predicate) (sources.Predicate, error) {
	all := func(ps []sources.Predicate) ([]sources.Predicate, error) {
		out := make([]sources.Predicate, len(ps))
		for i, p := range ps {
			var err error
			if out[i], err = t.translate(p); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	switch p := p.(type) {
	case sources.And:
		terms, err := all(p)
		return sources.And(terms), err
	case sources.Or:
		terms, err := all(p)
		return sources.Or(terms), err
	case sources.Not:
		term, err := t.translate(p.Predicate)
		return sources.Not{Predicate: term}, err
	case sources.Comparison:
		m := t.meanings[t.column[p.Column]]
		if p.Op == sources.OpEq || p.Op == sources.OpNe {
			p.Column, p.Value = asEqual+p.Column, m.equal(p.Value)
			return p, nil
		}
		err := m.check(p.Value)
		p.Column, p.Value = asOrder+p.Column, m.ordered(p.Value)
		return p, err
	case sources.In:
		m := t.meanings[t.column[p.Column]]
		in := sources.In{Column: asEqual + p.Column}
		for _, v := range p.Values {
			in.Values = append(in.Values, m.equal(v))
		}
		return in, nil
	case sources.IsNull:
		p.Column = asStored + p.Column
		return p, nil
	case sources.HasPrefix:
		p.Column = asStored + p.Column
		return p, nil
	case sources.Like:
		p.Column = asStored + p.Column
		return p, nil
	}
	return p, nil
}

// folds reports whether the equality of one of the columns ignores the case of letters.
func (m *inMemory) folds(table string, columns []string) bool {
	t := m.tables[table]
	return t != nil && slices.ContainsFunc(columns, func(c string) bool {
		i, ok := t.column[c]
		return ok && t.meanings[i].Equality == sources.BySource
	})
}

// withOrdinals returns the rows that equal each key, up to the limit for each key. A
// column of a key ignores the case of letters if the table's column does, or the one
// that the keys come from.
func (m *inMemory) withOrdinals(rows []int, q *sources.Query) []answer {
	t, keys := m.tables[q.Table], q.Keys
	fold := func(i int, v sources.Value) sources.Value {
		text, ok := v.V.(string)
		folds := m.folds(q.Table, keys.Columns[i:i+1]) || keys.From != nil && m.folds(keys.From.Table, keys.From.Columns[i:i+1])
		if ok && folds {
			v.V = strings.ToLower(text)
		}
		return v
	}
	var kept []answer
	for k := range int(keys.Values.NumRows()) {
		found := 0
		for _, row := range rows {
			equal := true
			for i, name := range keys.Columns {
				f := keys.Values.Schema().Field(i)
				column := t.column[name]
				key, v := fold(i, sources.FieldValueAt(f, keys.Values.Column(i), k)), fold(i, t.meanings[column].equal(t.values[row][column]))
				if equal = !key.IsNull() && !v.IsNull() && sources.Comparable(key.Type, v.Type) && sources.Compare(key, v) == 0; !equal {
					break
				}
			}
			if equal && (keys.LimitPerKey == 0 || found < keys.LimitPerKey) {
				kept = append(kept, answer{row, k})
				found++
			}
		}
	}
	return kept
}
