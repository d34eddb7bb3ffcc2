// Package relation loads related rows. [Resolve] checks the relations of a query
// against the catalog and returns them as a [Tree]. A [Loader] adds them to each
// chunk as columns: for each relation, it looks up the distinct keys of the chunk's
// rows. [Tree.Explain] describes the look-ups without reading rows.
//
// Applications use it through [query.Load] and package core.
package relation
