// Package retry decorates a source: calls and scans that fail because the source is
// unavailable are tried again, a scan from behind its last page, within a
// [Policy], [Timeouts] and a [Breaker] that the streams of a source share.
package retry
