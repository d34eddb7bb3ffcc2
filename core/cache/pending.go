package cache

import (
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// pendingEntry is an entry that is being read. The cache does not contain it until
// commit. It is for one goroutine, except for what the cache's lock guards.
type pendingEntry struct {
	cache           *Cache
	key             query.Key
	version         string
	readAt, expires time.Time
	memoryOnly      bool  // do not save it in the store
	limit           int64 // the maximum of bytes
	bytes           int64 // of the pages copied so far
	pages           []*contiguousPage

	invalidated bool // do not commit; guarded by the cache's lock
}

// beginEntry begins an entry of at most limit bytes that is valid for ttl; 0 means
// the cache's own limit and TTL. It returns nil if the cache is closed.
func (c *Cache) beginEntry(key query.Key, limit int64, ttl time.Duration) *pendingEntry {
	if limit <= 0 || limit > c.options.MaxEntryBytes {
		limit = c.options.MaxEntryBytes
	}
	if ttl <= 0 {
		ttl = c.options.TTL
	}
	now := time.Now()
	e := &pendingEntry{cache: c, key: key, readAt: now, expires: now.Add(ttl), limit: limit}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.pending[e] = struct{}{}
	return e
}

// pack returns a copy of a page, with one reference; nil if there is no room for
// it.
func (e *pendingEntry) pack(page sources.Batch) *contiguousPage {
	over := false
	// Invalid arrays from a source make the copy panic. Reading them reports that.
	p, err := sources.GuardCall("cache", e.key.Table, func() (*contiguousPage, error) {
		return packPage(page, e.cache.budget, func(n int64) bool {
			over = e.bytes+n > e.limit
			return !over && e.cache.makeRoom(n)
		}), nil
	})
	if err != nil {
		return nil
	}
	if p != nil {
		e.bytes += p.bytes
	}
	if over {
		e.cache.mu.Lock()
		e.cache.oversized.Add(e.key.Digest, e.expires)
		e.cache.mu.Unlock()
	}
	return p
}

// add appends a copy of a page and reports whether there was room for it.
func (e *pendingEntry) add(page sources.Batch) bool {
	p := e.pack(page)
	if p != nil {
		e.pages = append(e.pages, p)
	}
	return p != nil
}

// errEstimate reports that a result is estimated to exceed the size of an entry.
var errEstimate = errors.New("the result is too large to cache")

// recordVersion records the version of the table's data before it is read. It
// returns an error if the result must not be cached: the source cannot plan the
// query, or the estimated size is far above the limit.
func (e *pendingEntry) recordVersion(ctx context.Context, session sources.Session, q *sources.Query) error {
	plan, err := session.Plan(ctx, q)
	if err != nil {
		return err
	}
	e.version = plan.Version
	// Estimates are reliable only for a whole table.
	if whole := q.Where == nil && q.Keys == nil && q.Limit == 0 && q.After == nil && q.Part == nil; whole && plan.Bytes > 4*e.limit {
		e.cache.mu.Lock()
		e.cache.oversized.Add(e.key.Digest, e.expires)
		e.cache.mu.Unlock()
		return errEstimate
	}
	return nil
}

// unchanged reports whether the table still has the recorded version.
func (e *pendingEntry) unchanged(ctx context.Context, session sources.Session, q *sources.Query) bool {
	if e.version == "" {
		return true
	}
	plan, err := session.Plan(ctx, q)
	return err == nil && plan.Version == e.version
}

// commit adds the complete entry to the cache, replaces the one with the same key,
// and reports whether it did. It ends the pending entry in either case.
func (e *pendingEntry) commit() bool {
	held := &heldEntry{key: e.key, version: e.version, readAt: e.readAt, expires: e.expires, pages: e.pages}
	held.bytes = entryBytes + int64(len(held.version)+8*len(held.pages))
	if len(e.pages) == 0 || !e.cache.makeRoom(held.bytes) {
		e.abandon()
		return false
	}
	e.pages = nil
	c := e.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, e)
	if e.invalidated || c.closed || !time.Now().Before(held.expires) {
		c.stats.Abandoned++
		held.release(c.budget)
		return false
	}
	if old, ok := c.lru.Peek(held.key.Digest); ok {
		c.evict(old, causeReplaced)
	}
	for c.lru.Len() >= c.options.MaxEntries {
		_, old, _ := c.lru.RemoveOldest()
		c.evict(old, causeLRU)
	}
	c.lru.Add(held.key.Digest, held)
	c.stats.Kept++
	return true
}

// commitAndSave is commit, and also queues the entry for the store, if it belongs
// there. The schema is that of its pages.
func (e *pendingEntry) commitAndSave(schema *arrow.Schema) bool {
	if !e.commit() {
		return false
	}
	if !e.memoryOnly {
		e.cache.queueSave(e.key.Digest, schema)
	}
	return true
}

// abandon discards the pending entry. It does nothing after commit.
func (e *pendingEntry) abandon() {
	for _, p := range e.pages {
		p.release()
	}
	e.pages = nil
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	if _, pending := e.cache.pending[e]; pending {
		delete(e.cache.pending, e)
		e.cache.stats.Abandoned++
	}
}

// tooLarge reports whether the result for a key was recently too large to cache.
func (c *Cache) tooLarge(key query.Fingerprint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.oversized.Get(key)
	return ok && time.Now().Before(until)
}
