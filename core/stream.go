package core

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// Stream reads one table of one source. It is a chain of sequences, each
// ranging over the one before it, and works only while its consumer ranges over
// [Stream.Chunks]: blocking in the loop holds the source back, leaving the loop
// stops it.
//
// One goroutine ranges; every method may be called from any.
type Stream struct {
	*connection
	ctx      context.Context
	stop     context.CancelCauseFunc
	name     string
	limit    int64        // of rows, from the query
	expected int64        // rows that the catalog expects the source to give; -1 if unknown
	read     atomic.Int64 // rows that the source gave
	gate     gate
	observer Observer
	chunks   sources.Batches
	tracker  *tokenTracker // nil without tokens

	done     chan struct{} // closed once everything is given back
	closeErr error         // set before done is closed

	mu       sync.Mutex
	state    state
	failure  sources.Kind // of the receipt's error
	receipt  Receipt
	checksum *rows.Checksum
	started  time.Time
}

// state is how far a stream is: only an idle one starts a loop, and only what
// takes it to its end gives back what it held.
type state uint8

const (
	idle state = iota
	running
	ended
)

func newStream(p *plan, c *connection, r Resources, started time.Time) *Stream {
	s := &Stream{
		connection: c, name: p.options.Name, limit: p.query.Limit, expected: p.expected(), observer: r.Observer,
		done: make(chan struct{}), started: started, checksum: rows.NewChecksum(c.loader.Schema),
		receipt: Receipt{Name: p.options.Name, Table: p.table.Name, LimitBytes: p.limit, Token: p.query.After},
	}
	if p.options.Tokens {
		s.tracker = newTokenTracker(p.from, p.table, p.scanned, p.tree.Shown)
	}
	return s
}

// Schema is the schema of every chunk's record.
func (s *Stream) Schema() *arrow.Schema { return s.loader.Schema }

// Chunks are the stream's rows, each once and in order. An error comes once and
// last, with a nil chunk: without one, the loop saw every row. An empty result
// is a loop without an iteration. When the loop ends, in whatever way, the
// session is closed and all that the stream held is back, but for the records
// that the consumer retained.
//
// The sequence is single use: ranging over it again, or after Close, yields an
// error of kind [sources.Invalid].
func (s *Stream) Chunks() iter.Seq2[*Chunk, error] {
	return func(yield func(*Chunk, error) bool) {
		if !s.enter(running, idle) {
			yield(nil, &sources.Error{Op: "read", Table: s.table, Kind: sources.Invalid, Err: errors.New("the stream was ranged over or closed already")})
			return
		}
		defer func() {
			s.enter(ended, running)
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
			s.count(batch.Record)
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

// deliver gives a chunk to the consumer for its iteration.
func (s *Stream) deliver(record arrow.RecordBatch, token Token, yield func(*Chunk, error) bool) bool {
	record.Retain()
	handed := s.accounts.Track(record)
	defer handed.Release()
	related := s.loader.Related(handed)
	defer related.Close()
	return yield(&Chunk{Record: handed, Token: token, related: related}, nil)
}

// tokenAfter is the token behind a chunk that is about to be handed out.
func (s *Stream) tokenAfter(record arrow.RecordBatch) Token {
	if s.tracker == nil {
		return ""
	}
	return s.tracker.chunk(record)
}

// consumed notes the token of a chunk that the consumer is done with.
func (s *Stream) consumed(token Token) {
	if s.tracker == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Token = token
}

// MemoryByOwner says who holds how much of the stream's memory now.
func (s *Stream) MemoryByOwner() budget.Breakdown { return s.accounts.Breakdown() }

// Level says how the stream goes about memory now.
func (s *Stream) Level() budget.Level { return s.pressure.Level() }

// Allocator is the stream's budget for those who write its chunks: what they
// allocate is of the stream's limit, and counts as theirs. They release it before
// the stream ends or soon after.
func (s *Stream) Allocator() memory.Allocator { return s.accounts.Allocator(budget.Output) }

// Receipt says how far the stream has come, and once it has ended how it ended.
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

// RelatedField returns the field of the column that [Chunk.Related] returns for a
// relation. A relation that does not exist is an error of kind [sources.NotFound].
func (s *Stream) RelatedField(name string) (arrow.Field, error) { return s.loader.Field(name) }

// Budget is what the stream holds memory from: its figures say how much of the
// limit is in use. The records of chunks that were retained are part of it.
func (s *Stream) Budget() *budget.Budget { return s.budget }

// Done is closed when the stream has ended and given back what it held.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Close ends the stream, if its loop has not done so, and returns what went
// wrong when the session was closed. While a loop runs, Close only tells it to
// stop: the loop gives back what is held when it ends, and [Stream.Done] says
// when. Close may be called from any goroutine, and more than once.
func (s *Stream) Close() error {
	if s.enter(ended, idle) {
		s.end()
	}
	s.stop(nil)
	s.mu.Lock()
	loops := s.state == running
	s.mu.Unlock()
	if loops {
		return nil
	}
	<-s.done
	return s.closeErr
}

// enter takes the stream from one state to another, if it is in the one.
func (s *Stream) enter(to, from state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != from {
		return false
	}
	s.state = to
	return true
}

// end gives back everything.
func (s *Stream) end() {
	s.stop(nil)
	s.closeErr = s.connection.close()
	s.mu.Lock()
	s.receipt.Checksum = s.checksum.Sum()
	s.checksum.Free()
	s.receipt.Elapsed = time.Since(s.started)
	s.mu.Unlock()
	if s.observer.End != nil {
		s.observer.End(s.Receipt())
	}
	close(s.done)
}

// counted counts the rows that come from the source, and the records that it
// skipped. A resumed scan yields no page twice, so nothing is counted twice. It
// ends with the stream's context, whatever the pages come from.
func (s *Stream) counted(pages sources.Batches) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		for page, err := range pages {
			if err == nil {
				err = sources.ContextError(s.ctx, "scan", s.table)
			}
			if err != nil {
				yield(sources.Batch{}, placed(err, s.read.Load()))
				return
			}
			s.read.Add(page.Record.NumRows())
			s.skip(page.Skipped)
			if !yield(page, nil) {
				return
			}
		}
	}
}

// placed says of what did not fit where it stands: the row after those that have
// come from the source, or one of the next page's.
func placed(err error, rows int64) error {
	var refusal *budget.Refusal
	e, ok := err.(*sources.Error)
	if !ok || e.Kind != sources.Exhausted || !errors.As(err, &refusal) {
		return err
	}
	return &sources.Error{Op: e.Op, Table: e.Table, Kind: e.Kind, Err: fmt.Errorf("what follows row %d does not fit: %w; give it more memory", rows, refusal)}
}

func (s *Stream) count(record arrow.RecordBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Rows += record.NumRows()
	s.receipt.Bytes += sources.Size(record)
	s.receipt.Chunks++
	s.checksum.Add(record)
}

// skip counts what the source left out. A resumed scan has no page twice, so
// neither is anything counted twice.
func (s *Stream) skip(more sources.Skipped) {
	if more.Records == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sources.Skipped{Records: s.receipt.Skipped, Locations: s.receipt.SkippedFirst}
	sum.Add(more)
	s.receipt.Skipped, s.receipt.SkippedFirst = sum.Records, slices.Clone(sum.Locations)
}

func (s *Stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Error, s.failure = err.Error(), sources.KindOf(err)
}

func (s *Stream) complete() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Complete = true
}
