// Package retry makes a source more reliable: its [Source] repeats calls and scans
// that fail because the source is unavailable. A scan resumes after the last page
// that it delivered. A [Policy] and [Timeouts] set the limits for one stream; a
// [Breaker] is shared by all streams of a source.
package retry
