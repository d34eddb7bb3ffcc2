package core

import (
	"errors"
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// DefaultMemory is the memory limit of a stream, in bytes, if Options sets none.
const DefaultMemory = 500_000_000

// Options configures a stream. The zero value is ready to use.
type Options struct {
	// Name names the stream in receipts and in the logs of its source.
	Name string
	// Memory is the stream's memory limit, in bytes; 0 means [DefaultMemory]. It
	// covers everything that the stream allocates. If the limit of [Resources.Budget]
	// is smaller, that applies instead.
	Memory int64
	// Pressure configures at which fraction of its memory limit the stream slows down,
	// and how long it waits for memory.
	Pressure budget.Pressure
	// ChunkRows is the maximum number of rows of a chunk. 0 starts with
	// [budget.DefaultChunkRows] and lets chunks grow while there is memory. When memory
	// is short, chunks have fewer rows in either case.
	ChunkRows int64
	// FlushAfter is how long rows are collected: rows that wait for a full page or a full
	// chunk are yielded, as a smaller chunk, when this time has passed. That also
	// applies to chunks of ChunkRows. 0 means [sources.DefaultFlushAfter], and a negative
	// value no limit. See [sources.Env.FlushAfter] for what a source can do.
	FlushAfter time.Duration
	// ReadAhead fetches the next page, and looks up the relations of the next chunk,
	// while the consumer has a chunk, if there is memory for both. The source then runs
	// on a goroutine of its own, which ends with the loop.
	ReadAhead bool
	// Parallel is how many partitions of the table to read at once. With 1 the table
	// is read in one scan. 0 leaves the choice to the engine, which currently reads
	// the table in one scan, too.
	//
	// Parallel has no effect if the table has no partitions, if the table itself
	// sorts or limits the rows, or if the stream resumes one that read the table in one
	// scan. Each partition that is being read takes a goroutine, which ends with the loop,
	// and memory for at least three pages.
	Parallel int
	// Unordered yields pages of a parallel read as they arrive. Otherwise, and with Tokens,
	// rows arrive partition by partition, in the order of the source's plan.
	Unordered bool
	// Strategy decides when relations are loaded; 0 means [query.Selective].
	Strategy query.Strategy
	// MaxDepth is how many relations may follow one another in a path such as
	// lines.product; 0 means [query.DefaultMaxDepth].
	MaxDepth int
	// NoPushdown makes the engine filter, sort and limit rows itself, even if the source
	// can. The rows are the same, but without an order they may come in another one, and
	// Limit may return others. It serves to check a source, and to keep load off it.
	// The source still selects columns, looks up keys, and compares what only it can
	// compare; see [sources.BySource]. A token resumes only with the same NoPushdown.
	NoPushdown bool
	// Caching configures how the stream uses [Resources.Cache]. It has no effect
	// without a cache.
	Caching cache.Policy
	// Retry configures how often, and after which wait, calls and scans of the source
	// that fail are repeated.
	Retry retry.Policy
	// Timeouts configures how long the stream waits for the source, and how long it
	// may take in all.
	Timeouts retry.Timeouts
	// Tokens sets [Chunk.Token] of every chunk, at the cost of a second digest of the
	// rows, and of a call of [sources.Session.Plan] for each table. If the query has no
	// order and the table's own order would hold only within one snapshot, the rows come
	// in the order of the table's key, unless Parallel is more than 1 or NoPushdown is set.
	Tokens bool
	// AcrossSnapshots lets a stream resume although the data may have changed since the
	// token was made. The rows of the whole are then of different snapshots: rows may be
	// missing or appear twice, and totals may never have been true. [Receipt.Snapshots]
	// tells.
	AcrossSnapshots bool
	// NoDigests saves the time for [Receipt.Digest], about a tenth of a CSV scan. Tokens then
	// carry no digest of all rows, but are still checked against the data.
	NoDigests bool
}

// Resources has what a stream uses but does not own, and usually shares with other
// streams. It must outlive the stream. The zero value is a stream that shares nothing.
type Resources struct {
	// Budget is the parent of the stream's own budget, such as a host's budget for all
	// its streams; nil means none.
	Budget *budget.Budget
	// Breaker is the circuit breaker that all streams of the source share; nil means
	// none.
	Breaker *retry.Breaker
	// LateCalls counts the calls of all streams to the source that were given up but have
	// not returned: the source should not be closed before. nil counts those of the
	// stream alone.
	LateCalls *retry.LateCalls
	// Cache stores the results of streams and supplies those that it has; nil means
	// none. It requires SourceID.
	Cache *cache.Cache
	// SourceID is the identity of the source, from [query.Identify]. Sources with the
	// same SourceID must yield the same rows if the [sources.Catalog.Identity] of their
	// catalogs is the same too.
	SourceID query.Fingerprint
	// OpenID stands for the identity of the catalog if that is empty. Such a source does
	// not say what its rows depend on, so sources that were opened separately should
	// have different OpenIDs.
	OpenID string
	// MemoryOnly keeps the results out of the cache's [cache.Store], and does not read
	// them from there. The results of a source whose catalog has no identity are never
	// there.
	MemoryOnly bool
	// Observer is called as the stream works. It is not shared with other streams.
	Observer Observer
}

// Observer is a set of functions that a stream calls as it works. Nil functions
// are not called. All but Fault and End are called on the goroutine of the stream's loop,
// which waits for them to return.
type Observer struct {
	// Level is called when the stream's [budget.Level] changes.
	Level func(budget.Event)
	// Chunk is called when the consumer is done with a chunk, with its rows and their
	// size in bytes, as [sources.Size] counts it.
	Chunk func(rows, bytes int64)
	// Fault is called for each fault that does not end the stream. It may be called
	// from any goroutine, also concurrently, and must not block.
	Fault func(retry.Fault)
	// End is called with the final receipt once the stream has released everything, on
	// the goroutine of the loop, or of Close if the loop never started.
	End func(Receipt)
}

// checked returns o with dependent settings made consistent, or an error of kind
// [sources.Invalid] that names every fault.
func (o Options) checked(q Query, r Resources) (Options, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, sources.Errorf(sources.Invalid, "stream", q.Table, format, args...))
	}
	if o.ChunkRows < 0 {
		fault("ChunkRows must not be negative (got %d)", o.ChunkRows)
	}
	if o.Parallel < 0 {
		fault("Parallel must not be negative (got %d)", o.Parallel)
	}
	if o.Memory < 0 {
		fault("Memory must not be negative (got %d)", o.Memory)
	}
	for _, err := range []error{o.Pressure.Check(), o.Retry.Check(), r.user(o, "").Check()} {
		if err != nil {
			faults = append(faults, sources.WithOp("stream", q.Table, err))
		}
	}
	o.Tokens = o.Tokens || q.After != "" // resuming needs the rows in the same order
	o.Pressure = o.Pressure.OrDefault()
	if o.FlushAfter == 0 {
		o.FlushAfter = sources.DefaultFlushAfter
	}
	return o, errors.Join(faults...)
}

// user returns how a stream with these options uses the cache, for a source with
// that identity of its catalog.
func (r Resources) user(o Options, identity string) cache.Use {
	use := cache.Use{Cache: r.Cache, SourceID: r.SourceID, Identity: identity, MemoryOnly: r.MemoryOnly, Policy: o.Caching}
	if identity == "" {
		use.Identity, use.MemoryOnly = r.OpenID, true
	}
	return use
}

// limit returns the memory limit of a stream, in bytes.
func (r Resources) limit(o Options) int64 {
	limit := o.Memory
	if limit == 0 {
		limit = DefaultMemory
	}
	if r.Budget != nil {
		limit = min(limit, r.Budget.Limit())
	}
	return limit
}
