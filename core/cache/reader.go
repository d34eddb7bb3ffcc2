package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Mode is how a stream uses a cache.
type Mode uint8

// The modes.
const (
	ModeUse     Mode = iota // answer from the cache, and remember what the source answers
	ModeRefresh             // ask the source, and replace what the cache remembers
	ModeBypass              // neither read nor fill the cache
)

// String returns the mode's name, as in "refresh".
func (m Mode) String() string {
	switch m {
	case ModeUse:
		return "use"
	case ModeRefresh:
		return "refresh"
	case ModeBypass:
		return "bypass"
	}
	return "cache mode?"
}

// Policy configures how one stream uses the cache. The zero value reads and
// fills it within the cache's own bounds.
type Policy struct {
	Mode Mode
	// TTL is how long the stream's answer stays valid; 0 means the cache's TTL.
	TTL time.Duration
	// MaxBytes is the largest answer to remember, in bytes; 0 means the cache's limit.
	MaxBytes int64
}

// How the cache was used, as a receipt reports it.
const (
	Hit      = "hit"    // the rows came from the cache
	Miss     = "miss"   // the rows came from the source
	Shared   = "shared" // the rows came from another stream's scan of the same query
	Bypassed = "bypass" // the rows came from the source, and nothing was remembered
)

// Use is how one stream uses a cache. Without a Cache it uses none.
type Use struct {
	Cache *Cache
	// SourceID is the identity of the stream's source, see [query.Identify].
	SourceID query.Fingerprint
	Policy   Policy
}

// Check returns an error of kind [sources.Invalid] that says what is wrong with u.
func (u Use) Check() error {
	switch p := u.Policy; {
	case p.Mode > ModeBypass, p.TTL < 0, p.MaxBytes < 0:
		return &sources.Error{Op: "stream", Kind: sources.Invalid, Err: fmt.Errorf(
			"Caching: Mode must be use, refresh or bypass, TTL and Bytes must not be negative (got mode %d, TTL %s, %d bytes)", p.Mode, p.TTL, p.MaxBytes)}
	case u.Cache != nil && u.SourceID == query.Fingerprint{}:
		return &sources.Error{Op: "stream", Kind: sources.Invalid, Err: errors.New("Resources: a Cache needs the identity of its source: set SourceID")}
	}
	return nil
}

// Active reports whether the stream reads or fills a cache.
func (u Use) Active() bool { return u.Cache != nil && u.Policy.Mode != ModeBypass }

// Refreshes reports whether the stream replaces what the cache remembers.
func (u Use) Refreshes() bool { return u.Policy.Mode == ModeRefresh }

// ReaderConfig configures a [Reader].
type ReaderConfig struct {
	Cache   Use
	Session *Session // the stream's own
	Query   *sources.Query
	// Scan reads the pages of Query in the stream's own session. It must be guarded,
	// see [sources.Guard].
	Scan   func(ctx context.Context) sources.Batches
	Parent *budget.Budget // of the budget of a shared scan; nil for none
	// Consistent requires that rows and later look-ups come from one session, and so
	// from one snapshot. Such a stream takes no part in shared scans.
	Consistent bool
	// Partitioned says that Scan reads partitions. Its rows come in another order.
	Partitioned bool
}

// Reader supplies the pages of a stream: from the cache, from a scan that
// streams share, or from the stream's own session. It is for one goroutine, but
// for Report.
type Reader struct {
	ReaderConfig
	table  *sources.Table
	key    query.Key
	schema *arrow.Schema // of the pages

	found *heldEntry        // a hit
	pages []*contiguousPage // the pages of it that are still to come, with their references
	scan  *sharedScan
	leads bool
	fill  *pendingEntry // of a stream that reads for itself

	mu  sync.Mutex
	how string // how the cache was used
	age time.Duration
}

// OpenReader decides where the pages of a stream come from, and begins what they
// need: the stream's own session, or a shared scan. Its errors are the source's.
// The caller closes the reader, also after an error of its Batches.
func OpenReader(ctx context.Context, c ReaderConfig) (*Reader, error) {
	r := &Reader{ReaderConfig: c, table: c.Session.table, schema: c.Session.table.ScanSchema(c.Query.Columns)}
	if err := r.open(ctx); err != nil {
		if closing := r.Close(); closing != nil {
			err = errors.Join(err, closing)
		}
		return nil, err
	}
	return r, nil
}

