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
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// DefaultMemory is what a stream may hold when nobody says otherwise, in bytes.
const DefaultMemory = 500_000_000

// Options are how a stream works; the zero value is good.
type Options struct {
	// Memory is the most that the stream holds at once, in bytes, for all that
	// it does; 0 is [DefaultMemory]. It cannot be more than Budget's limit.
	Memory int64
	// Budget is the one that the stream's own lies under, as a host's over all
	// its streams; nil is none.
	Budget *Budget
	// ChunkRows is how many rows a chunk has at most, where its bytes allow it. 0
	// begins with [DefaultChunkRows], and lets chunks grow while there is room.
	// When memory is short they have fewer in either case.
	ChunkRows int64
	// Pressure says when the stream slows down, and how long it waits for memory.
	Pressure Pressure
	// ReadAhead fetches the next page while the consumer has this one, where there
	// is room for both. The source then runs on another goroutine than the
	// consumer, at the same time; it ends with the loop.
	ReadAhead bool
	// Parallel reads so many partitions of the table at once, where it has some and
	// is asked for neither an order nor a limit that it keeps to, and no tokens are
	// wanted. Each costs a scan of the source, on a goroutine that ends with the
	// loop, and memory for three pages or more. The rows come partition by partition in the order of the
	// source's plan, which is the table's where the source divides it so; with
	// Unordered page by page as they come. 0 and 1 read the table as one.
	Parallel  int
	Unordered bool
	// Caching is whether the stream's rows are remembered, and given again.
	Caching Caching
	// OnEvent is told when the stream changes its [Level]; nil is nobody. It is
	// called within the loop, and holds the stream up until it returns.
	OnEvent func(Event)
	// Retry says how often and when the source is asked again after a fault, and
	// Timeouts how long it is waited for.
	Retry    Retry
	Timeouts Timeouts
	// Breaker keeps the stream from a source that fails again and again: all
	// streams of a source share one. nil is none.
	Breaker *Breaker
	// OnFault is told of what went wrong and did not end the stream; nil is nobody.
	// It must not wait, and is called from any goroutine.
	OnFault func(Fault)
	// Name names the stream for whoever watches it, and in the logs of its source.
	Name string
	// OnChunk is told the rows and bytes of each chunk that the consumer is done
	// with, OnEnd the receipt once everything is given back; nil is nobody. They are
	// called by the loop, and hold it up until they return.
	OnChunk func(rows, bytes int64)
	OnEnd   func(Receipt)
	// Tokens gives every chunk a token, at the cost of a checksum over the rows
	// since the last page.
	Tokens bool
	// Strategy and MaxDepth are those of a load that does not say them: 0 is
	// [Selective] and [DefaultMaxDepth].
	Strategy Strategy
	MaxDepth int
}

