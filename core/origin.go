package core

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// CacheMode is how a stream uses a cache.
type CacheMode uint8

// The modes.
const (
	CacheUse     CacheMode = iota // what is remembered is given, what is asked is remembered
	CacheRefresh                  // the source is asked, and the answer is remembered in the place of the old one
	CacheBypass                   // as if there were no cache
)

// String is the mode's name, as in "refresh".
func (m CacheMode) String() string {
	switch m {
	case CacheUse:
		return "use"
	case CacheRefresh:
		return "refresh"
	case CacheBypass:
		return "bypass"
	}
	return "cache mode?"
}

// Caching is how a stream uses a cache; the zero value is not at all.
type Caching struct {
	Cache *Cache
	// Source is the identity of the stream's source, see [Identify]. Two sources
	// with the same identity must give the same answers.
	Source Fingerprint
	Mode   CacheMode
	// TTL and Bytes are for how long the stream's answer is good, and how large it
	// may be to be remembered; 0 is the cache's own.
	TTL   time.Duration
	Bytes int64
}

// Where a stream's pages came from, as its receipt says.
const (
	CacheHit      = "hit"    // the cache had them
	CacheMiss     = "miss"   // the source was asked
	CacheShared   = "shared" // another stream was just asking the source the same
	CacheBypassed = "bypass" // the source was asked, and nothing remembered
)

func (c Caching) check() error {
	switch {
	case c.Cache == nil:
		return nil
	case c.Source == Fingerprint{}:
		return &sources.Error{Op: "stream", Kind: sources.Invalid, Err: errors.New("Caching: a Cache without the identity of the Source")}
	case c.Mode > CacheBypass, c.TTL < 0, c.Bytes < 0:
		return &sources.Error{Op: "stream", Kind: sources.Invalid, Err: fmt.Errorf("Caching: mode %d, TTL %s, %d bytes", c.Mode, c.TTL, c.Bytes)}
	}
	return nil
}

// origin is where a stream's pages come from: a session of the source, or the
// cache. It is a session itself, for the look-ups of relations: the source's,
// begun when it is first needed.
type origin struct {
	source   sources.Source // whose calls are guarded, and asked again
	raw      sources.Source // the same, shared by streams
	env      sources.Env    // of the session
	table    *sources.Table
	asked    *sources.Query
	schema   *arrow.Schema // of the pages
	caching  Caching
	question Question
	// divide reads the table's partitions at once, in the stream's own session; nil
	// where it is read as one.
	divide func(context.Context) sources.Batches

	found  *entry    // a hit
	pages  []*packed // the pages of it that are still to come, with their references
	flight *flight
	leads  bool
	fill   *fill // of a stream that reads for itself

	mu      sync.Mutex
	session sources.Session // nil until it is begun
	closed  bool
	told    string // how the cache was used
	// isolated is the last session that was begun for the stream, where it is
	// behind a wall.
	isolated Isolated
	age      time.Duration
}

// open finds out where the pages come from. A stream with relations reads rows
// and what they lead to in one session, and so at one moment, where it does not
// find the rows in the cache: it has no part in flights. Nor has one that reads
// partitions, whose rows come in another order, without places to go on from.
func (o *origin) open(ctx context.Context, parent *Budget, relations, parts bool) error {
	c := o.caching.Cache
	if c == nil || o.caching.Mode == CacheBypass {
		if c != nil {
			o.tell(CacheBypassed)
		}
		return o.begin(ctx)
	}
	ok := false
	if o.question, ok = question(o.caching.Source, c.describe(o.table), o.asked); !ok {
		o.tell(CacheBypassed)
		return o.begin(ctx)
	}
	if parts {
		o.question.Key = Identify("partitions", o.question.Key.String())
	}
	if o.caching.Mode == CacheUse {
		if o.find(ctx, CacheHit) {
			return nil
		}
		if !relations && !parts && !c.tooLarge(o.question.Key) {
			// One session at a time: others may wait for this one.
			if err := o.end(); err != nil {
				return err
			}
			if flying, err := o.fly(ctx, parent); flying || err != nil {
				return err
			}
		}
	}
	if !c.tooLarge(o.question.Key) {
		o.fill = o.newFill()
	}
	o.tell(CacheMiss)
	return o.begin(ctx)
}

func (o *origin) newFill() *fill {
	f := o.caching.Cache.begin(o.question, o.caching.Bytes)
	if f != nil && o.caching.TTL > 0 {
		f.expires = f.asked.Add(o.caching.TTL)
	}
	return f
}

