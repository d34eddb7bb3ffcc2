package core

import (
	"errors"
	"fmt"

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
	// Memory is the most that the stream holds at once, in bytes, for everything
	// that it does; 0 means [DefaultMemory]. A smaller limit of [Resources.Budget]
	// applies instead.
	Memory int64
	// Pressure configures when the stream slows down, and how long it waits for
	// memory.
	Pressure budget.Pressure
	// ChunkRows is the most rows that a chunk has. 0 starts with
	// [budget.DefaultChunkRows], and lets chunks grow while there is room. When memory is
	// short, chunks have fewer rows in either case.
	ChunkRows int64
	// ReadAhead fetches the next page while the consumer has this one, if there is
	// room for both. The source then runs on another goroutine than the consumer;
	// that goroutine ends with the loop.
	ReadAhead bool
	// Parallel is how many partitions of the table to read at once. 0 leaves the
	// choice to the engine, which reads the table in one scan; 1 always does.
	//
	// A table without partitions, an order or a limit that the table keeps, and
	// Tokens also lead to one scan. Each partition costs a scan of the source on a
	// goroutine that ends with the loop, and memory for at least three pages. Rows
	// come partition by partition in the order of the source's plan, or, with
	// Unordered, page by page as they arrive.
	Parallel  int
	Unordered bool
	// Strategy and MaxDepth configure how relations are loaded: when, and how many
	// may follow one another. 0 means [query.Selective] and [query.DefaultMaxDepth].
	Strategy query.Strategy
	MaxDepth int
	// Caching configures how the stream uses the cache of its Resources.
	Caching cache.Policy
	// Retry and Timeouts configure when the source is tried again after a fault, and
	// how long the stream waits for it.
	Retry    retry.Policy
	Timeouts retry.Timeouts
	// Tokens gives every chunk a token, at the cost of a checksum over the rows
	// since the last page.
	Tokens bool
}

// Resources are what a stream uses without owning it, mostly together with other
// streams. The zero value is none: the stream stands alone.
type Resources struct {
	// Budget is the parent of the stream's own budget, as a host's over all its
	// streams; nil for none.
	Budget *budget.Budget
	// Breaker is shared by all streams of the source; nil for none. It keeps its own
	// options.
	Breaker *retry.Breaker
	// Cache remembers the stream's rows and answers from what it remembers; nil for
	// none. SourceID is then the identity of the source, see [query.Identify]: two sources
	// with the same identity must give the same answers.
	Cache    *cache.Cache
	SourceID query.Fingerprint
	Observer Observer
}

// Observer is a set of functions that a stream calls as it works. Nil functions
// are not called. All but Fault run on the goroutine of the stream's loop and hold
// it up until they return.
type Observer struct {
	// Level is called when the stream's [budget.Level] changes.
	Level func(budget.Event)
	// Chunk is called with the rows and bytes of each chunk, once the consumer is
	// done with it.
	Chunk func(rows, bytes int64)
	// Fault is called for each fault that does not end the stream. It may be called
	// from any goroutine, and must not block.
	Fault func(retry.Fault)
	// End is called with the receipt once the stream has released everything. A
	// stream whose loop never started calls it from Close.
	End func(Receipt)
}

// checked returns o with dependent settings made consistent, or an error of kind
// [sources.Invalid] that names every fault.
func (o Options) checked(q Query, r Resources) (Options, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, &sources.Error{Op: "stream", Table: q.Table, Kind: sources.Invalid, Err: fmt.Errorf(format, args...)})
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
	for _, err := range []error{o.Pressure.Check(), o.Retry.Check(), r.user(o).Check()} {
		if err != nil {
			faults = append(faults, sources.WithOp("stream", q.Table, err))
		}
	}
	o.Tokens = o.Tokens || q.After != "" // both need the rows in one order
	o.Pressure = o.Pressure.OrDefault()
	return o, errors.Join(faults...)
}

// user returns how a stream with these options uses the cache.
func (r Resources) user(o Options) cache.Use {
	return cache.Use{Cache: r.Cache, SourceID: r.SourceID, Policy: o.Caching}
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
