// Package core is the engine: it streams the rows of a source, with their
// relations, inside a memory budget.
//
// [Open] compiles a [Query] against a source's catalog and returns a [Stream],
// which yields chunks of Apache Arrow records. [Explain] returns what a stream
// would do without reading a row. What is tuned is in [Options], what streams
// share is in [Resources].
//
// The engine's parts are packages of their own; each imports only those before it:
// budget accounts for memory and slows a stream down, query checks and divides
// queries, retry repeats what a source failed at, cache remembers answers, and
// relation loads related rows. Package core links them.
package core
