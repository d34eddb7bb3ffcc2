package core

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/digest"
	"github.com/penstock-data/penstock/sources"
)

// Stream reads the rows of a query. [Open] returns one. It works only while its
// consumer ranges over [Stream.Chunks], and ends when the consumer leaves the loop.
// While the consumer is busy with a chunk, the source waits, unless
// [Options.ReadAhead] or [Options.Parallel] lets it work ahead.
//
// The loop itself is for one goroutine. All methods are safe for concurrent use, so
// that other goroutines can observe and control the stream.
type Stream struct {
	*connection
	resumption Resumption
	name       string
	limit      int64        // maximum number of rows, from the query; 0 is none
	expected   int64        // rows that the source will yield, by its catalog; -1 if unknown
	read       atomic.Int64 // rows that the source has yielded
	gate       gate
	observer   Observer
	chunks     sources.Batches
	tracker    *tokenTracker // nil without tokens

	done     chan struct{} // closed once everything is released
	closeErr error         // set before done is closed

	mu      sync.Mutex
	state   state
	failure sources.Kind // kind of receipt.Error
	receipt Receipt
	digest  digest.Digest // of the rows so far; zero without digests
	started time.Time
}

// state is the state of a stream's loop. A loop starts only from idle. Whoever moves
// the stream to ended releases what it holds.
type state uint8

const (
	idle    state = iota // the loop has not started
	running              // the loop runs
	ended                // the loop has ended, or the stream was closed without one
)

// newStream returns the stream of a plan, with its stages linked.
func newStream(p *plan, c *connection, o Observer, started time.Time) *Stream {
	s := &Stream{
		connection: c, resumption: p.resumption, name: p.options.Name, limit: p.query.Limit, expected: p.expected(), observer: o,
		done: make(chan struct{}), started: started, digest: p.firstDigest(c.loader.Schema),
		receipt: Receipt{Name: p.options.Name, Table: p.table.Name, LimitBytes: p.limit, Token: p.query.After, TotalRows: p.start.totalRows},
	}
	if p.start.snapshots > 1 {
		s.receipt.Snapshots = int(p.start.snapshots)
	}
	if p.options.Tokens {
		s.tracker = newTokenTracker(p.start, p.table, p.scanned, p.tree.Shown)
		s.tracker.changed = p.changed
	}
	s.chunks = p.chain(s)
	return s
}

// firstDigest returns the digest that a stream with the given schema begins with: that of
// its token, if the earlier streams had the same columns.
func (p *plan) firstDigest(schema *arrow.Schema) digest.Digest {
	if p.options.NoDigests {
		return digest.Digest{}
	}
	if none := digest.New(schema); !p.start.digest.SameColumns(none) {
		return none
	}
	return p.start.digest
}

// Schema returns the schema of every chunk's record.
func (s *Stream) Schema() *arrow.Schema { return s.loader.Schema }

// Chunks returns an iterator over the rows of the stream, each exactly once, in order
// unless [Options.Unordered] is set, in chunks of at least one row. If the stream fails, the last pair is a nil
// chunk and the error. If the loop ends by itself without an error, the consumer has
// received every row.
//
// When the loop ends, in whatever way, the stream closes its sessions and releases
// its memory, except for records that the consumer retained. It need not be closed
// then.
//
// The iterator is single-use: ranging over it again, or after Close, yields an error
// of kind [sources.Invalid].
func (s *Stream) Chunks() iter.Seq2[*Chunk, error] {
	return func(yield func(*Chunk, error) bool) {
		if !s.transition(idle, running) {
			yield(nil, sources.Errorf(sources.Invalid, "read", s.table, "the stream was already ranged over or closed: open another one"))
			return
		}
		defer func() {
			s.transition(running, ended)
			s.end()
		}()
		s.gate.wait(s.ctx)
		for batch, err := range s.chunks {
			if err == nil {
				err = sources.ContextError(s.ctx, "read", s.table)
			}
			switch {
			case err != nil:
				s.fail(err)
				yield(nil, err)
				return
			case batch.Record.NumRows() == 0:
				continue
			}
			s.countChunk(batch.Record)
			token := s.tokenAfter(batch.Record)
			if !s.deliver(batch.Record, token, yield) {
				return
			}
			s.consumed(token)
			if s.observer.Chunk != nil {
				s.observer.Chunk(batch.Record.NumRows(), sources.Size(batch.Record))
			}
			s.gate.wait(s.ctx)
		}
		s.complete()
	}
}

// deliver yields a chunk to the consumer. The chunk ends with the iteration.
func (s *Stream) deliver(record arrow.RecordBatch, token Token, yield func(*Chunk, error) bool) bool {
	record.Retain()
	tracked := s.accounts.Track(record)
	defer tracked.Release()
	related := s.loader.Related(tracked)
	defer related.Close()
	return yield(&Chunk{Record: tracked, Token: token, related: related}, nil)
}

// tokenAfter returns the token of the next chunk, or an empty one without tokens. It
// must be called once for each chunk.
func (s *Stream) tokenAfter(record arrow.RecordBatch) Token {
	if s.tracker == nil {
		return ""
	}
	return s.tracker.advance(record, s.digest)
}

// consumed records the token of a chunk that the consumer is done with.
func (s *Stream) consumed(token Token) {
	if s.tracker == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Token = token
}

// Resumption returns what it takes to resume the stream with one of its tokens. Without
// [Options.Tokens] it is [ResumeVerified], and means nothing.
func (s *Stream) Resumption() Resumption { return s.resumption }

// MemoryByOwner returns the stream's current memory, in bytes, by owner.
func (s *Stream) MemoryByOwner() budget.Breakdown { return s.accounts.Breakdown() }

