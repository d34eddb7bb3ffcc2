package csv

import (
	"cmp"
	"math"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/penstock-data/penstock/sources"
)

// filtersOf returns the operators that the table evaluates: all that make sense for
// each column. A filter parses only the columns that it needs.
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

// filter is a compiled predicate. It has the meaning of [sources.Eval].
type filter interface {
	eval(r *row) (sources.Truth, error)
}

// row is the current record of a reader. Its values are parsed on demand.
type row struct {
	reader *recordReader
}

// datum parses the value of a column.
func (r *row) datum(i int) (d datum, null bool, err error) {
	t, s := r.reader.table, r.reader.scanner
	c := &t.columns[i]
	if c.kind == fileKind {
		return datum{text: t.files[r.reader.file].nameBytes}, false, nil
	}
	text := s.text(i)
	cell := &s.cells[i]
	if c.isNull(text, cell.quoted) {
		if c.required {
			return d, true, s.recordError(cell.begin(), c.name, "column %q has no value, but %s requires one", c.name, packageFile)
		}
		return d, true, nil
	}
	d, ok := c.parse(text, s.ascii && !cell.quoted)
	if !ok {
		return d, false, s.valueError(c, cell, text)
	}
	return d, false, nil
}

func (t *table) compileFilter(p sources.Predicate) filter {
	switch p := p.(type) {
	case nil:
		return nil
	case sources.And:
		return junction{t.compileAll(p), sources.True}
	case sources.Or:
		return junction{t.compileAll(p), sources.False}
	case sources.Not:
		return not{t.compileFilter(p.Predicate)}
	case sources.Comparison:
		return comparison{t.columnRef(p.Column), p.Op, literal(p.Value), p.Value.IsNull()}
	case sources.In:
		in := in{columnRef: t.columnRef(p.Column), empty: len(p.Values) == 0}
		for _, v := range p.Values {
			if v.IsNull() {
				in.null = true
			} else {
				in.values = append(in.values, literal(v))
			}
		}
		return in
	case sources.IsNull:
		return isNull{t.columnRef(p.Column), p.Not}
	case sources.HasPrefix:
		return textMatch{t.columnRef(p.Column), func(s string) bool { return strings.HasPrefix(s, p.Prefix) }}
	case sources.Like:
		return textMatch{t.columnRef(p.Column), func(s string) bool { return sources.MatchLike(s, p.Pattern) }}
	}
	panic(&sources.Error{Kind: sources.Internal}) // Catalog.Check knows every predicate
}

func (t *table) compileAll(ps []sources.Predicate) []filter {
	all := make([]filter, len(ps))
	for i, p := range ps {
		all[i] = t.compileFilter(p)
	}
	return all
}

// columnRef is the column of a predicate.
type columnRef struct {
	index int
	kind  kind
}

func (t *table) columnRef(name string) columnRef {
	i := t.indexes[name]
	return columnRef{i, t.columns[i].kind}
}

// compare orders two values of the column, as sources.Compare does.
func (l columnRef) compare(a, b *datum) int {
	switch l.kind {
	case textKind, fileKind:
		return strings.Compare(unsafeString(a.text), unsafeString(b.text))
	case decimalKind:
		return decimal128.New(a.high, uint64(a.n)).Cmp(decimal128.New(b.high, uint64(b.n)))
	case floatKind:
		return sources.CompareFloat(math.Float64frombits(uint64(a.n)), math.Float64frombits(uint64(b.n)))
	}
	return cmp.Compare(a.n, b.n)
}

// literal returns a literal as a datum. Catalog.Check has checked that it has the
// column's type.
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

// junction is an And, whose neutral value is true, or an Or, whose neutral value is
// false.
type junction struct {
	all     []filter
	neutral sources.Truth
}

func (f junction) eval(r *row) (sources.Truth, error) {
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
	columnRef
	op    sources.Op
	value datum
	null  bool // the literal is NULL
}

func (f comparison) eval(r *row) (sources.Truth, error) {
	d, null, err := r.datum(f.index)
	if err != nil || null || f.null {
		return sources.Unknown, err
	}
	return truth(f.op.Holds(f.compare(&d, &f.value))), nil
}

type in struct {
	columnRef
	values []datum
	null   bool // a literal is NULL
	empty  bool // there are no literals
}

func (f in) eval(r *row) (sources.Truth, error) {
	d, null, err := r.datum(f.index)
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
	columnRef
	not bool
}

func (f isNull) eval(r *row) (sources.Truth, error) {
	_, null, err := r.datum(f.index)
	return truth(null != f.not), err
}

type textMatch struct {
	columnRef
	match func(string) bool
}

func (f textMatch) eval(r *row) (sources.Truth, error) {
	d, null, err := r.datum(f.index)
	if err != nil || null {
		return sources.Unknown, err
	}
	return truth(f.match(unsafeString(d.text))), nil
}

func truth(b bool) sources.Truth {
	if b {
		return sources.True
	}
	return sources.False
}
