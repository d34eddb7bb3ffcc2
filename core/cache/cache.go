package cache

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/elastic/go-freelru"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// What a cache holds when nobody says otherwise.
const (
	DefaultMaxBytes   = 100_000_000
	DefaultMaxEntries = 1000
	DefaultTTL        = 5 * time.Minute
)

// Options are the bounds of a [Cache]; the zero value is good.
type Options struct {
	// Budget is the one that the cache's own lies under, as a host's over all its
	// streams; nil is none. What streams need the cache gives back.
	Budget *budget.Budget
	// MaxBytes is the most that is held in memory, in bytes; 0 is
	// [DefaultMaxBytes], or a quarter of Budget's limit where that is less.
	MaxBytes int64
	// MaxEntries is how many answers are held; 0 is [DefaultMaxEntries].
	MaxEntries int
	// MaxEntryBytes is how large one answer may be, in bytes; 0 is a quarter of Bytes. A
	// larger one is read as if there were no cache.
	MaxEntryBytes int64
	// TTL is for how long an answer is good, from when it was asked; 0 is
	// [DefaultTTL].
	TTL time.Duration
	// Store is where answers are kept as well, for those that memory has no more;
	// nil is nowhere.
	Store Store
}

// Cache remembers answers. It only makes things faster: it holds whole answers
// alone, never fails a read, and has nothing that its budget's owner would miss.
//
// A stream uses it through [core.Options.Caching]. Get and Put are for those who have
// questions of their own. It is safe for concurrent use.
type Cache struct {
	o      Options
	budget *budget.Budget
	remove func() // ends OnShortage

	mu     sync.Mutex
	closed bool
	lru    *freelru.LRU[query.Fingerprint, *heldEntry]
	large  *freelru.LRU[query.Fingerprint, time.Time] // answers that were too large, and until when that is believed
	fills  map[*pendingEntry]struct{}                 // that are under way
	scans  map[query.Fingerprint][]*sharedScan        // those of them that others may follow
	tables []tableFingerprint                         // the last catalogues' tables that were described
	stats  Stats

	companion Companion // nil until it is asked for

	saving  sync.WaitGroup
	queue   chan *savedEntry         // to the store; nil where there is none
	saves   map[*savedEntry]struct{} // that wait in the queue
	storing sync.Mutex               // held while the store is written to, or drops something
}

// tableFingerprint is a table whose fingerprint is known. It keeps the catalogue's table
// alive, so that no other has its address.
type tableFingerprint struct {
	table *sources.Table
	sum   query.Fingerprint
}

// heldEntry is a whole answer in memory. It never changes; each of its pages has a
// reference that is the entry's.
type heldEntry struct {
	key            query.Key
	version        string
	asked, expires time.Time
	pages          []*contiguousPage
	bytes          int64 // what the budget counts for the entry beside its pages
}

// entryBytes is what an entry takes beside its pages: itself, and its place in
// the list of what was used when.
const entryBytes = int64(unsafe.Sizeof(heldEntry{})) + int64(unsafe.Sizeof(query.Fingerprint{})) + 64