// find takes what the cache has, if it is what the source would say now.
func (o *origin) find(ctx context.Context, as string) bool {
	c := o.caching.Cache
	e, pages := c.find(o.question, o.schema)
	if e == nil {
		return false
	}
	if e.version != "" {
		plan, err := o.Plan(ctx, o.asked)
		if err != nil || plan.Version != e.version {
			if err == nil {
				c.outdated(e)
			}
			for _, p := range pages {
				p.release()
			}
			return false
		}
	}
	o.found, o.pages = e, append([]*packed(nil), pages...)
	o.age = time.Since(e.asked)
	o.tell(as)
	return true
}

// tell counts how the cache was used.
func (o *origin) tell(how string) {
	o.mu.Lock()
	o.told = how
	o.mu.Unlock()
	o.caching.Cache.count(func(s *CacheStats) {
		switch how {
		case CacheHit:
			s.Hits++
		case CacheMiss:
			s.Misses++
		case CacheShared:
			s.Shared++
		}
	})
}

// fly follows a flight or begins one, where there is room for it.
func (o *origin) fly(ctx context.Context, parent *Budget) (bool, error) {
	limit := o.env.Mem.(*Budget).Limit()
	budget, err := NewBudget("the scan of "+o.table.Name, limit, parent)
	if err != nil {
		return false, nil
	}
	now, cancel := context.WithCancel(ctx)
	cancel() // what holds the stream's floor does not wait for another
	if err := budget.Admit(now, least(o.env.Page)); err != nil {
		budget.Close()
		return false, nil
	}
	fill := o.newFill()
	if fill == nil {
		budget.Close()
		return false, nil
	}
	f := &flight{
		fill: fill, source: o.source, raw: o.raw, table: o.table, query: o.asked, schema: o.schema, budget: budget,
		ended: make(chan struct{}), changed: make(chan struct{}), leader: true,
	}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	o.flight, o.leads = o.caching.Cache.follow(f)
	if !o.leads {
		f.cancel()
		return true, nil
	}
	o.tell(CacheMiss)
	err = f.begin(ctx, o.env)
	if err != nil {
		f.cancel()
		o.flight = nil
	}
	o.mu.Lock()
	o.isolated, _ = f.session.(Isolated)
	o.mu.Unlock()
	return true, err
}

// batches are the pages.
func (o *origin) batches(ctx context.Context) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		switch {
		case o.found != nil:
			o.replay(yield)
		case o.flight != nil && o.leads:
			o.lead(ctx, yield)
		case o.flight != nil:
			o.share(ctx, yield)
		default:
			o.read(ctx, yield)
		}
	}
}

// replay gives what was found.
func (o *origin) replay(yield func(sources.Batch, error) bool) {
	for len(o.pages) > 0 {
		p := o.pages[0]
		o.pages = o.pages[1:]
		if !o.give(p, yield) {
			return
		}
	}
}

// give lends a page to the stream, in parts where the page is larger than the
// stream's may be: another with a larger limit has asked for it.
func (o *origin) give(p *packed, yield func(sources.Batch, error) bool) bool {
	defer p.release()
	if p.rows <= 1 || p.size <= o.env.Page.Bytes && p.rows <= o.env.Page.Rows {
		return o.part(p, 0, p.rows, yield)
	}
	whole, err := p.lend(nil, o.schema, 0, p.rows)
	if err != nil {
		yield(sources.Batch{}, err)
		return false
	}
	defer whole.Release()
	for from := int64(0); from < p.rows; {
		to := min(p.rows, from+o.env.Page.Rows)
		for to-from > 1 {
			slice := whole.NewSlice(from, to)
			size := sources.Size(slice)
			slice.Release()
			if size <= o.env.Page.Bytes {
				break
			}
			to = from + max((to-from)*o.env.Page.Bytes/size, 1)
		}
		if !o.part(p, from, to, yield) {
			return false
		}
		from = to
	}
	return true
}

// part gives some rows of a page. What is said of the page stands with the last
// of them.
func (o *origin) part(p *packed, from, to int64, yield func(sources.Batch, error) bool) bool {
	record, err := p.lend(o.env.Mem.(*Budget), o.schema, from, to)
	if err != nil {
		yield(sources.Batch{}, err)
		return false
	}
	defer record.Release()
	page := sources.Batch{Record: record}
	if to == p.rows {
		page.Cursor, page.Skipped = p.cursor, p.skipped
	}
	return yield(page, nil)
}

