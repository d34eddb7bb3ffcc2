package core

import (
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Query selects the rows of a stream. Unlike a [sources.Query], it does not depend on
// the table's capabilities: the engine does what the table does not. The slices and
// predicates of a Query must not change while a stream of it is open.
type Query struct {
	Table string
	// Columns are the columns of the result, in this order, each once. Nil is all
	// columns of the table.
	Columns []string
	// Where keeps the rows for which it is true. It may name any column of the table.
	// A literal may have any type that is [sources.Comparable] with its column.
	Where sources.Predicate
	// OrderBy sorts the rows. Nil keeps the table's order. If the table cannot sort,
	// the engine does, in memory: it holds all rows of the result, or Limit of them.
	OrderBy []sources.Sort
	// Limit is the maximum number of rows. 0 is no limit.
	Limit int64
	// After starts behind the chunk that had this token. Table, Columns, Where and
	// OrderBy must be those of that stream; Limit and Load may differ. Limit counts only
	// rows behind the token. Empty starts at the first row.
	After Token
	// Load selects the relations to load with the rows.
	Load query.Load
}
