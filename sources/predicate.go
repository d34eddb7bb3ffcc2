package sources

import (
	"fmt"
	"strconv"
	"strings"
)

// Predicate is a condition on a row: a [Comparison], [In], [IsNull], [HasPrefix],
// [Like], [And], [Or] or [Not]. For a row it is true, false or unknown, by the
// three-valued logic of SQL; [Eval] defines the result. Predicates are immutable and
// safe for concurrent use.
type Predicate interface {
	// String returns the predicate for display, in a form similar to SQL.
	String() string
	predicate()
}

// Op is an operator on a column and literals.
type Op uint8

// The operators. They are wire constants: append only.
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

// String returns the operator as predicates write it.
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

// Has reports whether o is in the set.
func (s Ops) Has(o Op) bool { return s&(1<<o) != 0 }

// String lists the operators, as in "=, <>, in".
func (s Ops) String() string { return bitNames(uint32(s), opNames) }

// Comparison compares the value of a column with a literal by [Compare]. It is
// unknown if either is NULL.
type Comparison struct {
	Column string
	Op     Op // OpEq, OpNe, OpLt, OpLe, OpGt or OpGe
	Value  Value
}

// In is true if the value of the column equals one of the literals. It is unknown
// if the column is NULL, or if no literal matches and one of them is NULL. With no
// literals it is false.
type In struct {
	Column string
	Values []Value
}

// IsNull is true if the column is NULL, or with Not if it is not NULL.
type IsNull struct {
	Column string
	Not    bool
}

// HasPrefix is true if the text of the column begins with the bytes of Prefix. It is
// unknown if the column is NULL.
type HasPrefix struct {
	Column string
	Prefix string
}

// Like is true if the whole text of the column matches the pattern: % matches any
// number of characters, _ matches one, and \ escapes the next character. Matching
// is case-sensitive. A pattern that ends in a single \ matches nothing. Like is
// unknown if the column is NULL.
type Like struct {
	Column  string
	Pattern string
}

// And is true if all predicates are true. An empty And is true.
type And []Predicate

// Or is true if at least one predicate is true. An empty Or is false.
type Or []Predicate

// Not is true if the predicate is false, and unknown if it is unknown.
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

// String returns "column op value".
func (p Comparison) String() string { return fmt.Sprintf("%s %s %s", p.Column, p.Op, p.Value) }

// String returns "column in (value, ...)".
func (p In) String() string {
	values := make([]string, len(p.Values))
	for i, v := range p.Values {
		values[i] = v.String()
	}
	return p.Column + " in (" + strings.Join(values, ", ") + ")"
}

// String returns "column is null" or "column is not null".
func (p IsNull) String() string {
	if p.Not {
		return p.Column + " is not null"
	}
	return p.Column + " is null"
}

// String returns "column has prefix text".
func (p HasPrefix) String() string { return p.Column + " has prefix " + strconv.Quote(p.Prefix) }

// String returns "column like pattern".
func (p Like) String() string { return p.Column + " like " + strconv.Quote(p.Pattern) }

// String returns "(a and b)".
func (p And) String() string { return junction(p, " and ", "true", Predicate.String) }

// String returns "(a or b)".
func (p Or) String() string { return junction(p, " or ", "false", Predicate.String) }

// String returns "not (a)".
func (p Not) String() string { return "not (" + p.Predicate.String() + ")" }

func junction(ps []Predicate, word, none string, text func(Predicate) string) string {
	if len(ps) == 0 {
		return none
	}
	parts := make([]string, len(ps))
	for i, p := range ps {
		parts[i] = text(p)
	}
	return "(" + strings.Join(parts, word) + ")"
}

// Leaf returns the column and the operator of a predicate on one column. ok is false
// for And, Or and Not.
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

// Leaves calls visit for every predicate on one column in p, from left to right.
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

// Conjuncts returns the predicates that p combines by And, at any depth. If p is not
// an And, Conjuncts returns p; if p is nil, it returns nil.
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

// Accepts reports whether the table accepts p as a conjunct of [Query.Where]: the
// operator of p is among the column's [Table.Filters], or the table has [CapLogic]
// and accepts every leaf of p.
func (t *Table) Accepts(p Predicate) bool {
	column, op, leaf := Leaf(p)
	if leaf {
		return t.Filters[column].Has(op)
	}
	if !t.Capabilities.Has(CapLogic) {
		return false
	}
	accepts := true
	Leaves(p, func(q Predicate) { accepts = accepts && t.Accepts(q) })
	return accepts
}

// Truth is a value of three-valued logic.
type Truth int8

// The truth values, ordered so that And is the minimum and Or the maximum.
const (
	False   Truth = -1
	Unknown Truth = 0
	True    Truth = 1
)

// Eval evaluates p for a row; at returns the row's value of a column. A nil predicate
// is true. Literals must be [Comparable] with their columns.
//
// Eval defines the meaning of predicates and is not fast. The engine and the sources
// have vectorized implementations.
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

// Holds reports whether the result c of [Compare] satisfies o, which is one of OpEq,
// OpNe, OpLt, OpLe, OpGt and OpGe. For other operators it is false.
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

// MatchLike reports whether s matches the pattern of a [Like]. Its running time is at
// most proportional to the product of both lengths, and linear in len(s) for a
// pattern with one %.
func MatchLike(s, pattern string) bool {
	// The usual greedy algorithm: on a mismatch, return to the last % and let it match
	// one more character.
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
