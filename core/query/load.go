package query

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// DefaultMaxDepth is how many relations may follow one another in a load when
// nobody says otherwise.
const DefaultMaxDepth = 3

// Load says which relations of a stream's table are read along with its rows.
// The zero value loads none.
type Load struct {
	// Required are in the record of every chunk, behind its columns and in this
	// order: a nullable struct for a relation to one row, a list of structs for
	// one to many.
	Required []Branch
	// Optional are for [core.Chunk.Related] to give. What is below a required relation
	// may be optional too.
	Optional []Branch
	// Compile makes a predicate of the text of a condition, for the branches that
	// have one. It is called while the stream is opened.
	Compile func(table *sources.Table, condition string) (sources.Predicate, error)
}

// Branch is one relation in a load, with what is asked of its rows and the
// relations below it.
type Branch struct {
	Name string // of the relation, as the catalogue has it
	// Columns are those of the related table to give, in this order, each once;
	// nil is all of them.
	Columns []string
	// Where keeps the related rows for which it is true. A row of a relation to
	// one that is not kept is NULL.
	Where sources.Predicate
	// Condition is Where as a text, which [Load.Compile] understands. Only one of
	// the two is set.
	Condition string
	// OrderBy is the order of a row's related rows; nil is that of the related
	// table's key.
	OrderBy []sources.Sort
	// Limit is how many related rows each row has at most, the first ones; 0 is no
	// limit.
	Limit int
	Below []Branch
}

// Deepest returns the longest path of a branch, and its depth, where the branch
// itself is at path and depth.
func (l Branch) Deepest(path string, depth int) (string, int) {
	best, most := path, depth
	for _, b := range l.Below {
		if p, d := b.Deepest(path+"."+b.Name, depth+1); d > most {
			best, most = p, d
		}
	}
	return best, most
}

// Strategy says when relations are loaded.
type Strategy uint8

// The strategies.
const (
	// Selective loads the required relations with each chunk, and those optional
	// ones that the consumer has been reading: all of them with the first chunk.
	Selective Strategy = 1 + iota
	// Eager loads every relation that the tables declare, down to the depth, and
	// puts it into the record. Where relations lead in circles they end there.
	Eager
	// Lazy loads the required relations with each chunk, and an optional one when
	// it is asked for.
	Lazy
)

var strategyNames = []string{"", "selective", "eager", "lazy"}

func (s Strategy) Valid() bool { return int(s) < len(strategyNames) }

// String returns the strategy's name; empty for the zero value.
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return "strategy?"
}

// ParseStrategy returns the strategy of a name. Its error is of kind
// [sources.Invalid].
func ParseStrategy(name string) (Strategy, error) {
	if i := slices.Index(strategyNames, name); i > 0 {
		return Strategy(i), nil
	}
	return 0, &sources.Error{Op: "load", Kind: sources.Invalid,
		Err: fmt.Errorf("%q is no strategy%s", name, sources.Suggest(name, strategyNames[1:]))}
}

// Merge returns a load of all that both ask for. The other
// load's Compile wins where it has one. Two options of one relation
// that contradict each other are an [sources.Invalid] error.
func (l Load) Merge(other Load) (Load, error) {
	required, err := MergeBranches(l.Required, other.Required)
	optional, err2 := MergeBranches(l.Optional, other.Optional)
	if err := errors.Join(err, err2); err != nil {
		return Load{}, &sources.Error{Op: "load", Kind: sources.Invalid, Err: err}
	}
	merged := Load{Required: required, Optional: optional, Compile: other.Compile}
	if merged.Compile == nil {
		merged.Compile = l.Compile
	}
	return merged, nil
}

// MergeBranches returns the branches of both, each name once, in the order in which
// they are first named.
func MergeBranches(a, b []Branch) ([]Branch, error) {
	var out []Branch
	var faults []error
	for _, branch := range slices.Concat(a, b) {
		i := slices.IndexFunc(out, func(l Branch) bool { return l.Name == branch.Name })
		if i < 0 {
			branch.Below, faults = mergeInto(nil, branch.Below, branch.Name, faults)
			out = append(out, branch)
			continue
		}
		have := &out[i]
		contradict := func(what string) {
			faults = append(faults, fmt.Errorf("%s has two different options %q", branch.Name, what))
		}
		if branch.Columns != nil {
			if have.Columns != nil && !slices.Equal(have.Columns, branch.Columns) {
				contradict("columns")
			}
			have.Columns = branch.Columns
		}
		if branch.Where != nil || branch.Condition != "" {
			same := have.Condition == branch.Condition && PredicateText(have.Where) == PredicateText(branch.Where)
			if (have.Where != nil || have.Condition != "") && !same {
				contradict("where")
			}
			have.Where, have.Condition = branch.Where, branch.Condition
		}
		if branch.OrderBy != nil {
			if have.OrderBy != nil && !slices.Equal(have.OrderBy, branch.OrderBy) {
				contradict("order")
			}
			have.OrderBy = branch.OrderBy
		}
		if branch.Limit != 0 {
			if have.Limit != 0 && have.Limit != branch.Limit {
				contradict("limit")
			}
			have.Limit = branch.Limit
		}
		have.Below, faults = mergeInto(have.Below, branch.Below, branch.Name, faults)
	}
	return out, errors.Join(faults...)
}

func mergeInto(a, b []Branch, name string, faults []error) ([]Branch, []error) {
	below, err := MergeBranches(a, b)
	if err != nil {
		faults = append(faults, fmt.Errorf("below %s: %w", name, err))
	}
	return below, faults
}

func PredicateText(p sources.Predicate) string {
	if p == nil {
		return ""
	}
	return p.String()
}

// FormatLoad writes branches as [ParseLoad] reads them. A Where without a
// Condition is written for people, in the manner of SQL.
func FormatLoad(branches []Branch) string {
	var paths []string
	for _, l := range branches {
		paths = append(paths, l.paths("")...)
	}
	return strings.Join(paths, ",")
}

// paths are the paths that begin with the branch. Its options stand in the first
// of them.
func (l Branch) paths(before string) []string {
	here, plain := before+l.head(), before+quoteName(l.Name)
	if len(l.Below) == 0 {
		return []string{here}
	}
	var out []string
	for _, b := range l.Below {
		out = append(out, b.paths(here+".")...)
		here = plain
	}
	return out
}

// head is the branch's name and options.
func (l Branch) head() string {
	var options []string
	switch {
	case l.Condition != "":
		options = append(options, "where: "+l.Condition)
	case l.Where != nil:
		options = append(options, "where: "+l.Where.String())
	}
	if l.OrderBy != nil {
		terms := make([]string, len(l.OrderBy))
		for i, s := range l.OrderBy {
			terms[i] = quoteName(s.Column)
			if s.Desc {
				terms[i] += ":desc"
			}
			if s.NullsFirst {
				terms[i] += ":nulls-first"
			}
		}
		options = append(options, "order: ["+strings.Join(terms, ", ")+"]")
	}
	if l.Limit != 0 {
		options = append(options, "limit: "+strconv.Itoa(l.Limit))
	}
	if l.Columns != nil {
		names := make([]string, len(l.Columns))
		for i, name := range l.Columns {
			names[i] = quoteName(name)
		}
		options = append(options, "columns: ["+strings.Join(names, ", ")+"]")
	}
	if len(options) == 0 {
		return quoteName(l.Name)
	}
	return quoteName(l.Name) + "(" + strings.Join(options, ", ") + ")"
}

// quoteName puts a name in quotes where it would be read as something else.
func quoteName(name string) string {
	if name != "" && !strings.ContainsAny(name, nameEnds+" \t\r\n") {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