// New returns a cache. The caller closes it, after the streams that use it.
func New(o Options) (*Cache, error) {
	var faults []error
	for name, n := range map[string]int64{"Bytes": o.MaxBytes, "Entries": int64(o.MaxEntries), "Answer": o.MaxEntryBytes, "TTL": int64(o.TTL)} {
		if n < 0 {
			faults = append(faults, fmt.Errorf("%s is %d", name, n))
		}
	}
	if o.MaxEntries > 1<<20 {
		faults = append(faults, fmt.Errorf("%d Entries: at most %d", o.MaxEntries, 1<<20))
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
		if o.Budget != nil {
			o.MaxBytes = max(min(o.MaxBytes, o.Budget.Limit()/4), 1)
		}
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = DefaultMaxEntries
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.MaxEntryBytes == 0 {
		o.MaxEntryBytes = max(o.MaxBytes/4, 1)
	}
	if o.MaxEntryBytes > o.MaxBytes {
		faults = append(faults, fmt.Errorf("Answer is %d, Bytes only %d", o.MaxEntryBytes, o.MaxBytes))
	}
	if len(faults) > 0 {
		return nil, &sources.Error{Op: "cache", Kind: sources.Invalid, Err: errors.Join(faults...)}
	}
	budget, err := budget.New("cache", o.MaxBytes, o.Budget)
	if err != nil {
		return nil, err
	}
	hash := func(f query.Fingerprint) uint32 {
		return uint32(f[0]) | uint32(f[1])<<8 | uint32(f[2])<<16 | uint32(f[3])<<24
	}
	lru, err := freelru.New[query.Fingerprint, *heldEntry](uint32(o.MaxEntries), hash)
	if err != nil {
		return nil, &sources.Error{Op: "cache", Kind: sources.Internal, Err: err}
	}
	large, err := freelru.New[query.Fingerprint, time.Time](uint32(o.MaxEntries), hash)
	if err != nil {
		return nil, &sources.Error{Op: "cache", Kind: sources.Internal, Err: err}
	}
	c := &Cache{o: o, budget: budget, lru: lru, large: large, fills: map[*pendingEntry]struct{}{}, scans: map[query.Fingerprint][]*sharedScan{}}
	c.remove = budget.OnShortage(func(bytes int64) { c.evictFor(bytes) })
	if o.Store != nil {
		c.queue, c.saves = make(chan *savedEntry, maxSaves), map[*savedEntry]struct{}{}
		c.saving.Go(c.save)
	}
	return c, nil
}

// Budget is what the cache holds memory from.
func (c *Cache) Budget() *budget.Budget { return c.budget }

// Close drops everything from memory and waits until the store has what it is to
// keep. Streams that still use the cache go on without it. A second Close does
// nothing.
func (c *Cache) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	if c.queue != nil {
		close(c.queue)
	}
	c.spoil(query.Fingerprint{}, "")
	c.mu.Unlock()
	c.saving.Wait()
	c.drop(causeInvalidated, query.Fingerprint{}, "")
	if k := c.kept(); k != nil {
		k.Drop(query.Fingerprint{}, "")
	}
	c.remove()
	c.budget.Close()
	if c.o.Store == nil {
		return nil
	}
	return c.o.Store.Close()
}

// Get returns the answer to a question, whose records are under the schema that
// it was put with; nil where there is none. The caller releases it. It counts as
// a hit or a miss.
func (c *Cache) Get(q query.Key, schema *arrow.Schema) *Entry {
	e, pages := c.find(q, schema)
	if e == nil {
		c.count(func(s *Stats) { s.Misses++ })
		return nil
	}
	c.count(func(s *Stats) { s.Hits++ })
	return e.answer(pages, schema)
}

// Put copies an answer into the cache, in the place of what was there, and
// reports whether it did: not one that is expired, has no page, or is too large.
// The caller's records stay the caller's.
func (c *Cache) Put(a *Entry) bool {
	f := c.begin(a.Key, 0)
	if f == nil {
		return false
	}
	f.version, f.asked, f.expires = a.Version, a.At, a.Expires
	for _, page := range a.Pages {
		if !f.keep(page) {
			f.abandon()
			return false
		}
	}
	kept := f.commit()
	if kept {
		c.store(a.Digest, a.Schema)
	}
	return kept
}

// Clear drops every answer, from the store too, and keeps nothing of what is
// being read. Records that were lent stay good until they are released.
func (c *Cache) Clear() { c.Invalidate(query.Fingerprint{}, "") }

// Invalidate drops the answers of a table of a source, from the store too, and
// keeps none that was asked before now: of every table where the name is empty,
// and of every source where the source is zero.
func (c *Cache) Invalidate(source query.Fingerprint, table string) {
	c.drop(causeInvalidated, source, table)
	if c.o.Store != nil {
		c.storing.Lock()
		c.o.Store.Invalidate(source, table)
		c.storing.Unlock()
		// What came from the store before it had dropped everything.
		c.drop(causeInvalidated, source, table)
	}
	if k := c.kept(); k != nil {
		k.Drop(source, table)
	}
	c.budget.ReleaseIdle()
}

// spoil has nothing kept of what is being read of a table. The caller holds the
// lock.
func (c *Cache) spoil(source query.Fingerprint, table string) {
	for f := range c.fills {
		if f.key.In(source, table) {
			f.spoiled = true
		}
	}
	for key, flights := range c.scans {
		if flights = slices.DeleteFunc(flights, func(f *sharedScan) bool { return f.spoiled }); len(flights) == 0 {
			delete(c.scans, key)
		} else {
			c.scans[key] = flights
		}
	}
	c.large.Purge()
}

