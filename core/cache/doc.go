// Package cache remembers whole answers to queries. A [Cache] holds them in memory
// under a budget, and in a [Store] beside it; a [Reader] supplies a stream's pages
// from the cache, from a scan that streams share, or from the stream's own
// [Session].
package cache