func (r *Reader) open(ctx context.Context) error {
	c := r.Cache.Cache
	if c == nil {
		return r.Session.Begin(ctx)
	}
	ok := false
	if r.Cache.Active() {
		r.key, ok = query.KeyFrom(r.Cache.SourceID, c.TableFingerprint(r.table), r.Query)
	}
	if !ok {
		r.used(Bypassed)
		return r.Session.Begin(ctx)
	}
	if r.Partitioned {
		r.key.Digest = query.Identify("partitions", r.key.Digest.String())
	}
	tooLarge := c.tooLarge(r.key.Digest)
	if r.Cache.Policy.Mode == ModeUse {
		if r.find(ctx, Hit) {
			return nil
		}
		if !r.Consistent && !r.Partitioned && !tooLarge {
			// One session at a time: other streams may wait for this one.
			if err := r.Session.suspend(); err != nil {
				return err
			}
			if shared, err := r.share(ctx); shared || err != nil {
				return err
			}
		}
	}
	if !tooLarge {
		r.fill = r.newFill()
	}
	r.used(Miss)
	return r.Session.Begin(ctx)
}

func (r *Reader) newFill() *pendingEntry {
	f := r.Cache.Cache.begin(r.key, r.Cache.Policy.MaxBytes)
	if f != nil && r.Cache.Policy.TTL > 0 {
		f.expires = f.asked.Add(r.Cache.Policy.TTL)
	}
	return f
}

// find takes what the cache has, if the source's table still has that version.
func (r *Reader) find(ctx context.Context, how string) bool {
	c := r.Cache.Cache
	e, pages := c.find(r.key, r.schema)
	if e == nil {
		return false
	}
	if e.version != "" {
		plan, err := r.Session.Plan(ctx, r.Query)
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
	r.found, r.pages = e, append([]*contiguousPage(nil), pages...)
	r.mu.Lock()
	r.age = time.Since(e.asked)
	r.mu.Unlock()
	r.used(how)
	return true
}

// used counts how the cache was used.
func (r *Reader) used(how string) {
	r.mu.Lock()
	r.how = how
	r.mu.Unlock()
	r.Cache.Cache.count(func(s *Stats) {
		switch how {
		case Hit:
			s.Hits++
		case Miss:
			s.Misses++
		case Shared:
			s.Shared++
		}
	})
}

// share joins a shared scan or starts one, where there is room for it.
func (r *Reader) share(ctx context.Context) (bool, error) {
	mem, err := budget.New("the scan of "+r.table.Name, r.Session.budget.Limit(), r.Parent)
	if err != nil {
		return false, nil
	}
	now, cancel := context.WithCancel(ctx)
	cancel() // what holds the stream's floor must not wait for more
	if err := mem.Admit(now, budget.Floor(r.Session.env.Page)); err != nil {
		mem.Close()
		return false, nil
	}
	fill := r.newFill()
	if fill == nil {
		mem.Close()
		return false, nil
	}
	f := newSharedScan(ctx, fill, r, mem)
	r.scan, r.leads = r.Cache.Cache.follow(f)
	if !r.leads {
		f.cancel()
		return true, nil
	}
	r.used(Miss)
	if err := f.begin(ctx, r.Session.env); err != nil {
		f.cancel()
		r.scan = nil
		return true, err
	}
	r.Session.watch(f.session)
	return true, nil
}

// Batches yields the pages, under the schema of the scan.
func (r *Reader) Batches(ctx context.Context) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		switch {
		case r.found != nil:
			r.replay(yield)
		case r.scan != nil && r.leads:
			r.lead(ctx, yield)
		case r.scan != nil:
			r.follow(ctx, yield)
		default:
			r.read(ctx, yield)
		}
	}
}

// replay yields what was found.
func (r *Reader) replay(yield func(sources.Batch, error) bool) {
	for len(r.pages) > 0 {
		p := r.pages[0]
		r.pages = r.pages[1:]
		if !r.give(p, yield) {
			return
		}
	}
}

