package sources

import (
	"fmt"
	"strconv"
	"strings"
)

// Predicate is a condition on a row, as data. It is one of [Comparison], [In],
// [IsNull], [HasPrefix], [Like], [And], [Or] and [Not]. A predicate is true,
// false or unknown for a row, with the three-valued logic of SQL; [Eval] is its
// definition. Predicates are immutable and safe for concurrent use.
type Predicate interface {
	// String writes the predicate for people, in the manner of SQL.
	String() string
	predicate()
}

// Op is an operator between a column and literals. Ops are wire constants:
// append only.
type Op uint8

// The operators.
const (
	OpEq      Op = iota // Comparison
	OpNe                // Comparison
	OpLt                // Comparison
	OpLe                // Comparison
	OpGt                // Comparison
	OpGe                // Comparison
	OpIn                // In
	OpIsNull            // IsNull
	OpNotNull           // IsNull, negated
	OpPrefix            // HasPrefix
	OpLike              // Like
)

var opNames = []string{"=", "<>", "<", "<=", ">", ">=", "in", "is null", "is not null", "has prefix", "like"}

// String returns the operator as it stands in a predicate's text.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "op?"
}

// Ops is a set of operators.
type Ops uint32

// OpsOf returns the set of the given operators.
func OpsOf(ops ...Op) Ops {
	var s Ops
	for _, o := range ops {
		s |= 1 << o
	}
	return s
}

// Has reports whether the operator is in the set.
func (s Ops) Has(o Op) bool { return s&(1<<o) != 0 }

// String lists the operators, as in "=, <>, in".
func (s Ops) String() string { return bitNames(uint32(s), opNames) }

// Comparison is true where the column's value compares so with the literal,
// and unknown where either is NULL.
type Comparison struct {
	Column string
	Op     Op // Eq, Ne, Lt, Le, Gt or Ge
	Value  Value
}

// In is true where the column's value equals one of the literals. It is
// unknown where the column is NULL, and where nothing matches and a literal is
// NULL. A list of no values is false.
type In struct {
	Column string
	Values []Value
}

// IsNull is true where the column is NULL; with Not, where it is not.
type IsNull struct {
	Column string
	Not    bool
}

// HasPrefix is true where the text column begins with these very bytes.
type HasPrefix struct {
	Column string
	Prefix string
}

// Like is true where the whole text matches the pattern: % stands for any
// characters, _ for one, and \ takes the meaning from what follows. Upper and
// lower case differ. A pattern that ends in a lone \ matches nothing.
type Like struct {
	Column  string
	Pattern string
}

// And is true where every predicate is; an And of none is true.
type And []Predicate

// Or is true where at least one predicate is; an Or of none is false.
type Or []Predicate

// Not is true where the predicate is false, and unknown where it is unknown.
type Not struct {
	Predicate Predicate
}

func (Comparison) predicate() {}
func (In) predicate()         {}
func (IsNull) predicate()     {}
func (HasPrefix) predicate()  {}
func (Like) predicate()       {}
func (And) predicate()        {}
func (Or) predicate()         {}
func (Not) predicate()        {}

// String writes "column op value".
func (p Comparison) String() string { return fmt.Sprintf("%s %s %s", p.Column, p.Op, p.Value) }

// String writes "column in (value, ...)".
func (p In) String() string {
	values := make([]string, len(p.Values))
	for i, v := range p.Values {
		values[i] = v.String()
	}
	return p.Column + " in (" + strings.Join(values, ", ") + ")"
}

// String writes "column is null" or "column is not null".
func (p IsNull) String() string {
	if p.Not {
		return p.Column + " is not null"
	}
	return p.Column + " is null"
}

// String writes "column has prefix text".
func (p HasPrefix) String() string { return p.Column + " has prefix " + strconv.Quote(p.Prefix) }

// String writes "column like pattern".
func (p Like) String() string { return p.Column + " like " + strconv.Quote(p.Pattern) }

// String writes "(a and b)".
func (p And) String() string { return junction(p, " and ", "true") }

// String writes "(a or b)".
func (p Or) String() string { return junction(p, " or ", "false") }

// String writes "not (a)".
func (p Not) String() string { return "not (" + p.Predicate.String() + ")" }

func junction(ps []Predicate, word, none string) string {
	if len(ps) == 0 {
		return none
	}
	parts := make([]string, len(ps))
	for i, p := range ps {
		parts[i] = p.String()
	}
	return "(" + strings.Join(parts, word) + ")"
}

// Leaf returns the column and the operator of a predicate on one column; ok is
// false for And, Or and Not.
func Leaf(p Predicate) (column string, op Op, ok bool) {
	switch p := p.(type) {
	case Comparison:
		return p.Column, p.Op, true
	case In:
		return p.Column, OpIn, true
	case IsNull:
		if p.Not {
			return p.Column, OpNotNull, true
		}
		return p.Column, OpIsNull, true
	case HasPrefix:
		return p.Column, OpPrefix, true
	case Like:
		return p.Column, OpLike, true
	}
	return "", 0, false
}

