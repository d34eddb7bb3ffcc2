// Package query prepares queries: it checks them against a catalog, divides the
// work between the table and the engine, does the engine's share on pages of rows,
// and fingerprints what was asked. It also defines [Load], the relations that a
// query asks for.
package query