// give lends a page to the stream, in slices where the page is larger than the
// stream's pages may be: a stream with a larger limit has read it.
func (r *Reader) give(p *contiguousPage, yield func(sources.Batch, error) bool) bool {
	defer p.release()
	limits := r.Session.env.Page
	if p.rows <= 1 || p.size <= limits.Bytes && p.rows <= limits.Rows {
		return r.slice(p, 0, p.rows, yield)
	}
	whole, err := p.lend(nil, r.schema, 0, p.rows)
	if err != nil {
		yield(sources.Batch{}, err)
		return false
	}
	defer whole.Release()
	for from := int64(0); from < p.rows; {
		to := min(p.rows, from+limits.Rows)
		for to-from > 1 {
			slice := whole.NewSlice(from, to)
			size := sources.Size(slice)
			slice.Release()
			if size <= limits.Bytes {
				break
			}
			to = from + max((to-from)*limits.Bytes/size, 1)
		}
		if !r.slice(p, from, to, yield) {
			return false
		}
		from = to
	}
	return true
}

// slice yields some rows of a page. The last slice carries the page's cursor and
// its count of skipped records.
func (r *Reader) slice(p *contiguousPage, from, to int64, yield func(sources.Batch, error) bool) bool {
	record, err := p.lend(r.Session.budget, r.schema, from, to)
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

// lead yields the pages of the shared scan that the stream started.
func (r *Reader) lead(ctx context.Context, yield func(sources.Batch, error) bool) {
	for given := 0; ; given++ {
		next, err := r.scan.next(ctx)
		switch {
		case err == errOver:
			return
		case given == 0 && sources.KindOf(err) == sources.Exhausted && err != nil:
			// The shared scan has a budget of its own; the stream's may have the room.
			if err := r.leave(); err != nil {
				yield(sources.Batch{}, err)
				return
			}
			r.read(ctx, yield)
			return
		case err != nil:
			yield(sources.Batch{}, err)
			return
		}
		if next.packed != nil {
			if !r.give(next.packed, yield) {
				return
			}
		} else if !r.copied(next.page, yield) {
			return
		}
	}
}

// copied yields a page of the shared scan in the stream's own memory, which the
// consumer may keep for longer than the scan lives.
func (r *Reader) copied(page sources.Batch, yield func(sources.Batch, error) bool) bool {
	defer page.Record.Release()
	record, err := sources.GuardCall("scan", r.table.Name, func() (arrow.RecordBatch, error) {
		return rows.Concat(r.Session.budget, r.schema, []arrow.RecordBatch{page.Record}), nil
	})
	if err != nil {
		yield(sources.Batch{}, err)
		return false
	}
	defer record.Release()
	page.Record = record
	return yield(page, nil)
}

// follow waits for the shared scan of another stream, and reads for itself where
// that leaves no answer in the cache.
func (r *Reader) follow(ctx context.Context, yield func(sources.Batch, error) bool) {
	landed := r.scan.await(ctx)
	if err := r.leave(); err != nil {
		yield(sources.Batch{}, err)
		return
	}
	if err := sources.ContextError(ctx, "scan", r.table.Name); err != nil {
		yield(sources.Batch{}, err)
		return
	}
	if landed && r.find(ctx, Shared) {
		r.replay(yield)
		return
	}
	r.used(Miss)
	r.read(ctx, yield)
}

// leave leaves the shared scan.
func (r *Reader) leave() error {
	f, leads := r.scan, r.leads
	r.scan = nil
	if f == nil {
		return nil
	}
	return f.leave(leads)
}

// read reads in the stream's own session.
func (r *Reader) read(ctx context.Context, yield func(sources.Batch, error) bool) {
	if err := r.Session.Begin(ctx); err != nil {
		yield(sources.Batch{}, err)
		return
	}
	f := r.fill
	if f != nil && f.versioned(ctx, r.Session, r.Query) != nil {
		f = nil
	}
	for page, err := range query.CheckSchema(ctx, r.table.Name, r.Scan(ctx), r.schema) {
		if err == nil && f != nil && !f.keep(page) {
			f.abandon()
			f = nil
		}
		if !yield(page, err) || err != nil {
			return
		}
	}
	if f != nil && f.unchanged(ctx, r.Session, r.Query) && f.commit() {
		r.Cache.Cache.store(r.key.Digest, r.schema)
	}
}

// Close gives back what the reader holds. It leaves the stream's session open.
func (r *Reader) Close() error {
	for _, p := range r.pages {
		p.release()
	}
	r.pages = nil
	err := r.leave()
	if r.fill != nil {
		r.fill.abandon()
	}
	return err
}

// Report returns how the cache was used, [Hit] and so on, and how old the
// rows from it are; "" and 0 without a cache. It is safe for concurrent use.
func (r *Reader) Report() (how string, age time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.how, r.age
}
