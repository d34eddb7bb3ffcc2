package csv

import (
	"cmp"
	"math"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/penstock-data/penstock/sources"
)

// filtersOf are the operators that a table takes: all that make sense for each
// column. They are answered from the record's bytes, before what nobody asked
// for is parsed.
func (t *table) filtersOf() map[string]sources.Ops {
	filters := map[string]sources.Ops{}
	for i := range t.columns {
		ops := sources.OpsOf(sources.OpIsNull, sources.OpNotNull, sources.OpEq, sources.OpNe, sources.OpLt, sources.OpLe, sources.OpGt, sources.OpGe, sources.OpIn)
		if t.columns[i].dataType().ID() == arrow.STRING {
			ops |= sources.OpsOf(sources.OpPrefix, sources.OpLike)
		}
		filters[t.columns[i].name] = ops
	}
	return filters
}

// filter is a predicate whose columns and literals are found. It evaluates as
// [sources.Eval] says.
type filter interface {
	eval(r *row) (sources.Truth, error)
}

// row gives the values of the record that a walk read last. A value is parsed
// when it is asked for.
type row struct {
	walk *walk
}

// datum returns the value of a column.
func (r *row) datum(i int) (d datum, null bool, err error) {
	t, s := r.walk.table, r.walk.scanner
	c := &t.columns[i]
	if c.kind == fileKind {
		return datum{text: t.files[r.walk.file].nameBytes}, false, nil
	}
	text := s.text(i)
	cell := &s.cells[i]
	if c.isNull(text, cell.quoted) {
		if c.required {
			return d, true, s.wrong(cell.begin(), "column %q has no value, and %s says that it is required", c.name, packageFile)
		}
		return d, true, nil
	}
	d, ok := c.parse(text, s.ascii && !cell.quoted)
	if !ok {
		return d, false, s.misfit(c, cell, text)
	}
	return d, false, nil
}

func (t *table) compile(p sources.Predicate) filter {
	switch p := p.(type) {
	case nil:
		return nil
	case sources.And:
		return both{t.compileAll(p), sources.True}
	case sources.Or:
		return both{t.compileAll(p), sources.False}
	case sources.Not:
		return not{t.compile(p.Predicate)}
	case sources.Comparison:
		return comparison{t.leaf(p.Column), p.Op, literal(p.Value), p.Value.IsNull()}
	case sources.In:
		in := in{leaf: t.leaf(p.Column), empty: len(p.Values) == 0}
		for _, v := range p.Values {
			if v.IsNull() {
				in.null = true
			} else {
				in.values = append(in.values, literal(v))
			}
		}
		return in
	case sources.IsNull:
		return isNull{t.leaf(p.Column), p.Not}
	case sources.HasPrefix:
		return textMatch{t.leaf(p.Column), func(s string) bool { return strings.HasPrefix(s, p.Prefix) }}
	case sources.Like:
		return textMatch{t.leaf(p.Column), func(s string) bool { return sources.MatchLike(s, p.Pattern) }}
	}
	panic(&sources.Error{Kind: sources.Internal}) // Check knows every predicate
}

func (t *table) compileAll(ps []sources.Predicate) []filter {
	all := make([]filter, len(ps))
	for i, p := range ps {
		all[i] = t.compile(p)
	}
	return all
}

// leaf is the column that a predicate looks at.
type leaf struct {
	place int
	kind  kind
}

func (t *table) leaf(name string) leaf {
	i := t.index(name)
	return leaf{i, t.columns[i].kind}
}

// compare orders two values of the column.
func (l leaf) compare(a, b *datum) int {
	switch l.kind {
	case textKind, fileKind:
		return strings.Compare(view(a.text), view(b.text))
	case decimalKind:
		return decimal128.New(a.high, uint64(a.n)).Cmp(decimal128.New(b.high, uint64(b.n)))
	case floatKind:
		return sources.CompareFloat(math.Float64frombits(uint64(a.n)), math.Float64frombits(uint64(b.n)))
	}
	return cmp.Compare(a.n, b.n)
}

// literal is a literal in the form of its column: Check saw that it has its type.
func literal(v sources.Value) datum {
	switch x := v.V.(type) {
	case int64:
		return datum{n: x}
	case bool:
		return datum{n: boolToInt(x)}
	case float64:
		return datum{n: int64(math.Float64bits(x))}
	case string:
		return datum{text: []byte(x)}
	case decimal128.Num:
		return datum{n: int64(x.LowBits()), high: x.HighBits()}
	}
	return datum{}
}

// both is an And, or an Or whose neutral value is false.
type both struct {
	all     []filter
	neutral sources.Truth
}

func (f both) eval(r *row) (sources.Truth, error) {
	result := f.neutral
	for _, g := range f.all {
		truth, err := g.eval(r)
		if err != nil {
			return 0, err
		}
		if f.neutral == sources.True {
			result = min(result, truth)
		} else {
			result = max(result, truth)
		}
		if result == -f.neutral {
			break
		}
	}
	return result, nil
}

type not struct{ filter }

func (f not) eval(r *row) (sources.Truth, error) {
	truth, err := f.filter.eval(r)
	return -truth, err
}

type comparison struct {
	leaf
	op    sources.Op
	value datum
	null  bool // the literal is
}

func (f comparison) eval(r *row) (sources.Truth, error) {
	d, null, err := r.datum(f.place)
	if err != nil || null || f.null {
		return sources.Unknown, err
	}
	return truth(f.op.Holds(f.compare(&d, &f.value))), nil
}

type in struct {
	leaf
	values []datum
	null   bool // a literal is
	empty  bool // there is none
}

func (f in) eval(r *row) (sources.Truth, error) {
	d, null, err := r.datum(f.place)
	switch {
	case err != nil:
		return 0, err
	case f.empty:
		return sources.False, nil
	case null:
		return sources.Unknown, nil
	}
	for i := range f.values {
		if f.compare(&d, &f.values[i]) == 0 {
			return sources.True, nil
		}
	}
	if f.null {
		return sources.Unknown, nil
	}
	return sources.False, nil
}

type isNull struct {
	leaf
	not bool
}

func (f isNull) eval(r *row) (sources.Truth, error) {
	_, null, err := r.datum(f.place)
	return truth(null != f.not), err
}

type textMatch struct {
	leaf
	match func(string) bool
}

func (f textMatch) eval(r *row) (sources.Truth, error) {
	d, null, err := r.datum(f.place)
	if err != nil || null {
		return sources.Unknown, err
	}
	return truth(f.match(view(d.text))), nil
}

func truth(b bool) sources.Truth {
	if b {
		return sources.True
	}
	return sources.False
}
