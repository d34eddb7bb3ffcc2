package query

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// DefaultMaxDepth is the default limit of the depth of a load: how many relations
// may follow one another.
const DefaultMaxDepth = 3

// Load lists the relations to load with the rows of a table. The zero value loads
// none.
type Load struct {
	// Required are the relations that every chunk's record includes as columns,
	// after the table's own and in this order. A relation to one row is a nullable
	// struct, a relation to many rows a list of structs.
	Required []Branch
	// Optional are the relations that a chunk loads separately, when the consumer
	// calls its Related method. A branch below a required relation may be optional
	// too.
	Optional []Branch
	// Compile parses the [Branch.Condition] of a branch into a predicate on the
	// related table, for example by celfilter.Parse. It is called while the stream is
	// opened, and may be nil if no branch has a Condition.
	Compile func(table *sources.Table, condition string) (sources.Predicate, error)
}

// Branch is one relation of a [Load], with the columns, filter, order and limit of
// its rows and the relations below it.
type Branch struct {
	// Name is one of the relation's names; see [sources.Table.FindRelation]. The relation's
	// column has this name. Branches that name one relation in different ways are merged
	// under the first name.
	Name string
	// Columns are the related table's columns to return, each once, in this order;
	// nil means all.
	Columns []string
	// Where selects the related rows to return; nil means all. In a relation to
	// one row, a row that it rejects becomes NULL.
	Where sources.Predicate
	// Condition is Where as text, for [Load.Compile]. At most one of the two may
	// be set.
	Condition string
	// OrderBy is the order of the related rows of each row; nil means the order of
	// the related table's key.
	OrderBy []sources.Sort
	// Limit is the maximum number of related rows for each row, the first ones in
	// order; 0 means no limit.
	Limit int
	Below []Branch // relations of the related table
}

// Deepest returns the longest path of relations that begins with the branch, as in
// lines.product, and its depth, the number of its relations. The arguments are the
// path and the depth of the branch itself.
func (b Branch) Deepest(path string, depth int) (string, int) {
	longest, maxDepth := path, depth
	for _, child := range b.Below {
		if childPath, childDepth := child.Deepest(path+"."+child.Name, depth+1); childDepth > maxDepth {
			longest, maxDepth = childPath, childDepth
		}
	}
	return longest, maxDepth
}

// Strategy decides when relations are loaded.
type Strategy uint8

// The strategies.
const (
	// Selective loads the required relations with each chunk. It also loads the
	// optional ones that the consumer read from the previous chunk; with the first
	// chunk, all of them.
	Selective Strategy = 1 + iota
	// Eager loads every usable relation of the tables, down to the maximum depth, and
	// makes all of them columns of the record, which have the first short name that leads
	// to the relation, or else the qualified name. Circular relations end at that
	// depth.
	Eager
	// Lazy loads the required relations with each chunk, and an optional one when
	// the consumer asks for it.
	Lazy
)

var strategyNames = []string{"", "selective", "eager", "lazy"}

// Valid reports whether s is a strategy or the zero value, which means the
// default.
func (s Strategy) Valid() bool { return int(s) < len(strategyNames) }

// String returns the strategy's name, such as "eager"; "" for the zero value.
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return "strategy?"
}

// ParseStrategy returns the strategy with that name. Its error is of kind
// [sources.Invalid].
func ParseStrategy(name string) (Strategy, error) {
	if i := slices.Index(strategyNames, name); i > 0 {
		return Strategy(i), nil
	}
	return 0, sources.Errorf(sources.Invalid, "load", "", "unknown strategy %q%s", name, sources.Suggest(name, strategyNames[1:]))
}

// Merge returns a load of all relations of l and other. The Compile function is
// other's if it has one, else l's. Options of the same relation that contradict
// each other are an error of kind [sources.Invalid].
func (l Load) Merge(other Load) (Load, error) {
	required, err := MergeBranches(l.Required, other.Required)
	optional, err2 := MergeBranches(l.Optional, other.Optional)
	if err := errors.Join(err, err2); err != nil {
		return Load{}, sources.NewError(sources.Invalid, "load", "", err)
	}
	merged := Load{Required: required, Optional: optional, Compile: other.Compile}
	if merged.Compile == nil {
		merged.Compile = l.Compile
	}
	return merged, nil
}

