package core

import (
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Query selects the rows of a stream. Unlike a [sources.Query], it does not depend on
// the table's capabilities: the engine does what the table does not. The slices of a
// Query must not be modified while a stream of it is open.
type Query struct {
	// Table is the exact name of a table in the source's catalog.
	Table string
	// Columns are the columns of the result, in this order, each once. Nil means all
	// columns of the table.
	Columns []string
	// Where selects the rows for which it is true, not those for which it is unknown;
	// nil selects all rows. It may name any column of the table, not only Columns.
	// A literal may have any type that is [sources.Comparable] with its column.
	Where sources.Predicate
	// OrderBy is the order of the rows. Nil means the table's order. If the table
	// cannot sort, the engine sorts in memory, which must have room for all rows of the
	// result, or for Limit rows.
	OrderBy []sources.Sort
	// Limit is the maximum number of rows; 0 means no limit.
	Limit int64
	// After resumes after the chunk that had this token. Except for Limit and Load, the
	// query must be the one that the token came from. Limit counts only the rows after
	// the token. Empty means to start at the first row.
	After Token
	// Load selects the relations to load with the rows.
	Load query.Load
}
