package query

import (
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// matcher evaluates a predicate over records, one column at a time. Its results
// are those of [sources.Eval].
type matcher interface {
	// match sets truth[i] to the predicate's truth for row i. truth has one
	// element for each row of the record.
	match(record arrow.RecordBatch, truth []sources.Truth)
}

// compileMatcher returns a matcher of the predicate for records with that schema.
// The literals must be of their columns' types where those types can represent
// them.
func compileMatcher(p sources.Predicate, schema *arrow.Schema) matcher {
	column := func(name string) int { return schema.FieldIndices(name)[0] }
	switch p := p.(type) {
	case sources.And:
		return junction{terms: compileMatchers(p, schema), neutral: sources.True, combine: func(a, b sources.Truth) sources.Truth { return min(a, b) }}
	case sources.Or:
		return junction{terms: compileMatchers(p, schema), neutral: sources.False, combine: func(a, b sources.Truth) sources.Truth { return max(a, b) }}
	case sources.Not:
		return negation{compileMatcher(p.Predicate, schema)}
	case sources.IsNull:
		return leaf{column(p.Column), func(a arrow.Array, truth []sources.Truth) {
			// A column of type null has no validity bitmap.
			allNull := a.DataType().ID() == arrow.NULL
			for i := range truth {
				truth[i] = truthOf((allNull || a.IsNull(i)) != p.Not)
			}
		}}
	case sources.Comparison:
		if p.Value.IsNull() {
			return constant(sources.Unknown)
		}
		field, literal := schema.Field(column(p.Column)), newLiterals([]sources.Value{p.Value})
		return leaf{column(p.Column), func(a arrow.Array, truth []sources.Truth) {
			compare := literal.comparer(field, p.Op, a)
			for i := range truth {
				if a.IsValid(i) {
					truth[i] = truthOf(p.Op.Holds(compare(i, 0)))
				}
			}
		}}
	case sources.In:
		return compileIn(p, column(p.Column), schema.Field(column(p.Column)))
	case sources.HasPrefix:
		return leaf{column(p.Column), func(a arrow.Array, truth []sources.Truth) {
			matchText(a, truth, func(s string) bool { return strings.HasPrefix(s, p.Prefix) })
		}}
	case sources.Like:
		return leaf{column(p.Column), func(a arrow.Array, truth []sources.Truth) {
			matchText(a, truth, func(s string) bool { return sources.MatchLike(s, p.Pattern) })
		}}
	}
	return constant(sources.True) // a nil predicate
}

func compileMatchers(predicates []sources.Predicate, schema *arrow.Schema) []matcher {
	matchers := make([]matcher, len(predicates))
	for i, p := range predicates {
		matchers[i] = compileMatcher(p, schema)
	}
	return matchers
}

// compileIn returns a matcher that finds a column's values in the list by binary
// search. There is one search for each type among the literals: those that the
// column's type cannot represent keep a type of their own.
func compileIn(p sources.In, column int, field arrow.Field) matcher {
	if len(p.Values) == 0 {
		return constant(sources.False)
	}
	notFound := sources.False
	byType := map[string][]sources.Value{}
	for _, v := range p.Values {
		if v.IsNull() {
			notFound = sources.Unknown
			continue
		}
		byType[v.Type.String()] = append(byType[v.Type.String()], v)
	}
	var lists []literals
	for _, values := range byType {
		slices.SortFunc(values, sources.Compare)
		lists = append(lists, newLiterals(values))
	}
	return leaf{column, func(a arrow.Array, truth []sources.Truth) {
		compares := make([]func(i, j int) int, len(lists))
		for k, list := range lists {
			compares[k] = list.comparer(field, sources.OpIn, a)
		}
		for i := range truth {
			if a.IsNull(i) {
				continue
			}
			truth[i] = notFound
			for k, list := range lists {
				if contains(len(list.values), func(j int) int { return compares[k](i, j) }) {
					truth[i] = sources.True
					break
				}
			}
		}
	}}
}

// contains reports whether compare is 0 for an element of an ordered list of
// length n, by binary search.
func contains(n int, compare func(j int) int) bool {
	low, high := 0, n
	for low < high {
		middle := int(uint(low+high) / 2)
		switch c := compare(middle); {
		case c == 0:
			return true
		case c > 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return false
}

// literals are literals of one type, also as a column.
type literals struct {
	values []sources.Value
	column arrow.Array
}

func newLiterals(values []sources.Value) literals { return literals{values, literalArray(values)} }

// comparer returns a function that compares row i of a column with literal j. For =, <>
// and in, it compares as [sources.Compare] does, by which lists are sorted.
func (l literals) comparer(field arrow.Field, op sources.Op, a arrow.Array) func(i, j int) int {
	isNumber := l.values[0].Type == sources.Number
	switch column := sources.FieldType(field) == sources.Number; {
	case column && isNumber:
		return rows.NumberComparer(field.Name, a, l.column)
	case column || isNumber:
		return func(i, j int) int { return sources.Compare(sources.FieldValueAt(field, a, i), l.values[j]) }
	case op == sources.OpEq || op == sources.OpNe || op == sources.OpIn:
		return rows.Comparer(a, l.column)
	}
	return rows.OrderComparer(field, a, l.column)
}

// literalArray returns literals of one type as a column. Its memory is small and
// lives as long as the stream, and is not charged to the stream's budget.
func literalArray(values []sources.Value) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, values[0].Type)
	defer b.Release()
	for _, v := range values {
		sources.AppendValue(b, v)
	}
	return b.NewArray()
}

// leaf is a predicate on one column.
type leaf struct {
	column int
	// eval sets the truth of the rows whose value is not NULL, or of all rows.
	// Every element of truth is Unknown when it is called.
	eval func(a arrow.Array, truth []sources.Truth)
}

func (l leaf) match(record arrow.RecordBatch, truth []sources.Truth) {
	clear(truth)
	l.eval(record.Column(l.column), truth)
}

// constant is a predicate with the same truth for every row.
type constant sources.Truth

func (c constant) match(_ arrow.RecordBatch, truth []sources.Truth) {
	for i := range truth {
		truth[i] = sources.Truth(c)
	}
}

// negation is the opposite of a predicate.
type negation struct{ inner matcher }

func (n negation) match(record arrow.RecordBatch, truth []sources.Truth) {
	n.inner.match(record, truth)
	for i := range truth {
		truth[i] = -truth[i]
	}
}

// junction is a conjunction or disjunction of terms.
type junction struct {
	terms   []matcher
	neutral sources.Truth
	combine func(a, b sources.Truth) sources.Truth
}

func (j junction) match(record arrow.RecordBatch, truth []sources.Truth) {
	constant(j.neutral).match(record, truth)
	term := make([]sources.Truth, len(truth))
	for _, m := range j.terms {
		m.match(record, term)
		for i := range truth {
			truth[i] = j.combine(truth[i], term[i])
		}
	}
}

// matchText sets truth by a function of a column's text, for each type that text
// can have.
func matchText(a arrow.Array, truth []sources.Truth, holds func(string) bool) {
	if e, ok := a.(array.ExtensionArray); ok {
		a = e.Storage()
	}
	var valueAt func(i int) string
	switch a := a.(type) {
	case interface{ Value(int) string }:
		valueAt = a.Value
	default: // dictionaries
		valueAt = func(i int) string { return sources.ValueAt(a, i).V.(string) }
	}
	for i := range truth {
		if a.IsValid(i) {
			truth[i] = truthOf(holds(valueAt(i)))
		}
	}
}

func truthOf(b bool) sources.Truth {
	if b {
		return sources.True
	}
	return sources.False
}
