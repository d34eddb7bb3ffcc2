package cache

import (
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Store is the second tier of a cache, such as a directory on disk. It must be
// safe for concurrent use. It logs I/O failures itself; the cache ignores them.
type Store interface {
	// Load looks up an entry. It passes the entry's pages to yield, in order, until
	// yield returns false. Each page has the given schema and is valid during the
	// call. Load returns the entry without its pages; nil if there is none, or if
	// yield did not accept all pages.
	Load(key query.Key, schema *arrow.Schema, yield func(sources.Batch) bool) *Entry
	// Save stores an entry. It must not retain its records.
	Save(e *Entry)
	// Invalidate removes the entries of a table of a source. An empty table
	// matches every table, and the zero source every source.
	Invalidate(source query.Fingerprint, table string)
	// Close releases the store's resources. Stored entries remain.
	Close() error
}

// Entry is a complete result of a query, as a cache holds it.
type Entry struct {
	query.Key
	Version string        // of the table's data, as [sources.Plan.Version]; empty if unknown
	At      time.Time     // when the read began
	Expires time.Time     // when the entry ceases to be valid
	Schema  *arrow.Schema // of the pages
	// Pages are the result's pages, in order, at least one. The entry owns a
	// reference to each record.
	Pages []sources.Batch
}

// Release releases the entry's records.
func (e *Entry) Release() {
	for _, p := range e.Pages {
		p.Record.Release()
	}
	e.Pages = nil
}

// savedEntry is an entry in the save queue.
type savedEntry struct {
	entry       *Entry
	invalidated bool // do not save; guarded by the cache's lock
}

// entry returns an entry that lends all pages, and takes over their references.
func (e *heldEntry) entry(pages []*contiguousPage, schema *arrow.Schema) *Entry {
	a := &Entry{Key: e.key, Version: e.version, At: e.readAt, Expires: e.expires, Schema: schema}
	for _, p := range pages {
		record, _ := p.lend(nil, schema, 0, p.rows) // only a borrower's budget can refuse
		a.Pages = append(a.Pages, sources.Batch{Record: record, Cursor: p.cursor, Skipped: p.skipped})
		p.release()
	}
	return a
}

// queueSave queues a committed entry for the store, if there is one and its queue
// has room.
func (c *Cache) queueSave(key query.Fingerprint, schema *arrow.Schema) {
	if c.saveQueue == nil {
		return
	}
	held, pages := c.findInMemory(key)
	if held == nil {
		return
	}
	s := &savedEntry{entry: held.entry(pages, schema)}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The entry may have been evicted meanwhile.
	if current, ok := c.lru.Peek(key); ok && current == held && !c.closed {
		select {
		case c.saveQueue <- s:
			c.queuedSaves[s] = struct{}{}
			return
		default:
		}
	}
	s.entry.Release()
}

// writeQueued is the goroutine that saves queued entries. It ends when Close
// closes the queue.
func (c *Cache) writeQueued() {
	for s := range c.saveQueue {
		c.storeMu.Lock()
		c.mu.Lock()
		delete(c.queuedSaves, s)
		invalidated := s.invalidated
		c.mu.Unlock()
		if !invalidated {
			c.options.Store.Save(s.entry)
		}
		c.storeMu.Unlock()
		s.entry.Release()
	}
}
