// Package budget bounds memory: a [Budget] is an Arrow allocator with a limit,
// [Accounts] say which owner holds how much of it, and [Backpressure] shrinks,
// pauses and fails a stream before it exceeds its limit.
package budget
