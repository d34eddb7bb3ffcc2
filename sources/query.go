package sources

import "github.com/apache/arrow-go/v18/arrow"

// Query is a query of one table. It uses only features that the table declares.
// The result consists of the rows that satisfy both Where and Keys and belong to
// Part, in the order of OrderBy, after the position After, limited to Limit rows.
type Query struct {
	Table string
	// Columns lists the columns of the result in order, each once. Nil means all
	// columns in the table's order; an empty list means rows without columns. Where,
	// Keys and OrderBy may use columns that are not listed.
	Columns []string
	// Where selects the rows for which it is true, not those for which it is unknown.
	// Nil selects all rows. Its literals have the types of their columns.
	Where Predicate
	// Keys selects the rows whose columns equal one of the keys. Nil selects all rows.
	Keys *Keys
	// OrderBy is the order of the rows. If it is empty, the table chooses the order.
	OrderBy []Sort
	// Limit is the maximum number of rows; 0 means no limit. It is set only if the
	// table also evaluates the whole filter and the whole order of the stream.
	Limit int64
	// After resumes the scan after the batch that had this cursor. Nil starts at the
	// beginning. Except for Limit, the query must be the one that the cursor came
	// from. Limit counts only the remaining rows.
	After Cursor
	// Part restricts the scan to one partition of the plan of this query. Nil means
	// the whole result.
	Part Part
}

// Sort is one term of an order. Values are compared according to the column's
// [Meaning].
type Sort struct {
	Column     string
	Desc       bool
	NullsFirst bool // NULL comes before all values, otherwise after them, regardless of Desc
}

// Keys is a list of keys of one or more columns. A key that contains a NULL, or a
// value that the type of its column cannot hold, matches nothing.
//
// The result has every row that equals a key exactly once, even if the key is listed
// several times. A lookup with [Lookup.Ordinals] differs in this:
//
//   - The last column of the result is [OrdinalColumn], of type int32 and without
//     NULL: the index in Values of the key that the row equals. A row is there once
//     for every key that it equals.
//   - Rows are in the order of the ordinals, then in that of OrderBy, then in the
//     table's.
//   - The columns of Values may have other types than those of the table: those of
//     the columns that the keys come from.
type Keys struct {
	// Columns is one of the [Table.Lookups], in its order.
	Columns []string
	// Values has a column for each of Columns, and a row for each key. Without
	// [Lookup.Ordinals], its columns have the types of Columns. It belongs to the caller
	// and is valid until the scan ends.
	Values arrow.RecordBatch
	// From names the columns that the keys were read from, if they are columns of the
	// same source. It is nil otherwise. A database compares keys with the operators of
	// the foreign key between these columns and Columns.
	From *KeyOrigin
	// LimitPerKey is the maximum number of rows for each key, the first ones in
	// OrderBy or else in the table's order; 0 means no limit.
	LimitPerKey int
}

// KeyOrigin names the columns that keys come from.
type KeyOrigin struct {
	Table   string
	Columns []string // in the order of [Keys.Columns]
}
