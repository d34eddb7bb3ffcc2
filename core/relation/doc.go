// Package relation loads related rows: [Resolve] checks the relations of a query
// against the catalog, and a [Loader] adds their columns to each chunk with one
// look-up of the chunk's distinct keys for each relation. [Plan] describes how a
// relation is loaded.
package relation