// MergeBranches returns the branches of a and b with each name once, in the order
// in which the names first appear. It returns an error if two branches with the
// same name have different values for an option.
func MergeBranches(a, b []Branch) ([]Branch, error) {
	var out []Branch
	var errs []error
	for _, branch := range slices.Concat(a, b) {
		i := slices.IndexFunc(out, func(b Branch) bool { return b.Name == branch.Name })
		if i < 0 {
			branch.Below, errs = mergeBelow(nil, branch.Below, branch.Name, errs)
			out = append(out, branch)
			continue
		}
		existing := &out[i]
		conflict := func(option string) {
			errs = append(errs, fmt.Errorf("%s has two different values for the option %q", branch.Name, option))
		}
		if branch.Columns != nil {
			if existing.Columns != nil && !slices.Equal(existing.Columns, branch.Columns) {
				conflict("columns")
			}
			existing.Columns = branch.Columns
		}
		if branch.Where != nil || branch.Condition != "" {
			same := existing.Condition == branch.Condition && PredicateText(existing.Where) == PredicateText(branch.Where)
			if (existing.Where != nil || existing.Condition != "") && !same {
				conflict("where")
			}
			existing.Where, existing.Condition = branch.Where, branch.Condition
		}
		if branch.OrderBy != nil {
			if existing.OrderBy != nil && !slices.Equal(existing.OrderBy, branch.OrderBy) {
				conflict("order")
			}
			existing.OrderBy = branch.OrderBy
		}
		if branch.Limit != 0 {
			if existing.Limit != 0 && existing.Limit != branch.Limit {
				conflict("limit")
			}
			existing.Limit = branch.Limit
		}
		existing.Below, errs = mergeBelow(existing.Below, branch.Below, branch.Name, errs)
	}
	return out, errors.Join(errs...)
}

// mergeBelow merges the branches below the relation with that name. It returns
// errs with its own error appended, if any.
func mergeBelow(a, b []Branch, name string, errs []error) ([]Branch, []error) {
	below, err := MergeBranches(a, b)
	if err != nil {
		errs = append(errs, fmt.Errorf("below %s: %w", name, err))
	}
	return below, errs
}

// PredicateText returns the text of a predicate; "" for nil.
func PredicateText(p sources.Predicate) string {
	if p == nil {
		return ""
	}
	return p.String()
}

// FormatLoad returns branches as text that [ParseLoad] accepts, except that a
// Where without a Condition is written in the style of SQL.
func FormatLoad(branches []Branch) string {
	var paths []string
	for _, b := range branches {
		paths = append(paths, b.loadPaths("")...)
	}
	return strings.Join(paths, ",")
}

// loadPaths returns the paths that begin with the branch, each after the prefix.
// The first path includes the branch's options.
func (b Branch) loadPaths(prefix string) []string {
	full, plain := prefix+b.head(), prefix+quoteName(b.Name)
	if len(b.Below) == 0 {
		return []string{full}
	}
	var out []string
	for _, child := range b.Below {
		out = append(out, child.loadPaths(full+".")...)
		full = plain
	}
	return out
}

// head returns the branch's name and options.
func (b Branch) head() string {
	var options []string
	switch {
	case b.Condition != "":
		options = append(options, "where: "+b.Condition)
	case b.Where != nil:
		options = append(options, "where: "+b.Where.String())
	}
	if b.OrderBy != nil {
		terms := make([]string, len(b.OrderBy))
		for i, s := range b.OrderBy {
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
	if b.Limit != 0 {
		options = append(options, "limit: "+strconv.Itoa(b.Limit))
	}
	if b.Columns != nil {
		names := make([]string, len(b.Columns))
		for i, name := range b.Columns {
			names[i] = quoteName(name)
		}
		options = append(options, "columns: ["+strings.Join(names, ", ")+"]")
	}
	if len(options) == 0 {
		return quoteName(b.Name)
	}
	return quoteName(b.Name) + "(" + strings.Join(options, ", ") + ")"
}

// quoteName quotes a name that would not be read as one without quotes.
func quoteName(name string) string {
	if name != "" && !strings.ContainsAny(name, nameEnds+" \t\r\n") {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
