package core

import (
	"context"
	"errors"
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// Open returns a stream of the rows of a query. It checks the query against the
// source's catalog, waits until there is memory for the stream's smallest step, and
// begins a session if the rows are not in the cache. It reads no rows before the
// consumer ranges over the stream.
//
// The stream ends when its loop ends, or when ctx ends, then with an error of kind
// [sources.Canceled]. If there may be no loop, the caller must call [Stream.Close]. The
// source must outlive the stream.
//
// If the query or the options are not valid, the error is of kind [sources.Invalid],
// or of kind [sources.NotFound] if a table, column or relation does not exist. If there
// is no memory for the stream within [budget.Pressure.MaxWait], the error is of kind
// [sources.Exhausted]. Other errors come from the source.
func Open(ctx context.Context, source sources.Source, q Query, o Options, r Resources) (*Stream, error) {
	started := time.Now()
	o, err := o.checked(q, r)
	if err != nil {
		return nil, err
	}
	ctx, stop := o.Timeouts.StreamContext(ctx)
	p, c, err := open(ctx, stop, source, q, o, r)
	if err != nil {
		stop(nil)
		return nil, err
	}
	return newStream(p, c, r.Observer, started), nil
}

// open plans and connects a stream whose context is ctx, and which stop ends.
func open(ctx context.Context, stop context.CancelCauseFunc, source sources.Source, q Query, o Options, r Resources) (*plan, *connection, error) {
	retrying := retry.NewSource(source, o.Retry, o.Timeouts, r.Breaker, r.LateCalls, r.Observer.Fault)
	catalog, err := retrying.Catalog(sources.ForTables(ctx, q.Table))
	if err != nil {
		return nil, nil, err
	}
	p, err := compile(catalog, q, o, r.limit(o))
	if err != nil {
		return nil, nil, err
	}
	mem, err := p.admit(ctx, r.Budget)
	if err != nil {
		return nil, nil, err
	}
	c, err := p.connect(ctx, stop, retrying, source, r, mem)
	return p, c, err
}

// admit returns the stream's budget once its floor is reserved, the memory with which
// the stream can always take its smallest step.
func (p *plan) admit(ctx context.Context, parent *budget.Budget) (*budget.Budget, error) {
	mem, err := budget.New("stream "+p.table.Name, p.limit, parent)
	if err != nil {
		return nil, err
	}
	if err := budget.AdmitStream(ctx, mem, budget.Floor(p.parallel.page)+p.parallel.floor(), p.options.Pressure); err != nil {
		mem.Close()
		return nil, sources.WithOp("stream", p.table.Name, err)
	}
	return mem, nil
}

// connection has the parts of the engine that a stream reads through. The stream owns
// all of them.
type connection struct {
	ctx      context.Context // the stream's
	stop     context.CancelCauseFunc
	table    string
	budget   *budget.Budget
	accounts *budget.Accounts
	pressure *budget.Backpressure
	source   *retry.Source
	session  *cache.Session
	reader   *cache.Reader // nil if it could not be opened
	loader   *relation.Loader
}

// connect makes the parts of a stream, looks the query up in the cache, and begins the
// sessions that the stream needs. It takes over the budget mem. ctx is the stream's
// context, which stop ends. source is the stream's own, which retries; shared is the one
// below it that streams have in common.
func (p *plan) connect(ctx context.Context, stop context.CancelCauseFunc, source *retry.Source, shared sources.Source, r Resources, mem *budget.Budget) (*connection, error) {
	env := sources.Env{Page: p.parallel.page, FlushAfter: p.options.FlushAfter, Stream: p.options.Name, MaxScans: p.parallel.scans(p.related())}
	session := cache.NewSession(source, shared, p.table, env, mem)
	accounts := budget.NewAccounts(mem, session)
	pressure := budget.NewBackpressure(mem, accounts, env.Page, p.options.ChunkRows, p.options.Pressure, r.Observer.Level)
	loader := relation.NewLoader(ctx, relation.LoaderConfig{
		Tree: p.tree, Session: session, Query: p.pushed, Scanned: p.scanned, Pressure: pressure, Cache: r.user(p.options, p.identity), ReadAhead: p.options.ReadAhead,
	})
	use := r.user(p.options, p.identity)
	caching := use.Active()
	if p.options.Tokens && p.parallel.workers > 0 {
		use.Policy.Mode = cache.ModeBypass // what is cached has no positions in partitions
	}
	var reader *cache.Reader
	// Before the reader: a stream that shares a scan must not wait for a session of its own.
	err := p.prepareTokens(ctx, session, loader, caching)
	if err == nil {
		reader, err = cache.OpenReader(ctx, cache.ReaderConfig{
			Cache: use, Session: session, Query: p.pushed, Parent: r.Budget,
			// Tokens have the state of the data that this session sees.
			Consistent: p.related() || len(p.start.states) > 0, Partitioned: p.parallel.workers > 0, Unordered: p.parallel.unordered,
			Scan: func(ctx context.Context) sources.Batches {
				return scanParallel(ctx, p.parallel, session, p.pushed, pressure.Calm, accounts)
			},
		})
	}
	if err == nil {
		err = loader.Connect(ctx)
	}
	c := &connection{
		ctx: ctx, stop: stop, table: p.table.Name, budget: mem, accounts: accounts, pressure: pressure,
		source: source, session: session, reader: reader, loader: loader,
	}
	if err == nil {
		return c, nil
	}
	if closing := c.close(); closing != nil {
		err = errors.Join(err, closing)
	}
	return nil, err
}

// close ends the sessions and releases the memory of the connection. If a call to the
// source was given up and has not returned, the memory stays reserved until it does.
func (c *connection) close() error {
	c.stop(nil)
	faults := []error{c.loader.Close()}
	if c.reader != nil {
		faults = append(faults, c.reader.Close())
	}
	_, err := sources.GuardCall("close", c.table, func() (struct{}, error) { return struct{}{}, c.session.Close() })
	c.source.AfterCalls(c.budget.Close)
	return errors.Join(append(faults, err)...)
}

// chain links the stages of a stream, in the order of ARCHITECTURE.md. Its guard turns
// a budget's refusal within these stages into an error. The source has a guard of its
// own in package retry, and stages that run on another goroutine have one there. A
// panic of the consumer passes through all of them.
func (p *plan) chain(s *Stream) sources.Batches {
	c := s.connection
	scanning, stop := context.WithCancel(s.ctx)
	pages := s.countRead(c.reader.Batches(scanning), p.pushed.Where == nil && p.pushed.After == nil)
	pages = throttle(s.ctx, p.table.Name, pages, c.pressure, c.accounts, p.options.ReadAhead, stop)
	pages = query.PostProcess(pages, p.residual, c.budget, c.accounts, p.parallel.page)
	if s.tracker != nil {
		pages = s.tracker.skipDelivered(p.table.Name, pages)
	}
	chunks := c.loader.Load(rechunk(pages, p.scanned, p.options.FlushAfter, c.budget, c.pressure, c.accounts))
	return sources.Guard("read", p.table.Name, chunks)
}