// Level returns the stream's current level: whether it is short of memory.
func (s *Stream) Level() budget.Level { return s.pressure.Level() }

// Allocator returns an allocator for writers of the stream's chunks. What they
// allocate counts toward the stream's memory limit, under the owner [budget.Output].
// Like all allocators of a budget, it panics with an error of kind [sources.Exhausted]
// if the limit is reached: package outputs turns that into an error, and so does
// [sources.GuardCall]. Memory may be freed after the stream has ended; until then it
// stays charged to [Resources.Budget]. The allocator is safe for concurrent use.
func (s *Stream) Allocator() memory.Allocator { return s.accounts.Allocator(budget.Output) }

// Receipt returns the stream's figures so far, or its final ones once it has ended.
func (s *Stream) Receipt() Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.receipt
	r.PeakBytes = s.budget.Peak()
	r.Events, r.LevelChanges, r.Paused = s.pressure.Report()
	r.Faults, r.Retries, r.Stalls = s.source.Faults()
	lookups, relations := s.loader.Report()
	r.Lookups = lookups
	for _, f := range relations {
		r.Relations = append(r.Relations, RelationReceipt(f))
	}
	r.Cache, r.CacheAge = s.reader.Report()
	_, r.SandboxPeakBytes, r.SandboxLimitBytes = s.session.SandboxMemory()
	if r.Elapsed == 0 {
		r.Elapsed = time.Since(s.started)
	}
	return r
}

// RelatedField returns the field, with name and type, of the column that
// [Chunk.Related] returns for a relation. If there is no such relation, the error is
// of kind [sources.NotFound].
func (s *Stream) RelatedField(name string) (arrow.Field, error) { return s.loader.Field(name) }

// Budget returns the budget from which the stream allocates its memory. Records that
// the consumer retains are part of it. The stream closes the budget when it ends.
func (s *Stream) Budget() *budget.Budget { return s.budget }

// Done returns a channel that is closed once the stream has ended and released what
// it held.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Close ends the stream and returns the error of closing its sessions, if any. If a
// loop is running, Close does not wait for it and returns nil: the loop ends when the
// consumer asks for the next chunk, and [Stream.Done] signals that everything is
// released. Calling Close again has no further effect.
func (s *Stream) Close() error {
	if s.transition(idle, ended) {
		s.end()
	}
	s.stop(nil)
	s.mu.Lock()
	looping := s.state == running
	s.mu.Unlock()
	if looping {
		return nil
	}
	<-s.done
	return s.closeErr
}

// transition moves the stream from one state to another and reports whether it was in
// the first.
func (s *Stream) transition(from, to state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != from {
		return false
	}
	s.state = to
	return true
}

// end releases everything and completes the receipt.
func (s *Stream) end() {
	s.closeErr = s.close()
	s.mu.Lock()
	s.receipt.Digest = s.digest
	s.receipt.Elapsed = time.Since(s.started)
	s.mu.Unlock()
	if s.observer.End != nil {
		s.observer.End(s.Receipt())
	}
	close(s.done)
}

// countRead counts the rows that the source yields and the records that it skips. It
// sees each page once, even if a scan was resumed. It ends with the stream's context,
// even if the pages come from the cache. all tells that the source returns every row: if
// it skips them all, that is an error.
func (s *Stream) countRead(pages sources.Batches, all bool) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		for page, err := range pages {
			if err == nil {
				err = sources.ContextError(s.ctx, "scan", s.table)
			}
			if err != nil {
				yield(sources.Batch{}, locateRefusal(err, s.read.Load()))
				return
			}
			s.read.Add(page.Record.NumRows())
			s.addSkipped(page.Skipped)
			if !yield(page, nil) {
				return
			}
		}
		if skipped := s.skipped(); all && skipped.Records > 0 && s.read.Load() == 0 {
			yield(sources.Batch{}, sources.Errorf(sources.Invalid, "scan", s.table, "the source skipped all %d records, the first: %s", skipped.Records, strings.Join(skipped.Locations[:min(len(skipped.Locations), 1)], "")))
		}
	}
}

// skipped returns the records that the source has skipped so far.
func (s *Stream) skipped() sources.Skipped {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sources.Skipped{Records: s.receipt.Skipped, Locations: s.receipt.SkippedFirst}
}

// locateRefusal adds to a budget's refusal which rows did not fit in memory: those
// after the ones that the source has yielded. It returns other errors unchanged.
func locateRefusal(err error, rows int64) error {
	var refusal *budget.Refusal
	e, ok := err.(*sources.Error)
	if !ok || e.Kind != sources.Exhausted || !errors.As(err, &refusal) {
		return err
	}
	return sources.Errorf(e.Kind, e.Op, e.Table, "the rows after row %d do not fit in memory: %w; raise the memory limit", rows, refusal)
}

// countChunk adds a chunk to the receipt and the digest.
func (s *Stream) countChunk(record arrow.RecordBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Rows += record.NumRows()
	s.receipt.TotalRows += record.NumRows()
	s.receipt.Bytes += sources.Size(record)
	s.receipt.Chunks++
	if !s.digest.IsZero() {
		s.digest.Add(record)
	}
}

// addSkipped adds records that the source skipped to the receipt.
func (s *Stream) addSkipped(more sources.Skipped) {
	if more.Records == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sources.Skipped{Records: s.receipt.Skipped, Locations: s.receipt.SkippedFirst}
	sum.Add(more)
	s.receipt.Skipped, s.receipt.SkippedFirst = sum.Records, slices.Clone(sum.Locations)
}

// fail records the error that ends the stream.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Error, s.failure = err.Error(), sources.KindOf(err)
}

// complete records that every row was yielded.
func (s *Stream) complete() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Complete = true
}
