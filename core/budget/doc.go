// Package budget bounds the memory of streams. A [Budget] is an Arrow allocator
// with a limit, [Accounts] break its use down by [Owner], and [Backpressure]
// shrinks the chunks of a stream, pauses it, or ends it with an error before it
// exceeds its limit.
package budget
