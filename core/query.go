package core

import (
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Query is what a stream is asked for. Unlike a [sources.Query] it may ask
// anything of any table: what the table does not do by itself, the engine does.
// Streams keep no reference to a Query.
type Query struct {
	Table string
	// Columns are the result's, in this order, each once; nil is all of them.
	Columns []string
	// Where keeps the rows for which it is true. It may name any column. A
	// literal may have any type that is [sources.Comparable] with its column.
	Where sources.Predicate
	// OrderBy is the order of the rows; nil leaves it to the table. An order that
	// the table does not take needs memory for all rows of the result, or for
	// Limit of them.
	OrderBy []sources.Sort
	// Limit is the number of rows at most; 0 is no limit.
	Limit int64
	// After goes on right behind the chunk that had this token: all else but Limit
	// is what it was then, and Limit counts only the rows that are still to come.
	// Empty is the beginning.
	After Token
	// Load says which relations come along.
	Load query.Load
}
