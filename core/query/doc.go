// Package query compiles queries for the engine. It checks a query against a
// catalog, divides it into the part that is pushed down to the table and the
// [Residual] that the engine applies to pages of rows, and identifies it by a
// [Fingerprint].
//
// [Load] names the relations that a query loads; [ParseLoad] reads them from
// text.
package query
