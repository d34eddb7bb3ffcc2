// Package testkit is for the authors of sources, and for the tests of
// penstock itself.
//
//   - [TestSource] holds a source against every rule of the contract in package
//     sources; [Check] does the same and says what it did.
//   - [NewMemory] is a source in memory with every ability: the contract's
//     reference implementation.
//   - The decorators ([FailAfter], [DelayEach], [TruncateAfter] and the others) make a good
//     source misbehave in one way each.
//   - [Shop] generates related tables of any size, as CSV, as SQL and as values.
package testkit