// Stream reads one table of one source. It is a chain of sequences, each
// ranging over the one before it, and works only while its consumer ranges over
// [Stream.Chunks]: blocking in the loop holds the source back, leaving the loop
// stops it.
//
// One goroutine ranges; every method may be called from any.
type Stream struct {
	ctx     context.Context
	stop    context.CancelCauseFunc
	name    string
	limit   int64         // of the query
	whole   int64         // rows that the catalogue expects the source to give; -1 where it does not know
	planned *atomic.Int64 // rows that the latest plan expects it to give; -1 where there was none
	read    atomic.Int64  // rows that the source gave
	gate    gate
	onEnd   func(Receipt)           // or nil
	onChunk func(rows, bytes int64) // or nil
	budget  *Budget
	ledger  *ledger
	pace    *governor
	session *origin
	table   string
	schema  *arrow.Schema
	chunks  sources.Batches
	loader  *loader
	faults  *faultLog
	tracker *tracker // nil without tokens

	done     chan struct{} // closed once everything is given back
	closeErr error         // set before done is closed

	mu       sync.Mutex
	state    state
	failure  sources.Kind // of the receipt's error
	receipt  Receipt
	checksum *checksum
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

// Open begins a session of the source and returns the stream of a query. No row
// is read before the first chunk is asked for. The context is the stream's: its
// end stops the stream with an error of kind [sources.Canceled].
//
// What is wrong with the query is an error of kind [sources.Invalid] or
// [sources.NotFound]; every other kind is the source's. The caller closes the
// stream, and the source after it.
func Open(ctx context.Context, source sources.Source, q Query, o Options) (*Stream, error) {
	started := time.Now()
	for _, err := range []error{o.Pressure.Check(), o.Retry.Check(), o.Caching.check()} {
		if err != nil {
			return nil, sources.WithOp("stream", q.Table, err)
		}
	}
	o.Pressure, o.Retry, o.Timeouts = o.Pressure.OrDefault(), o.Retry.orDefault(), o.Timeouts.orDefault()
	o.Tokens = o.Tokens || q.After != "" // both want the rows in one order
	faults := &faultLog{started: started, notify: o.OnFault}
	raw := source
	steady := newSteady(source, o, faults)
	source = steady
	catalog, err := source.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	tree, err := plan(catalog, &q, o)
	if err != nil {
		return nil, err
	}
	table, asked, rest, err := split(catalog, q)
	if err != nil {
		return nil, err
	}
	if o.ChunkRows < 0 {
		return nil, &sources.Error{Op: "stream", Table: q.Table, Kind: sources.Invalid, Err: fmt.Errorf("chunks of %d rows", o.ChunkRows)}
	}
	if o.Parallel < 0 {
		return nil, &sources.Error{Op: "stream", Table: q.Table, Kind: sources.Invalid, Err: fmt.Errorf("%d partitions at once", o.Parallel)}
	}
	var from bookmark
	if q.After != "" || o.Tokens {
		if from, err = after(table, q, o); err != nil {
			return nil, sources.WithOp("query", q.Table, err)
		}
	}
	asked.After = from.cursor
	if q.Limit > 0 { // the rows since the cursor come once more
		if rest.limit > 0 {
			rest.limit += from.since
		} else {
			asked.Limit += from.since
		}
	}
	limit := o.Memory
	if limit == 0 {
		limit = DefaultMemory
	}
	if o.Budget != nil {
		limit = min(limit, o.Budget.Limit())
	}
	budget, err := NewBudget("stream "+q.Table, limit, o.Budget)
	if err != nil {
		return nil, err
	}
	// An accumulating builder holds two buffers while it grows, and pages of a
	// size that does not follow the chunks' can be cached and resumed.
	page := sources.Limits{Bytes: max(min(sources.DefaultLimits.Bytes, limit/32), 1), Rows: sources.DefaultLimits.Rows}
	lanes := newLanes(o, table, asked, len(tree.nodes) > 0, page, limit)
	page = lanes.page
	if err := admission(ctx, budget, least(page)+lanes.floor(), o.Pressure); err != nil {
		budget.Close()
		return nil, sources.WithOp("stream", q.Table, err)
	}
	env := sources.Env{Mem: budget, Page: page, Stream: o.Name, Scans: lanes.scans(len(tree.nodes) > 0)}
	session := &origin{source: source, raw: raw, env: env, table: table, asked: asked, schema: table.ScanSchema(asked.Columns), caching: o.Caching}
	if err := session.open(ctx, o.Budget, len(tree.nodes) > 0, lanes.n > 1); err != nil {
		if closing := session.Close(); closing != nil {
			err = errors.Join(err, closing)
		}
		budget.Close()
		return nil, err
	}
	scanned := table.ScanSchema(rest.columns)
	ledger := newLedger(budget, session)
	pace := newGovernor(ledger, page, o.ChunkRows, o.Pressure, o.OnEvent)
	loader := newLoader(tree, source, env, pace, o.ReadAhead)
	loader.caching = o.Caching
	if err := loader.begin(ctx, session, asked, scanned); err != nil {
		err = errors.Join(err, session.Close())
		budget.Close()
		return nil, err
	}

	s := &Stream{
		budget: budget, ledger: ledger, pace: pace, session: session, table: q.Table, started: started, done: make(chan struct{}),
		schema: loader.schema, loader: loader, faults: faults,
		name: o.Name, limit: q.Limit, whole: -1, planned: &steady.planned, onChunk: o.OnChunk, onEnd: o.OnEnd,
		receipt: Receipt{Name: o.Name, Table: q.Table, LimitBytes: limit, Token: q.After},
	}
	if asked.Where == nil && q.After == "" {
		s.whole = table.Rows
	}
	s.checksum = newChecksum(s.schema)
	s.ctx, s.stop = o.Timeouts.within(ctx)
	// The path of a chunk. The outer guard is for what the engine's own hops are
	// refused; the consumer's panics pass through both.
	scanning, stop := context.WithCancel(s.ctx)
	if lanes.n > 1 {
		session.divide = func(ctx context.Context) sources.Batches {
			return parts(ctx, lanes, session, asked, pace.calm, ledger, func(ctx context.Context, q *sources.Query) sources.Batches {
				return sources.Guard("scan", q.Table, session.Scan(ctx, q))
			})
		}
	}
	pages := sources.Guard("scan", q.Table, session.batches(scanning))
	pages = conform(s.ctx, q.Table, pages, session.schema, s.skip)
	pages = counted(pages, &s.read)
	pages = paced(s.ctx, pages, pace, o.ReadAhead, stop)
	pages = shape(pages, rest, ledger, page)
	if o.Tokens {
		s.tracker = newTracker(from, table, scanned, tree.shown)
		pages = s.tracker.behind(q.Table, pages)
	}
	chunks := cut(pages, scanned, budget, pace)
	chunks = loader.load(s.ctx, chunks)
	s.chunks = sources.Guard("read", q.Table, chunks)
	return s, nil
}

// Schema is the schema of every chunk's record.
func (s *Stream) Schema() *arrow.Schema { return s.schema }

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
				err = canceled(s.ctx, "read", s.table)
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
			token := s.place(batch.Record)
			if !s.hand(batch.Record, token, yield) {
				return
			}
			s.passed(token)
			if s.onChunk != nil {
				s.onChunk(batch.Record.NumRows(), sources.Size(batch.Record))
			}
			s.gate.wait(s.ctx)
		}
		s.complete()
	}
}

