package core

import (
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/digest"
	"github.com/penstock-data/penstock/core/retry"
)

// Receipt has the figures and the outcome of a stream. Its JSON names are stable.
type Receipt struct {
	Name  string `json:"name,omitempty"` // [Options.Name]
	Table string `json:"table"`
	// Complete is true once the consumer has received every row. It is false while the
	// stream runs, after an error, and if the consumer left the loop early.
	Complete bool `json:"complete"`
	// Error is the text of the error that ended the stream; empty if there is none.
	Error string `json:"error,omitempty"`

	Rows   int64 `json:"rows"`   // rows yielded to the consumer
	Chunks int64 `json:"chunks"` // chunks that these rows came in
	// TotalRows is Rows, plus the rows that earlier streams yielded if the stream resumes
	// after a token: the number of rows of the whole.
	TotalRows int64 `json:"rows_total"`
	// Snapshots is how many snapshots of the data TotalRows come from, if it is more than
	// one; see [Options.AcrossSnapshots].
	Snapshots int `json:"snapshots,omitempty"`
	// Bytes is the size of these rows, as [sources.Size] counts it. It does not depend
	// on how the rows were divided into chunks.
	Bytes int64 `json:"bytes"`
	// PeakBytes is the most memory that the stream held at any time, in bytes, and
	// LimitBytes its memory limit.
	PeakBytes  int64 `json:"peak_bytes"`
	LimitBytes int64 `json:"limit_bytes"`
	// SandboxPeakBytes is the most private memory that the source's process or module
	// held at any time, in bytes, and SandboxLimitBytes its limit. Both are 0 if the
	// source runs within the application.
	SandboxPeakBytes  int64 `json:"isolate_peak_bytes,omitempty"`
	SandboxLimitBytes int64 `json:"isolate_limit_bytes,omitempty"`
	// Skipped counts the records that the source could not read and was configured to
	// skip. SkippedFirst has the locations and errors of the first
	// [sources.MaxSkippedLocations] of them. Skipped records do not prevent Complete,
	// unless no row is left.
	Skipped      int64    `json:"skipped,omitempty"`
	SkippedFirst []string `json:"skipped_first,omitempty"`
	// Events are the first 64 changes of the stream's [budget.Level], and LevelChanges
	// counts all of them. Paused is the time that the stream waited for memory, in
	// nanoseconds.
	Events       []budget.Event `json:"events,omitempty"`
	LevelChanges int            `json:"level_changes,omitempty"`
	Paused       time.Duration  `json:"paused_ns,omitempty"`
	// Retries counts how often a call or scan of the source was repeated, and Stalls
	// how often the source delivered nothing for half of [retry.Timeouts.Stall]. Faults
	// has the first 64 of both.
	Retries int64         `json:"retries,omitempty"`
	Stalls  int64         `json:"stalls,omitempty"`
	Faults  []retry.Fault `json:"faults,omitempty"`
	// Token is that of the last chunk that the consumer is done with, as it is once it asks
	// for the next one. Before that, Token is [Query.After]. It is empty if the chunk has
	// no token.
	Token Token `json:"token,omitempty"`
	// Cache is how the cache was used: [cache.Hit], [cache.Miss], [cache.Shared] or
	// [cache.Bypassed]; empty without a cache. CacheAge is the age of the cached rows,
	// in nanoseconds.
	Cache    string        `json:"cache,omitempty"`
	CacheAge time.Duration `json:"cache_age_ns,omitempty"`
	// Lookups counts the look-ups of all relations.
	Lookups int64 `json:"lookups,omitempty"`
	// Relations has the figures of each relation of the load, parents first.
	Relations []RelationReceipt `json:"relations,omitempty"`
	// Digest states which rows the consumer received, with the columns of relations that
	// are part of the record. Equal ordered digests show the same rows in the same order,
	// and equal digests in any order the same rows, each as often; see [digest.Digest] for
	// what they do not prove. Digest covers all of TotalRows, so that a resumed read states
	// the digest of the whole, like a read without an interruption. Only if the token had
	// no digest, or was made with another Query.Load, does it begin after the token;
	// [digest.Digest.Rows] tells. Digest is zero until the stream has ended, and with
	// [Options.NoDigests].
	Digest digest.Digest `json:"digest,omitzero"`
	// Elapsed is the time from opening the stream to its end, or to now, in
	// nanoseconds. It includes the time that the consumer takes.
	Elapsed time.Duration `json:"elapsed_ns"`
}

// RelationReceipt has the figures of one relation. Its JSON names are stable.
type RelationReceipt struct {
	Path string `json:"path"` // names of relations, from the stream's table on: lines.product
	// Lookups counts look-ups in the related table and in the table that a
	// many_to_many relation goes through.
	Lookups    int64 `json:"lookups"`
	Keys       int64 `json:"keys"`       // distinct keys of each chunk, summed over chunks
	Remembered int64 `json:"remembered"` // those of Keys that were cached, and needed no look-up
	Rows       int64 `json:"rows"`       // rows that look-ups yielded
	// Skipped is the number of records that the source could not read and skipped in
	// the look-up that skipped the most.
	Skipped int64 `json:"skipped,omitempty"`
	// Dangling counts references that lead nowhere: no related row has their key.
	Dangling int64 `json:"dangling"`
}
