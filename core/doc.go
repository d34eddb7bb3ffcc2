// Package core is the engine: it streams the rows of a source, with their
// relations, inside a memory budget.
//
// [Open] compiles a [Query] against a source's catalog and returns a [Stream],
// which yields chunks of Apache Arrow records. [Explain] describes how a stream
// would execute, without reading any rows. [Options] configures a single stream;
// [Resources] has what streams share.
//
// Package host opens sources by URI and calls Open with shared resources. Most
// applications use it, and from this package only Query, Options and Stream.
//
// Errors are, or wrap, a [sources.Error]; [sources.KindOf] classifies them.
//
// The parts of the engine are packages of their own. Each imports only those before
// it in this list:
//
//   - budget limits memory, and slows a stream down when memory is short
//   - query checks a query and splits it between the table and the engine
//   - retry repeats calls and scans that failed because the source was unavailable
//   - cache stores the rows of scans and look-ups
//   - relation loads related rows
package core
