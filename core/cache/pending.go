package cache

import (
	"context"
	"errors"
	"time"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// pendingEntry is an answer that is being read. Nothing of it is in the cache before it
// is committed whole. It is for one goroutine, but for what the cache's lock
// guards.
type pendingEntry struct {
	c              *Cache
	key            query.Key
	version        string
	asked, expires time.Time
	limit          int64 // bytes
	bytes          int64 // packed so far
	pages          []*contiguousPage

	spoiled bool // it is not to be kept: under the cache's lock
}

// begin begins a fill of limit bytes at most, 0 for the cache's own limit; nil
// where the cache is closed.
func (c *Cache) begin(q query.Key, limit int64) *pendingEntry {
	if limit <= 0 || limit > c.o.MaxEntryBytes {
		limit = c.o.MaxEntryBytes
	}
	now := time.Now()
	f := &pendingEntry{c: c, key: q, asked: now, expires: now.Add(c.o.TTL), limit: limit}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.fills[f] = struct{}{}
	return f
}

// pack copies a page, which has one reference; nil where it does not fit.
func (f *pendingEntry) pack(page sources.Batch) *contiguousPage {
	over := false
	// A source that lies about its arrays is for its own readers to find out.
	p, err := sources.GuardCall("cache", f.key.Table, func() (*contiguousPage, error) {
		return packPage(page, f.c.budget, func(n int64) bool {
			over = f.bytes+n > f.limit
			return !over && f.c.makeRoom(n)
		}), nil
	})
	if err != nil {
		return nil
	}
	if p != nil {
		f.bytes += p.bytes
	}
	if over {
		f.c.mu.Lock()
		f.c.large.Add(f.key.Digest, f.expires)
		f.c.mu.Unlock()
	}
	return p
}

// keep adds a page, and reports whether it fits.
func (f *pendingEntry) keep(page sources.Batch) bool {
	p := f.pack(page)
	if p != nil {
		f.pages = append(f.pages, p)
	}
	return p != nil
}

// errEstimate ends a fill before it begins.
var errEstimate = errors.New("the answer is too large to be remembered")

// versioned notes which version of its data the table has before it is read. An
// error says that the answer is not to be kept: the version is not known, or
// somebody knows that the answer is far too large.
func (f *pendingEntry) versioned(ctx context.Context, session sources.Session, q *sources.Query) error {
	plan, err := session.Plan(ctx, q)
	if err != nil {
		return err
	}
	f.version = plan.Version
	// Of a part of a table nobody knows.
	if whole := q.Where == nil && q.Keys == nil && q.Limit == 0 && q.After == nil && q.Part == nil; whole && plan.Bytes > 4*f.limit {
		f.c.mu.Lock()
		f.c.large.Add(f.key.Digest, f.expires)
		f.c.mu.Unlock()
		return errEstimate
	}
	return nil
}

// unchanged reports whether the table has the version still.
func (f *pendingEntry) unchanged(ctx context.Context, session sources.Session, q *sources.Query) bool {
	if f.version == "" {
		return true
	}
	plan, err := session.Plan(ctx, q)
	return err == nil && plan.Version == f.version
}

// commit puts the whole answer into the cache, in the place of what was there,
// and reports whether it did. The fill is over in either case.
func (f *pendingEntry) commit() bool {
	e := &heldEntry{key: f.key, version: f.version, asked: f.asked, expires: f.expires, pages: f.pages}
	e.bytes = entryBytes + int64(len(e.version)+8*len(e.pages))
	if len(f.pages) == 0 || !f.c.makeRoom(e.bytes) {
		f.abandon()
		return false
	}
	f.pages = nil
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fills, f)
	if f.spoiled || c.closed || !time.Now().Before(e.expires) {
		c.stats.Abandoned++
		e.release(c.budget)
		return false
	}
	if old, ok := c.lru.Peek(e.key.Digest); ok {
		c.evict(old, causeReplaced)
	}
	for c.lru.Len() >= c.o.MaxEntries {
		_, old, _ := c.lru.RemoveOldest()
		c.evict(old, causeLRU)
	}
	c.lru.Add(e.key.Digest, e)
	c.stats.Kept++
	return true
}

// abandon forgets what was read.
func (f *pendingEntry) abandon() {
	for _, p := range f.pages {
		p.release()
	}
	f.pages = nil
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if _, under := f.c.fills[f]; under {
		delete(f.c.fills, f)
		f.c.stats.Abandoned++
	}
}

// tooLarge reports whether an answer did not fit lately.
func (c *Cache) tooLarge(key query.Fingerprint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.large.Get(key)
	return ok && time.Now().Before(until)
}
