package sources

import "github.com/apache/arrow-go/v18/arrow"

// Query is one question to one table. What it asks beyond the bare table is
// always something that the table said it can do. The conditions combine: rows
// that satisfy Where and Keys and lie in Part, after After, in the order of
// OrderBy, and of those the first Limit.
type Query struct {
	Table string
	// Columns are the ones to give, in this order, each once; nil is all of them
	// in the table's order, and a list of no columns gives rows without columns.
	// Where, Keys and OrderBy may name columns that are not given.
	Columns []string
	// Where keeps the rows for which it is true (not those for which it is NULL);
	// nil keeps all. Its literals have the types of their columns.
	Where Predicate
	// Keys keeps the rows whose columns equal one of the listed keys; nil keeps
	// all.
	Keys *Keys
	// OrderBy is the order of the rows; nil leaves it to the table.
	OrderBy []Sort
	// Limit is the number of rows at most; 0 is no limit. It is set only where
	// the table took all of Where and OrderBy.
	Limit int64
	// After resumes right after the batch that carried this cursor; nil starts at
	// the beginning. The rest of the query is what it was then. Limit counts only
	// the rows that are still to come.
	After Cursor
	// Part restricts the scan to one partition of the plan of this query; nil is
	// the whole.
	Part Part
}

// Sort is one term of an order. Values compare as [Compare] says.
type Sort struct {
	Column     string
	Desc       bool
	NullsFirst bool // NULL comes before every value, else after every value, whatever Desc says
}

// Keys is an In list over one or more columns: typed and compact. A row that
// matches is given once for however many equal keys are listed. A key with a
// NULL in it matches nothing.
type Keys struct {
	// Columns are a set that one of [Table.Lookups] names, in its order.
	Columns []string
	// Values has one column for each of Columns, of its type, and one row for
	// each key. It belongs to the caller and is valid until the scan ends.
	Values arrow.RecordBatch
	// PerKey is how many rows to give for each key at most, the first ones in
	// OrderBy, or in the table's order without it; 0 is no limit.
	LimitPerKey int
}
