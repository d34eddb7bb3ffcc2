package cache

import (
	"context"
	"errors"
	"strconv"
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
	ModeUse     Mode = iota // read from the cache, and cache what is read from the source
	ModeRefresh             // read from the source, and replace what is cached
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

// Policy configures how one stream uses the cache. The zero value reads and fills
// it within the cache's own limits.
type Policy struct {
	Mode Mode
	// TTL is how long the stream's result stays valid; 0 means the cache's TTL.
	TTL time.Duration
	// MaxBytes is the largest result to cache, in bytes; 0 means the cache's
	// limit.
	MaxBytes int64
}

// How the cache was used, as a receipt reports it.
const (
	Hit      = "hit"    // the rows came from the cache
	Miss     = "miss"   // the rows came from the source
	Shared   = "shared" // the rows came from another stream's scan of the same query
	Bypassed = "bypass" // the rows came from the source, and were not cached
)

// Use configures the use of a cache by one stream. A nil Cache means none.
type Use struct {
	Cache *Cache
	// SourceID is the identity of the stream's source, from [query.Identify], without
	// that of its catalog.
	SourceID query.Fingerprint
	// Identity is the [sources.Catalog.Identity] of the source's catalog, or what stands
	// for it. Streams share results only if it is the same.
	Identity string
	// MemoryOnly means that the stream neither reads nor fills the cache's [Store].
	MemoryOnly bool
	Policy     Policy
}

// TableFingerprint identifies everything that results of a table depend on besides
// SourceID and the query: the table as the catalog describes it, and the catalog's
// identity.
func (u Use) TableFingerprint(t *sources.Table) query.Fingerprint {
	return query.Identify("table", u.Cache.TableFingerprint(t).String(), u.Identity)
}

// Check returns an error of kind [sources.Invalid] if u is not valid.
func (u Use) Check() error {
	switch p := u.Policy; {
	case p.Mode > ModeBypass, p.TTL < 0, p.MaxBytes < 0:
		return sources.Errorf(sources.Invalid, "stream", "",
			"Caching: Mode must be use, refresh or bypass, TTL and MaxBytes must not be negative (got mode %d, TTL %s, %d bytes)", p.Mode, p.TTL, p.MaxBytes)
	case u.Cache != nil && u.SourceID == query.Fingerprint{}:
		return sources.Errorf(sources.Invalid, "stream", "", "Resources: a Cache requires SourceID, the identity of the source: set it to the result of query.Identify")
	}
	return nil
}

// Active reports whether the stream reads or fills a cache.
func (u Use) Active() bool { return u.Cache != nil && u.Policy.Mode != ModeBypass }

// Refreshes reports whether the stream replaces what is cached.
func (u Use) Refreshes() bool { return u.Policy.Mode == ModeRefresh }

// ReaderConfig configures a [Reader].
type ReaderConfig struct {
	Cache   Use
	Session *Session // the stream's own session
	Query   *sources.Query
	// Scan reads the pages of Query in the stream's own session.
	Scan   func(ctx context.Context) sources.Batches
	Parent *budget.Budget // parent of the budget of a shared scan; nil means none
	// Consistent requires that what Session plans, the rows and later look-ups come from
	// one session, and so from one snapshot. Such a stream does not use shared scans.
	Consistent bool
	// Partitioned means that Scan reads partitions, which changes the order of the
	// rows. Such a stream does not use shared scans, and its results have keys of
	// their own.
	Partitioned bool
	// Unordered means that the pages of partitions come as they are read. Such results
	// have keys of their own, too.
	Unordered bool
}

// Reader supplies the pages of a stream: from the cache, from a shared scan, or
// from the stream's own session. It is for one goroutine, except for Report.
type Reader struct {
	config ReaderConfig
	table  *sources.Table
	key    query.Key
	schema *arrow.Schema // of the pages

	hit     *heldEntry        // the cached entry, if any
	pages   []*contiguousPage // of the hit: those not yet read, each with a reference
	scan    *sharedScan       // the shared scan, if any
	leads   bool              // the stream leads the shared scan
	pending *pendingEntry     // the entry that a scan of the stream's own fills, if any
	closing error             // of sessions that were closed before Close, which reports it

	mu    sync.Mutex
	usage string        // [Hit], [Miss], [Shared] or [Bypassed]
	age   time.Duration // of the cached rows
}

// OpenReader decides where the pages of a stream come from, and begins what that
// requires: the stream's own session or a shared scan. Its errors are the
// source's. The caller closes the reader, even after its Batches end with an
// error.
func OpenReader(ctx context.Context, c ReaderConfig) (*Reader, error) {
	r := &Reader{config: c, table: c.Session.table, schema: c.Session.table.ScanSchema(c.Query.Columns)}
	if err := r.open(ctx); err != nil {
		if closing := r.Close(); closing != nil {
			err = errors.Join(err, closing)
		}
		return nil, err
	}
	return r, nil
}

// open decides where the pages come from.
func (r *Reader) open(ctx context.Context) error {
	c := r.config.Cache.Cache
	if c == nil {
		return r.config.Session.Begin(ctx)
	}
	ok := false
	if r.config.Cache.Active() {
		r.key, ok = query.KeyFrom(r.config.Cache.SourceID, r.config.Cache.TableFingerprint(r.table), r.config.Query)
	}
	if !ok {
		r.recordUsage(Bypassed)
		return r.config.Session.Begin(ctx)
	}
	if r.config.Partitioned {
		r.key.Digest = query.Identify("partitions", r.key.Digest.String(), strconv.FormatBool(r.config.Unordered))
	}
	use := r.config.Cache.Policy.Mode == ModeUse
	if use && r.find(ctx, Hit) {
		return nil
	}
	tooLarge := c.tooLarge(r.key.Digest)
	if use && !r.config.Consistent && !r.config.Partitioned && !tooLarge {
		// Hold one session at a time, since other streams may wait for this one.
		r.closing = errors.Join(r.closing, r.config.Session.suspend())
		if shared, err := r.share(ctx); shared || err != nil {
			return err
		}
	}
	if !tooLarge {
		r.pending = r.newPending()
	}
	r.recordUsage(Miss)
	return r.config.Session.Begin(ctx)
}

// newPending begins the entry for the stream's result; nil if the cache is closed.
func (r *Reader) newPending() *pendingEntry {
	use := r.config.Cache
	e := use.Cache.beginEntry(r.key, use.Policy.MaxBytes, use.Policy.TTL)
	if e != nil {
		e.memoryOnly = use.MemoryOnly
	}
	return e
}

// find looks up the cached entry and reports whether it is usable: the source's
// table must still have the entry's version.
func (r *Reader) find(ctx context.Context, usage string) bool {
	c := r.config.Cache.Cache
	e, pages := c.find(r.key, r.schema, !r.config.Cache.MemoryOnly)
	if e == nil {
		return false
	}
	if e.version != "" {
		plan, err := r.config.Session.Plan(ctx, r.config.Query)
		if err != nil || plan.Version != e.version {
			if err == nil {
				c.evictOutdated(e)
			}
			for _, p := range pages {
				p.release()
			}
			return false
		}
	}
	r.hit, r.pages = e, append([]*contiguousPage(nil), pages...)
	r.mu.Lock()
	r.age = time.Since(e.readAt)
	r.mu.Unlock()
	r.recordUsage(usage)
	return true
}

// recordUsage records how the cache was used, for the report and the cache's
// figures.
func (r *Reader) recordUsage(usage string) {
	r.mu.Lock()
	r.usage = usage
	r.mu.Unlock()
	r.config.Cache.Cache.count(func(s *Stats) {
		switch usage {
		case Hit:
			s.Hits++
		case Miss:
			s.Misses++
		case Shared:
			s.Shared++
		}
	})
}

// share joins a shared scan, or starts one if the memory suffices, and reports
// whether it did either.
func (r *Reader) share(ctx context.Context) (bool, error) {
	mem, err := budget.New("the scan of "+r.table.Name, r.config.Session.budget.Limit(), r.config.Parent)
	if err != nil {
		return false, nil
	}
	noWait, cancel := context.WithCancel(ctx)
	cancel() // do not wait: the stream already holds its own floor
	if err := mem.Admit(noWait, budget.Floor(r.config.Session.env.Page)); err != nil {
		mem.Close()
		return false, nil
	}
	pending := r.newPending()
	if pending == nil {
		mem.Close()
		return false, nil
	}
	scan := newSharedScan(ctx, pending, r, mem)
	r.scan, r.leads = r.config.Cache.Cache.follow(scan)
	if !r.leads {
		scan.cancel()
		return true, nil
	}
	r.recordUsage(Miss)
	if err := scan.begin(ctx, r.config.Session.env); err != nil {
		scan.cancel()
		r.scan = nil
		return true, err
	}
	r.config.Session.watch(scan.session)
	return true, nil
}

// Batches returns the pages, with the schema of the scan. The caller releases
// nothing: a record is valid in its iteration.
func (r *Reader) Batches(ctx context.Context) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		switch {
		case r.hit != nil:
			r.replay(yield)
		case r.scan != nil && r.leads:
			r.lead(ctx, yield)
		case r.scan != nil:
			r.follow(ctx, yield)
		default:
			r.readOwn(ctx, yield)
		}
	}
}