// Leaves calls visit for every predicate on one column within p, from left to
// right.
func Leaves(p Predicate, visit func(Predicate)) {
	switch p := p.(type) {
	case nil:
	case And:
		for _, q := range p {
			Leaves(q, visit)
		}
	case Or:
		for _, q := range p {
			Leaves(q, visit)
		}
	case Not:
		Leaves(p.Predicate, visit)
	default:
		visit(p)
	}
}

// Conjuncts returns the predicates of which p is the And: itself, where it is
// something else.
func Conjuncts(p Predicate) []Predicate {
	switch p := p.(type) {
	case nil:
		return nil
	case And:
		var all []Predicate
		for _, q := range p {
			all = append(all, Conjuncts(q)...)
		}
		return all
	default:
		return []Predicate{p}
	}
}

// Takes reports whether the table takes p as a conjunct of [Query.Where]: its
// operator is among the column's [Table.Filters], or the table can [CapLogic] and
// this holds for every leaf.
func (t *Table) Accepts(p Predicate) bool {
	column, op, leaf := Leaf(p)
	if leaf {
		return t.Filters[column].Has(op)
	}
	if !t.Capabilities.Has(CapLogic) {
		return false
	}
	takes := true
	Leaves(p, func(q Predicate) { takes = takes && t.Accepts(q) })
	return takes
}

// Truth is a value of three-valued logic.
type Truth int8

// The truth values, ordered so that And is the minimum and Or the maximum.
const (
	False   Truth = -1
	Unknown Truth = 0
	True    Truth = 1
)

// Eval is what a predicate means: it evaluates p for the row whose values the
// function gives. The literals must be comparable with their columns, as
// [Comparable] says. It is made to be right rather than fast: the engine and
// the sources have vectorised equals of it.
func Eval(p Predicate, at func(column string) Value) Truth {
	switch p := p.(type) {
	case Comparison:
		v := at(p.Column)
		if v.IsNull() || p.Value.IsNull() {
			return Unknown
		}
		return truth(p.Op.Holds(Compare(v, p.Value)))
	case In:
		v, result := at(p.Column), False
		if len(p.Values) > 0 && v.IsNull() {
			return Unknown
		}
		for _, w := range p.Values {
			switch {
			case w.IsNull():
				result = Unknown
			case Compare(v, w) == 0:
				return True
			}
		}
		return result
	case IsNull:
		return truth(at(p.Column).IsNull() != p.Not)
	case HasPrefix:
		if v := at(p.Column); !v.IsNull() {
			return truth(strings.HasPrefix(v.V.(string), p.Prefix))
		}
		return Unknown
	case Like:
		if v := at(p.Column); !v.IsNull() {
			return truth(MatchLike(v.V.(string), p.Pattern))
		}
		return Unknown
	case And:
		result := True
		for _, q := range p {
			result = min(result, Eval(q, at))
		}
		return result
	case Or:
		result := False
		for _, q := range p {
			result = max(result, Eval(q, at))
		}
		return result
	case Not:
		return -Eval(p.Predicate, at)
	}
	return True // nil keeps every row
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Holds reports whether what [Compare] returned satisfies o, one of Eq, Ne, Lt,
// Le, Gt and Ge; no other operator holds.
func (o Op) Holds(c int) bool {
	switch o {
	case OpEq:
		return c == 0
	case OpNe:
		return c != 0
	case OpLt:
		return c < 0
	case OpLe:
		return c <= 0
	case OpGt:
		return c > 0
	case OpGe:
		return c >= 0
	}
	return false
}

// MatchLike reports whether the whole of s matches the pattern, as [Like] says.
// Its time is linear in len(s) for a pattern with one %, and never worse than
// the product of both lengths.
func MatchLike(s, pattern string) bool {
	// The classic greedy walk: on a mismatch, go back to the last % and let it
	// take one character more.
	var i, j int
	starI, starJ := -1, -1
	for i < len(s) {
		if j < len(pattern) {
			switch pattern[j] {
			case '%':
				starI, starJ = i, j
				j++
				continue
			case '_':
				i += runeLen(s[i:])
				j++
				continue
			case '\\':
				if j+1 < len(pattern) && pattern[j+1] == s[i] {
					i++
					j += 2
					continue
				}
			default:
				if pattern[j] == s[i] {
					i++
					j++
					continue
				}
			}
		}
		if starI < 0 {
			return false
		}
		starI += runeLen(s[starI:])
		i, j = starI, starJ+1
	}
	for j < len(pattern) && pattern[j] == '%' {
		j++
	}
	return j == len(pattern)
}
