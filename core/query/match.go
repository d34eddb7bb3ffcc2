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

// matcher evaluates a predicate over a record, a column at a time. It means
// what [sources.Eval] means.
type matcher interface {
	// match writes the predicate's truth for each row of the record.
	match(record arrow.RecordBatch, truth []sources.Truth)
}

// compileMatcher returns the matcher of a predicate over records of a schema. Its
// literals are in the types of their columns where those can hold them.
func compileMatcher(p sources.Predicate, schema *arrow.Schema) matcher {
	column := func(name string) int { return schema.FieldIndices(name)[0] }
	switch p := p.(type) {
	case sources.And:
		return junction{terms: compileMatchers(p, schema), neutral: sources.True, join: func(a, b sources.Truth) sources.Truth { return min(a, b) }}
	case sources.Or:
		return junction{terms: compileMatchers(p, schema), neutral: sources.False, join: func(a, b sources.Truth) sources.Truth { return max(a, b) }}
	case sources.Not:
		return negation{compileMatcher(p.Predicate, schema)}
	case sources.IsNull:
		return leaf{column(p.Column), func(a arrow.Array, truth []sources.Truth) {
			// A column of type null has no bitmap that would say so.
			all := a.DataType().ID() == arrow.NULL
			for i := range truth {
				truth[i] = truthOf((all || a.IsNull(i)) != p.Not)
			}
		}}
	case sources.Comparison:
		if p.Value.IsNull() {
			return constant(sources.Unknown)
		}
		literal := literalArray([]sources.Value{p.Value})
		return leaf{column(p.Column), func(a arrow.Array, truth []sources.Truth) {
			compare := rows.Comparer(a, literal)
			for i := range truth {
				if a.IsValid(i) {
					truth[i] = truthOf(p.Op.Holds(compare(i, 0)))
				}
			}
		}}
	case sources.In:
		return compileIn(p, column(p.Column))
	case sources.HasPrefix:
		return leaf{column(p.Column), func(a arrow.Array, truth []sources.Truth) {
			matchText(a, truth, func(s string) bool { return strings.HasPrefix(s, p.Prefix) })
		}}
	case sources.Like:
		return leaf{column(p.Column), func(a arrow.Array, truth []sources.Truth) {
			matchText(a, truth, func(s string) bool { return sources.MatchLike(s, p.Pattern) })
		}}
	}
	return constant(sources.True) // nil keeps every row
}

func compileMatchers(ps []sources.Predicate, schema *arrow.Schema) []matcher {
	all := make([]matcher, len(ps))
	for i, p := range ps {
		all[i] = compileMatcher(p, schema)
	}
	return all
}

// compileIn searches the list by halves. The literals of other types than the
// rest, which the column cannot hold or which nobody could convert, are looked
// at one by one.
func compileIn(p sources.In, column int) matcher {
	if len(p.Values) == 0 {
		return constant(sources.False)
	}
	miss := sources.False
	byType := map[string][]sources.Value{}
	for _, v := range p.Values {
		if v.IsNull() {
			miss = sources.Unknown
			continue
		}
		byType[v.Type.String()] = append(byType[v.Type.String()], v)
	}
	var lists []arrow.Array
	for _, values := range byType {
		slices.SortFunc(values, sources.Compare)
		lists = append(lists, literalArray(values))
	}
	return leaf{column, func(a arrow.Array, truth []sources.Truth) {
		compares := make([]func(i, j int) int, len(lists))
		for k, list := range lists {
			compares[k] = rows.Comparer(a, list)
		}
		for i := range truth {
			if a.IsNull(i) {
				continue
			}
			truth[i] = miss
			for k, list := range lists {
				if contains(list.Len(), func(j int) int { return compares[k](i, j) }) {
					truth[i] = sources.True
					break
				}
			}
		}
	}}
}

// contains searches n ordered places for one where compare is 0.
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

// literalArray makes a column of literals of one type. They are few, and live
// as long as the stream, so they are not of its budget.
func literalArray(values []sources.Value) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, values[0].Type)
	defer b.Release()
	for _, v := range values {
		sources.AppendValue(b, v)
	}
	return b.NewArray()
}

// leaf is a predicate on one column. Its function finds every truth Unknown and
// sets those of the rows that are not NULL, or all.
type leaf struct {
	column int
	f      func(a arrow.Array, truth []sources.Truth)
}

func (l leaf) match(record arrow.RecordBatch, truth []sources.Truth) {
	clear(truth)
	l.f(record.Column(l.column), truth)
}

type constant sources.Truth

func (c constant) match(_ arrow.RecordBatch, truth []sources.Truth) {
	for i := range truth {
		truth[i] = sources.Truth(c)
	}
}

type negation struct{ of matcher }

func (n negation) match(record arrow.RecordBatch, truth []sources.Truth) {
	n.of.match(record, truth)
	for i := range truth {
		truth[i] = -truth[i]
	}
}

type junction struct {
	terms   []matcher
	neutral sources.Truth
	join    func(a, b sources.Truth) sources.Truth
}

func (j junction) match(record arrow.RecordBatch, truth []sources.Truth) {
	constant(j.neutral).match(record, truth)
	term := make([]sources.Truth, len(truth))
	for _, m := range j.terms {
		m.match(record, term)
		for i := range truth {
			truth[i] = j.join(truth[i], term[i])
		}
	}
}

// matchText runs over text of any of its types.
func matchText(a arrow.Array, truth []sources.Truth, holds func(string) bool) {
	if e, ok := a.(array.ExtensionArray); ok {
		a = e.Storage()
	}
	var at func(i int) string
	switch a := a.(type) {
	case interface{ Value(int) string }:
		at = a.Value
	default: // a dictionary
		at = func(i int) string { return sources.ValueAt(a, i).V.(string) }
	}
	for i := range truth {
		if a.IsValid(i) {
			truth[i] = truthOf(holds(at(i)))
		}
	}
}

func truthOf(b bool) sources.Truth {
	if b {
		return sources.True
	}
	return sources.False
}