// replay yields the pages of the cached entry.
func (r *Reader) replay(yield func(sources.Batch, error) bool) {
	for len(r.pages) > 0 {
		p := r.pages[0]
		r.pages = r.pages[1:]
		if !r.yieldPage(p, false, yield) {
			return
		}
	}
}

// yieldPage lends a page to the stream and releases the reader's reference. It
// yields slices if the page exceeds the stream's page limits, because a stream
// with higher limits read it. due tells that the page was due when it was read.
func (r *Reader) yieldPage(p *contiguousPage, due bool, yield func(sources.Batch, error) bool) bool {
	defer p.release()
	limits := r.config.Session.env.Page
	if p.rows <= 1 || p.size <= limits.Bytes && p.rows <= limits.Rows {
		return r.yieldSlice(p, 0, p.rows, due, yield)
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
		if !r.yieldSlice(p, from, to, due, yield) {
			return false
		}
		from = to
	}
	return true
}

// yieldSlice yields rows [from, to) of a page. The last slice has the page's
// cursor and its skipped records, and is due if the page is.
func (r *Reader) yieldSlice(p *contiguousPage, from, to int64, due bool, yield func(sources.Batch, error) bool) bool {
	record, err := p.lend(r.config.Session.budget, r.schema, from, to)
	if err != nil {
		yield(sources.Batch{}, err)
		return false
	}
	defer record.Release()
	page := sources.Batch{Record: record}
	if to == p.rows {
		page.Cursor, page.Due, page.Skipped = p.cursor, due, p.skipped
	}
	return yield(page, nil)
}