// hand gives a chunk to the consumer for its iteration.
func (s *Stream) hand(record arrow.RecordBatch, token Token, yield func(*Chunk, error) bool) bool {
	record.Retain()
	handed := s.ledger.hand(record)
	defer handed.Release()
	chunk := s.loader.chunkOf(handed)
	defer chunk.end()
	chunk.Token = token
	return yield(chunk, nil)
}

// place is the token behind a chunk that is about to be handed out.
func (s *Stream) place(record arrow.RecordBatch) Token {
	if s.tracker == nil {
		return ""
	}
	return s.tracker.chunk(record)
}

// passed notes the token of a chunk that the consumer is done with.
func (s *Stream) passed(token Token) {
	if s.tracker == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Token = token
}

// Holding says who holds how much of the stream's memory now.
func (s *Stream) Holding() Holding { return s.ledger.now() }

// Level says how the stream goes about memory now.
func (s *Stream) Level() Level { return s.pace.levelNow() }

// Allocator is the stream's budget for those who write its chunks: what they
// allocate is of the stream's limit, and counts as theirs. They release it before
// the stream ends or soon after.
func (s *Stream) Allocator() memory.Allocator { return s.ledger.view(Output) }

// Receipt says how far the stream has come, and once it has ended how it ended.
func (s *Stream) Receipt() Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.receipt
	r.PeakBytes = s.budget.Peak()
	s.pace.report(&r)
	s.faults.report(&r)
	r.Lookups, r.Relations = s.loader.receipt()
	s.session.report(&r)
	if s.ledger.isolated != nil {
		_, r.IsolatePeakBytes, r.IsolateLimitBytes = s.ledger.isolated.Isolate()
	}
	if r.Elapsed == 0 {
		r.Elapsed = time.Since(s.started)
	}
	return r
}

