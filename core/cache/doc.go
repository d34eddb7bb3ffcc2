// Package cache caches the results of queries. A [Cache] keeps complete results in
// memory under a budget, and optionally in a second-tier [Store].
//
// A [Reader] supplies the pages of one stream: from the cache, from a scan that it
// shares with other streams, or from the stream's own [Session].
package cache
