// Package testkit supports the tests of sources and of penstock itself.
//
//   - [TestSource] checks a source against the specification in package sources;
//     [Check] also reports each rule.
//   - [NewMemory] returns a source in memory with all capabilities: the reference
//     implementation of the specification.
//   - [FailAfter], [DelayEach], [TruncateAfter] and others wrap a source so that it
//     misbehaves in one way.
//   - [Shop] generates related tables of any size, as CSV, SQL or values.
package testkit