// drop takes the answers of a selection out of memory, and has none kept that is
// on its way there or to the store.
func (c *Cache) drop(why evictionCause, source query.Fingerprint, table string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoil(source, table)
	for s := range c.saves {
		if s.answer.In(source, table) {
			s.spoiled = true
		}
	}
	for _, key := range c.lru.Keys() {
		if e, ok := c.lru.Peek(key); ok && e.key.In(source, table) {
			c.evict(e, why)
		}
	}
}

// find returns what memory or the store has for a question, with a reference to
// each page, and nil where it is not there or has expired.
func (c *Cache) find(q query.Key, schema *arrow.Schema) (*heldEntry, []*contiguousPage) {
	if e, pages := c.peek(q.Digest); e != nil || c.o.Store == nil {
		return e, pages
	}
	// What is dropped while the store is asked is not brought back.
	f := c.begin(q, 0)
	if f == nil {
		return nil, nil
	}
	a, err := sources.GuardCall("cache", q.Table, func() (*Entry, error) { return c.o.Store.Load(q, schema, f.keep), nil })
	if a == nil || err != nil || a.Key != q {
		f.abandon()
		return nil, nil
	}
	f.version, f.asked, f.expires = a.Version, a.At, a.Expires
	if !f.commit() {
		return nil, nil
	}
	c.count(func(s *Stats) { s.Loaded++ })
	return c.peek(q.Digest)
}

// peek is find in memory alone.
func (c *Cache) peek(key query.Fingerprint) (*heldEntry, []*contiguousPage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.lru.Get(key)
	if !ok {
		return nil, nil
	}
	if !time.Now().Before(e.expires) {
		c.evict(e, causeTTL)
		return nil, nil
	}
	for _, p := range e.pages {
		p.retain()
	}
	return e, e.pages
}

// outdated drops an answer whose table has another version now.
func (c *Cache) outdated(e *heldEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, ok := c.lru.Peek(e.key.Digest); ok && now == e {
		c.evict(e, causeVersion)
	}
}

// evict takes an entry out. The caller holds the lock.
func (c *Cache) evict(e *heldEntry, why evictionCause) {
	c.lru.Remove(e.key.Digest)
	c.stats.evicted(why)
	e.release(c.budget)
}

func (e *heldEntry) release(b *budget.Budget) {
	for _, p := range e.pages {
		p.release()
	}
	b.Uncharge(e.bytes)
}

// evictFor gives at least so many bytes back, if it has them: those of expired answers
// first, then those of answers that were not asked for the longest, then those of
// look-ups.
func (c *Cache) evictFor(bytes int64) {
	if c.evictEntries(bytes) < bytes {
		if k := c.kept(); k != nil {
			k.Shed()
		}
	}
}

func (c *Cache) evictEntries(bytes int64) (given int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.budget.Held()
	c.sweep()
	for {
		if given = before - c.budget.Held(); given >= bytes {
			return given
		}
		_, e, ok := c.lru.RemoveOldest()
		if !ok {
			return given
		}
		c.evict(e, causePressure)
	}
}

// sweep drops what has expired. The caller holds the lock.
func (c *Cache) sweep() {
	now := time.Now()
	for _, key := range c.lru.Keys() {
		if e, ok := c.lru.Peek(key); ok && !now.Before(e.expires) {
			c.evict(e, causeTTL)
		}
	}
}

// makeRoom claims n bytes of the cache's budget, and drops the oldest answers for
// them. What others wait for is not taken.
func (c *Cache) makeRoom(n int64) bool {
	c.mu.Lock()
	if c.budget.Held()+n > c.o.MaxBytes {
		c.sweep()
	}
	for c.budget.Held()+n > c.o.MaxBytes {
		_, e, ok := c.lru.RemoveOldest()
		if !ok {
			break
		}
		c.evict(e, causeBytes)
	}
	c.mu.Unlock()
	return !c.budget.HasWaiters() && c.budget.Charge(n) == nil
}

// TableFingerprint is the fingerprint of a table of a catalogue, which does not change.
func (c *Cache) TableFingerprint(t *sources.Table) query.Fingerprint {
	c.mu.Lock()
	for _, d := range c.tables {
		if d.table == t {
			c.mu.Unlock()
			return d.sum
		}
	}
	c.mu.Unlock()
	d := tableFingerprint{table: t, sum: query.TableFingerprint(t)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tables) >= maxTables {
		c.tables = slices.Delete(c.tables, 0, 1)
	}
	c.tables = append(c.tables, d)
	return d.sum
}

// How many tables' fingerprints are remembered, and how many answers wait for the
// store; one more is not kept there.
const (
	maxTables = 64
	maxSaves  = 16
)
