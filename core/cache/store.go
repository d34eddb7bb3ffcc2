package cache

import (
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Store is a second tier, as a directory on a disk. It must be safe for
// concurrent use. What it cannot read or write it does without: its errors go
// nowhere else than to its own log.
type Store interface {
	// Load finds the answer to a question, and gives its pages in order, each under
	// the schema and valid in its call; false wants no more of them. The result
	// has all but the pages, and is nil where there is no such answer, or it was
	// not given to the end.
	Load(q query.Key, schema *arrow.Schema, give func(sources.Batch) bool) *Entry
	// Save keeps an answer, which it must not retain.
	Save(a *Entry)
	// Invalidate drops the answers of a table of a source; of every table where
	// the name is empty, of every source where the source is zero.
	Invalidate(source query.Fingerprint, table string)
	// Close frees what the store holds, but not what it keeps.
	Close() error
}

// Entry is a whole answer to a question: what a cache holds.
type Entry struct {
	query.Key
	Version string    // of the table's data, [sources.Plan.Version]; empty where it has none
	At      time.Time // when the question was asked
	Expires time.Time
	Schema  *arrow.Schema
	// Pages are all of the answer, in order, at least one. Each record holds a
	// reference that is the answer's.
	Pages []sources.Batch
}

// Release gives the records back.
func (a *Entry) Release() {
	for _, p := range a.Pages {
		p.Record.Release()
	}
	a.Pages = nil
}

// savedEntry is an answer on its way to the store.
type savedEntry struct {
	answer  *Entry
	spoiled bool // it was dropped meanwhile
}

// answer lends all pages, and takes over their references.
func (e *heldEntry) answer(pages []*contiguousPage, schema *arrow.Schema) *Entry {
	a := &Entry{Key: e.key, Version: e.version, At: e.asked, Expires: e.expires, Schema: schema}
	for _, p := range pages {
		record, _ := p.lend(nil, schema, 0, p.rows) // which only a borrower's budget refuses
		a.Pages = append(a.Pages, sources.Batch{Record: record, Cursor: p.cursor, Skipped: p.skipped})
		p.release()
	}
	return a
}

// store has the committed answer kept in the second tier too, if there is one
// and it keeps up.
func (c *Cache) store(key query.Fingerprint, schema *arrow.Schema) {
	if c.queue == nil {
		return
	}
	e, pages := c.peek(key)
	if e == nil {
		return
	}
	s := &savedEntry{answer: e.answer(pages, schema)}
	c.mu.Lock()
	defer c.mu.Unlock()
	// It may have been dropped since it was found.
	if now, ok := c.lru.Peek(key); ok && now == e && !c.closed {
		select {
		case c.queue <- s:
			c.saves[s] = struct{}{}
			return
		default:
		}
	}
	s.answer.Release()
}

// save is the goroutine that hands answers to the store. Close ends it.
func (c *Cache) save() {
	for s := range c.queue {
		c.storing.Lock()
		c.mu.Lock()
		delete(c.saves, s)
		spoiled := s.spoiled
		c.mu.Unlock()
		if !spoiled {
			c.o.Store.Save(s.answer)
		}
		c.storing.Unlock()
		s.answer.Release()
	}
}