// lead gives the pages of the flight that the stream began.
func (o *origin) lead(ctx context.Context, yield func(sources.Batch, error) bool) {
	for given := 0; ; given++ {
		next, err := o.flight.next(ctx)
		switch {
		case err == errOver:
			return
		case given == 0 && sources.KindOf(err) == sources.Exhausted && err != nil:
			// A flight has a budget of its own; the stream's may have the room.
			if err := o.land(); err != nil {
				yield(sources.Batch{}, err)
				return
			}
			o.read(ctx, yield)
			return
		case err != nil:
			yield(sources.Batch{}, err)
			return
		}
		if next.packed != nil {
			if !o.give(next.packed, yield) {
				return
			}
		} else if !o.copied(next.page, yield) {
			return
		}
	}
}

// copied gives a page of the flight's in the stream's own memory, which the
// consumer may keep for longer than the flight lives.
func (o *origin) copied(page sources.Batch, yield func(sources.Batch, error) bool) bool {
	defer page.Record.Release()
	record := concat(o.env.Mem, o.schema, []arrow.RecordBatch{page.Record})
	defer record.Release()
	page.Record = record
	return yield(page, nil)
}

// share waits for the flight of another stream, and reads for itself where that
// comes to nothing.
func (o *origin) share(ctx context.Context, yield func(sources.Batch, error) bool) {
	landed := o.flight.land(ctx)
	if err := o.land(); err != nil {
		yield(sources.Batch{}, err)
		return
	}
	if ctx.Err() != nil {
		yield(sources.Batch{}, canceled(ctx, "scan", o.table.Name))
		return
	}
	if landed && o.find(ctx, CacheShared) {
		o.replay(yield)
		return
	}
	o.tell(CacheMiss)
	o.read(ctx, yield)
}

// land leaves the flight.
func (o *origin) land() error {
	f, leads := o.flight, o.leads
	o.flight = nil
	if f == nil {
		return nil
	}
	return f.leave(leads)
}

// read reads in a session of the stream's own.
func (o *origin) read(ctx context.Context, yield func(sources.Batch, error) bool) {
	if err := o.begin(ctx); err != nil {
		yield(sources.Batch{}, err)
		return
	}
	f := o.fill
	if f != nil && f.versioned(ctx, o.session, o.asked) != nil {
		f = nil
	}
	pages := scan(ctx, o.session, o.table, o.asked, o.schema)
	if o.divide != nil {
		pages = conform(ctx, o.table.Name, o.divide(ctx), o.schema, sources.Skipped.Check)
	}
	for page, err := range pages {
		if err == nil && f != nil && !f.keep(page) {
			f.abandon()
			f = nil
		}
		if !yield(page, err) || err != nil {
			return
		}
	}
	if f != nil && f.unchanged(ctx, o.session, o.asked) && f.commit() {
		o.caching.Cache.store(o.question.Key, o.schema)
	}
}

// scan is the source's answer, held to its schema.
func scan(ctx context.Context, session sources.Session, table *sources.Table, asked *sources.Query, schema *arrow.Schema) sources.Batches {
	pages := sources.Guard("scan", table.Name, session.Scan(ctx, asked))
	return conform(ctx, table.Name, pages, schema, sources.Skipped.Check)
}

// begin begins the stream's own session, unless it has one.
func (o *origin) begin(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.session != nil {
		return nil
	}
	if o.closed {
		return &sources.Error{Op: "begin", Table: o.table.Name, Kind: sources.Invalid, Err: errors.New("the stream is closed")}
	}
	session, err := o.source.Begin(ctx, o.env)
	if err == nil {
		o.session = session
		o.isolated, _ = session.(Isolated)
	}
	return err
}

// Plan asks the stream's own session.
func (o *origin) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	if err := o.begin(ctx); err != nil {
		return nil, err
	}
	return o.session.Plan(ctx, q)
}

// Scan reads in the stream's own session.
func (o *origin) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		if err := o.begin(ctx); err != nil {
			yield(sources.Batch{}, err)
			return
		}
		o.session.Scan(ctx, q)(yield)
	}
}

// end closes the stream's own session. Another may be begun afterwards.
func (o *origin) end() error {
	o.mu.Lock()
	session := o.session
	o.session = nil
	o.mu.Unlock()
	if session == nil {
		return nil
	}
	_, err := sources.Call("close", o.table.Name, func() (struct{}, error) { return struct{}{}, session.Close() })
	return err
}

// Close gives everything back.
func (o *origin) Close() error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	for _, p := range o.pages {
		p.release()
	}
	o.pages = nil
	landing := o.land()
	if o.fill != nil {
		o.fill.abandon()
	}
	return errors.Join(landing, o.end())
}

// Isolate says what the process or module holds that the pages come from.
func (o *origin) Isolate() (held, peak, limit int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isolated == nil {
		return 0, 0, 0
	}
	return o.isolated.Isolate()
}

// report writes how the cache was used into a receipt.
func (o *origin) report(r *Receipt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r.Cache, r.CacheAge = o.told, o.age
}
