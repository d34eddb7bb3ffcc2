// Package core is the engine: it streams the rows of a source, with their
// relations, inside a memory budget.
//
// [Open] compiles a [Query] against a source's catalog and returns a [Stream],
// which yields chunks of Apache Arrow records. [Explain] describes how a stream
// would execute, without reading any rows. [Options] configures a single stream;
// [Resources] has what streams share.
//
// Package core links the parts of the engine. Each is a package of its own that
// imports only those before it in this list:
//
//   - budget limits memory, and slows a stream down when memory is short
//   - query checks a query and splits it between the table and the engine
//   - retry retries calls and scans that a source failed at
//   - cache stores the rows of scans and look-ups
//   - relation loads related rows
package core
