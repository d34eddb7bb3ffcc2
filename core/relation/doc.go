// Package relation loads related rows. [Resolve] checks the relations of a query
// against the catalog. A [Loader] adds them as columns to each chunk: for each
// relation, it looks up the distinct keys of the chunk's rows. [Tree.Explain]
// describes how, without reading rows.
package relation