// lead yields the pages of the shared scan that the stream started.
func (r *Reader) lead(ctx context.Context, yield func(sources.Batch, error) bool) {
	for yielded := 0; ; yielded++ {
		next, err := r.scan.next(ctx)
		switch {
		case err == errScanDone:
			return
		case yielded == 0 && sources.KindOf(err) == sources.Exhausted && err != nil:
			// The shared scan's budget is exhausted; the stream's own may have room.
			r.leave()
			r.readOwn(ctx, yield)
			return
		case err != nil:
			yield(sources.Batch{}, err)
			return
		}
		if next.contiguous != nil {
			if !r.yieldPage(next.contiguous, next.page.Due, yield) {
				return
			}
		} else if !r.yieldCopy(next.page, yield) {
			return
		}
	}
}

// yieldCopy yields a copy of a page in the stream's own memory, which the consumer
// may retain for longer than the shared scan lives.
func (r *Reader) yieldCopy(page sources.Batch, yield func(sources.Batch, error) bool) bool {
	defer page.Record.Release()
	record, err := sources.GuardCall("scan", r.table.Name, func() (arrow.RecordBatch, error) {
		return rows.Concat(r.config.Session.budget, r.schema, []arrow.RecordBatch{page.Record}), nil
	})
	if err != nil {
		yield(sources.Batch{}, err)
		return false
	}
	defer record.Release()
	page.Record = record
	return yield(page, nil)
}

// follow waits for the shared scan of another stream. If that leaves no entry in
// the cache, it reads in the stream's own session.
func (r *Reader) follow(ctx context.Context, yield func(sources.Batch, error) bool) {
	cached := r.scan.await(ctx)
	r.leave()
	if err := sources.ContextError(ctx, "scan", r.table.Name); err != nil {
		yield(sources.Batch{}, err)
		return
	}
	if cached && r.find(ctx, Shared) {
		r.replay(yield)
		return
	}
	r.recordUsage(Miss)
	r.readOwn(ctx, yield)
}

// leave leaves the shared scan, if any. That a session could not be closed is no reason
// to withhold the rows: Close reports it.
func (r *Reader) leave() {
	if scan := r.scan; scan != nil {
		r.scan = nil
		r.closing = errors.Join(r.closing, scan.leave(r.leads))
	}
}

// readOwn reads in the stream's own session and caches the result if possible.
func (r *Reader) readOwn(ctx context.Context, yield func(sources.Batch, error) bool) {
	if err := r.config.Session.Begin(ctx); err != nil {
		yield(sources.Batch{}, err)
		return
	}
	entry := r.pending
	if entry != nil && entry.recordVersion(ctx, r.config.Session, r.config.Query) != nil {
		entry = nil
	}
	for page, err := range query.CheckSchema(ctx, r.table.Name, r.config.Scan(ctx), r.schema) {
		if err == nil && entry != nil && !entry.add(page) {
			entry.abandon()
			entry = nil
		}
		if !yield(page, err) || err != nil {
			return
		}
	}
	if entry != nil && entry.unchanged(ctx, r.config.Session, r.config.Query) {
		entry.commitAndSave(r.schema)
	}
}

// Close releases the reader's pages and leaves its shared scan. It does not close
// the stream's session. It returns the errors of closing the other sessions that the
// reader has used.
func (r *Reader) Close() error {
	for _, p := range r.pages {
		p.release()
	}
	r.pages = nil
	r.leave()
	if r.pending != nil {
		r.pending.abandon()
	}
	return r.closing
}

// Report returns how the cache was used, such as [Hit], and the age of the rows
// that came from it; "" and 0 without a cache. It is safe for concurrent use.
func (r *Reader) Report() (usage string, age time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.usage, r.age
}
