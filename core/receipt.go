package core

import (
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/retry"
)

// Receipt is what a stream reports of itself. Its JSON names are stable.
type Receipt struct {
	Name  string `json:"name,omitempty"` // as [Options.Name] says
	Table string `json:"table"`
	// Complete is true once every row was handed out. It is false while the
	// stream runs, after an error, and after a loop that was left early.
	Complete bool `json:"complete"`
	// Error is the error that ended the stream; empty where there was none.
	Error string `json:"error,omitempty"`

	Rows   int64 `json:"rows"`
	Chunks int64 `json:"chunks"`
	// Bytes are those of the rows as [sources.Size] counts them: they do not
	// depend on how the rows were divided into chunks.
	Bytes int64 `json:"bytes"`
	// PeakBytes is the most memory that the stream held at once, LimitBytes what
	// it could have held.
	PeakBytes  int64 `json:"peak_bytes"`
	LimitBytes int64 `json:"limit_bytes"`
	// SandboxPeakBytes is the most private memory that the process or module of
	// the source held, IsolateLimitBytes its cap; 0 where it runs in this process.
	SandboxPeakBytes  int64 `json:"isolate_peak_bytes,omitempty"`
	SandboxLimitBytes int64 `json:"isolate_limit_bytes,omitempty"`
	// Skipped is how many records the source could not read and, as it was told,
	// left out; SkippedFirst are the places and faults of the first ones. Records
	// that were skipped do not make a result incomplete: somebody chose that.
	Skipped      int64    `json:"skipped,omitempty"`
	SkippedFirst []string `json:"skipped_first,omitempty"`
	// Events are the changes of the stream's level, the first 64 of them;
	// LevelChanges is how many there were, and Paused how long it waited for
	// memory, in nanoseconds.
	Events       []budget.Event `json:"events,omitempty"`
	LevelChanges int            `json:"level_changes,omitempty"`
	Paused       time.Duration  `json:"paused_ns,omitempty"`
	// Retries is how often the source failed and was tried again, Stalls how often
	// it gave nothing for half of [retry.Timeouts.Stall]; Faults are the first 64 of both.
	Retries int64         `json:"retries,omitempty"`
	Stalls  int64         `json:"stalls,omitempty"`
	Faults  []retry.Fault `json:"faults,omitempty"`
	// Token is where a stream of the same query goes on: behind the last chunk that
	// the consumer is done with, which is the one after which it came back to its
	// loop. Empty where [Options.Tokens] is not set, or there is no such place.
	Token Token `json:"token,omitempty"`
	// Cache is how the cache was used: [cache.Hit], [cache.Miss], [cache.Shared] or
	// [cache.Bypassed]; empty where there is none. CacheAge is how long ago the
	// source was asked for what the cache gave, in nanoseconds.
	Cache    string        `json:"cache,omitempty"`
	CacheAge time.Duration `json:"cache_age_ns,omitempty"`
	// Lookups is how many look-ups the relations took together.
	Lookups int64 `json:"lookups,omitempty"`
	// Relations says what each relation of the load took, parents first.
	Relations []RelationReceipt `json:"relations,omitempty"`
	// Checksum is over the columns' names, types and values and the order of the
	// rows, never over how they were divided; empty until the stream has ended.
	Checksum string `json:"checksum,omitempty"`
	// Elapsed is the time from opening the stream to its end, or to now, in
	// nanoseconds: the consumer's time is in it.
	Elapsed time.Duration `json:"elapsed_ns"`
}

// RelationReceipt is what one relation took. Its JSON names are stable.
type RelationReceipt struct {
	Path string `json:"path"` // as in lines.product
	// Lookups is how many questions were asked: to the related table, and to the
	// one that a many_to_many goes through. A part of their keys was remembered.
	Lookups    int64 `json:"lookups"`
	Keys       int64 `json:"keys"`       // that chunks had, each once a chunk
	Remembered int64 `json:"remembered"` // of those, the ones that needed no look-up
	Rows       int64 `json:"rows"`       // that look-ups gave
	// Skipped is how many records a look-up left out, as the source was told to:
	// the most of any.
	Skipped int64 `json:"skipped,omitempty"`
	// Dangling is how many rows hold a key that leads nowhere.
	Dangling int64 `json:"dangling"`
}