// Budget is what the stream holds memory from: its figures say how much of the
// limit is in use. The records of chunks that were retained are part of it.
func (s *Stream) Budget() *Budget { return s.budget }

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
	loading := s.loader.close()
	_, s.closeErr = sources.Call("close", s.table, func() (struct{}, error) { return struct{}{}, s.session.Close() })
	s.closeErr = errors.Join(loading, s.closeErr)
	s.budget.Close()
	s.mu.Lock()
	s.receipt.Checksum = s.checksum.sum()
	s.checksum.free()
	s.receipt.Elapsed = time.Since(s.started)
	s.mu.Unlock()
	if s.onEnd != nil {
		s.onEnd(s.Receipt())
	}
	close(s.done)
}

func (s *Stream) count(record arrow.RecordBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipt.Rows += record.NumRows()
	s.receipt.Bytes += sources.Size(record)
	s.receipt.Chunks++
	s.checksum.add(record)
}

// skip counts what the source left out. A resumed scan has no page twice, so
// neither is anything counted twice.
func (s *Stream) skip(more sources.Skipped) error {
	if more.Records == 0 {
		return nil
	}
	if err := more.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sources.Skipped{Records: s.receipt.Skipped, First: s.receipt.SkippedFirst}
	sum.Add(more)
	s.receipt.Skipped, s.receipt.SkippedFirst = sum.Records, slices.Clone(sum.First)
	return nil
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

// conform holds a scan to the schema that its table declares, and to the
// stream's context where the source does not look at it. What the source left
// out is skip's to count.
func conform(ctx context.Context, table string, pages sources.Batches, schema *arrow.Schema, skip func(sources.Skipped) error) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		rows := int64(0)
		for page, err := range pages {
			if err == nil {
				// A page may hold many chunks, and many pages may make none.
				err = canceled(ctx, "scan", table)
			}
			if err == nil {
				err = differ(page.Record.Schema(), schema)
			}
			if err == nil {
				err = skip(page.Skipped)
			}
			if err != nil {
				yield(sources.Batch{}, placed(err, rows))
				return
			}
			rows += page.Record.NumRows()
			if !conformed(page, schema, yield) {
				return
			}
		}
	}
}

// placed says of what did not fit where it stands: the row after those that have
// come from the source, or one of the next page's.
func placed(err error, rows int64) error {
	var refusal *Refusal
	e, ok := err.(*sources.Error)
	if !ok || e.Kind != sources.Exhausted || !errors.As(err, &refusal) {
		return err
	}
	return &sources.Error{Op: e.Op, Table: e.Table, Kind: e.Kind, Err: fmt.Errorf("what follows row %d does not fit: %w; give it more memory", rows, refusal)}
}

// canceled returns the error of a stream whose context has ended.
func canceled(ctx context.Context, op, table string) error {
	if ctx.Err() == nil {
		return nil
	}
	return &sources.Error{Op: op, Table: table, Kind: sources.Canceled, Err: context.Cause(ctx)}
}

// conformed yields a page under the very schema that the table declares, with
// its metadata, which a source's own pages may lack.
func conformed(page sources.Batch, schema *arrow.Schema, yield func(sources.Batch, error) bool) bool {
	if page.Record.Schema() != schema {
		page.Record = array.NewRecordBatch(schema, page.Record.Columns(), page.Record.NumRows())
		defer page.Record.Release()
	}
	return yield(page, nil)
}

// differ returns what distinguishes a page's schema from the declared one.
func differ(got, want *arrow.Schema) error {
	if got == want {
		return nil
	}
	if got.NumFields() != want.NumFields() {
		return &sources.Error{Kind: sources.Internal, Err: fmt.Errorf("the source gave %d columns where its catalogue has %d", got.NumFields(), want.NumFields())}
	}
	var faults []error
	for i, w := range want.Fields() {
		g := got.Field(i)
		if g.Name != w.Name || g.Nullable != w.Nullable || !arrow.TypeEqual(g.Type, w.Type) {
			faults = append(faults, fmt.Errorf("the source gave column %q %s (nullable %t) where its catalogue has %q %s (nullable %t)",
				g.Name, g.Type, g.Nullable, w.Name, w.Type, w.Nullable))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return &sources.Error{Kind: sources.Internal, Err: errors.Join(faults...)}
}
