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

// The default limits of a cache. DefaultMaxBytes is in bytes.
const (
	DefaultMaxBytes   = 100_000_000
	DefaultMaxEntries = 1000
	DefaultTTL        = 5 * time.Minute
)

// Options configures a [Cache]. The zero value is ready to use.
type Options struct {
	// Budget is the parent of the cache's own budget, such as the one that all
	// streams of a host share; nil means none. The cache shrinks when streams need
	// memory.
	Budget *budget.Budget
	// MaxBytes is the maximum memory of the cache, in bytes; 0 means
	// [DefaultMaxBytes], or a quarter of Budget's limit if that is less.
	MaxBytes int64
	// MaxEntries is the maximum number of entries in memory; 0 means
	// [DefaultMaxEntries].
	MaxEntries int
	// MaxEntryBytes is the maximum size of one entry, in bytes; 0 means a quarter
	// of MaxBytes. Larger results are not cached.
	MaxEntryBytes int64
	// TTL is how long an entry stays valid after its read began; 0 means
	// [DefaultTTL].
	TTL time.Duration
	// Store is the second tier, which also keeps entries that are no longer in
	// memory; nil means none. The cache closes it.
	Store Store
}

// Cache caches the results of queries. It keeps complete results only. A problem of
// the cache never makes a stream fail: if there is no memory, or if the store has a
// problem, the cache keeps less.
//
// Streams share a cache by core.Resources.Cache, and each uses it as its [Policy]
// configures. Get and Put are for callers with keys of their own. A Cache is safe for
// concurrent use.
type Cache struct {
	options        Options
	budget         *budget.Budget
	stopReclaiming func() // unregisters the budget's OnShortage callback

	mu        sync.Mutex
	closed    bool
	lru       *freelru.LRU[query.Fingerprint, *heldEntry]
	oversized *freelru.LRU[query.Fingerprint, time.Time] // results that were too large, and until when to skip them
	pending   map[*pendingEntry]struct{}                 // entries that are being read
	scans     map[query.Fingerprint][]*sharedScan        // those of pending that streams share
	tables    []tableFingerprint                         // tables of recent catalogs, with their fingerprints
	stats     Stats

	companion Companion // nil until it is first used

	saver       sync.WaitGroup
	saveQueue   chan *savedEntry         // entries for the store; nil if there is none
	queuedSaves map[*savedEntry]struct{} // entries in saveQueue
	storeMu     sync.Mutex               // held while the store saves or invalidates
}

// tableFingerprint is a table with its fingerprint. It keeps the catalog's table
// alive, so that no other table can have its address.
type tableFingerprint struct {
	table       *sources.Table
	fingerprint query.Fingerprint
}

// heldEntry is a complete entry in memory. It is immutable, and owns a reference
// to each of its pages.
type heldEntry struct {
	key             query.Key
	version         string
	readAt, expires time.Time
	pages           []*contiguousPage
	bytes           int64 // charged to the budget beside the pages
}

// entryBytes is the memory of an entry beside its pages: the entry itself and its
// element in the LRU list.
const entryBytes = int64(unsafe.Sizeof(heldEntry{})) + int64(unsafe.Sizeof(query.Fingerprint{})) + 64

// New returns a cache. The caller closes it after the streams that use it. Invalid
// options are an error of kind [sources.Invalid] that reports all of them.
func New(options Options) (*Cache, error) {
	var errs []error
	for _, o := range []struct {
		name string
		n    int64
	}{{"MaxBytes", options.MaxBytes}, {"MaxEntries", int64(options.MaxEntries)}, {"MaxEntryBytes", options.MaxEntryBytes}, {"TTL", int64(options.TTL)}} {
		if o.n < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative (got %d)", o.name, o.n))
		}
	}
	if options.MaxEntries > 1<<20 {
		errs = append(errs, fmt.Errorf("MaxEntries must be at most %d (got %d)", 1<<20, options.MaxEntries))
	}
	if options.MaxBytes == 0 {
		options.MaxBytes = DefaultMaxBytes
		if options.Budget != nil {
			options.MaxBytes = max(min(options.MaxBytes, options.Budget.Limit()/4), 1)
		}
	}
	if options.MaxEntries == 0 {
		options.MaxEntries = DefaultMaxEntries
	}
	if options.TTL == 0 {
		options.TTL = DefaultTTL
	}
	if options.MaxEntryBytes == 0 {
		options.MaxEntryBytes = max(options.MaxBytes/4, 1)
	}
	if options.MaxBytes > 0 && options.MaxEntryBytes > options.MaxBytes {
		errs = append(errs, fmt.Errorf("MaxEntryBytes must be at most MaxBytes, %d (got %d)", options.MaxBytes, options.MaxEntryBytes))
	}
	if len(errs) > 0 {
		return nil, sources.NewError(sources.Invalid, "cache", "", errors.Join(errs...))
	}
	budget, err := budget.New("cache", options.MaxBytes, options.Budget)
	if err != nil {
		return nil, err
	}
	hash := func(f query.Fingerprint) uint32 {
		return uint32(f[0]) | uint32(f[1])<<8 | uint32(f[2])<<16 | uint32(f[3])<<24
	}
	lru, err := freelru.New[query.Fingerprint, *heldEntry](uint32(options.MaxEntries), hash)
	if err != nil {
		return nil, sources.NewError(sources.Internal, "cache", "", err)
	}
	oversized, err := freelru.New[query.Fingerprint, time.Time](uint32(options.MaxEntries), hash)
	if err != nil {
		return nil, sources.NewError(sources.Internal, "cache", "", err)
	}
	c := &Cache{options: options, budget: budget, lru: lru, oversized: oversized, pending: map[*pendingEntry]struct{}{}, scans: map[query.Fingerprint][]*sharedScan{}}
	c.stopReclaiming = budget.OnShortage(func(bytes int64) { c.reclaim(bytes) })
	if options.Store != nil {
		c.saveQueue, c.queuedSaves = make(chan *savedEntry, maxQueuedSaves), map[*savedEntry]struct{}{}
		c.saver.Go(c.writeQueued)
	}
	return c, nil
}

// Budget returns the budget that the cache's memory is charged to.
func (c *Cache) Budget() *budget.Budget { return c.budget }

// Close removes all entries from memory, waits until queued entries are saved, and
// closes the store. Streams that still use the cache continue without it. A second
// Close does nothing.
func (c *Cache) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	if c.saveQueue != nil {
		close(c.saveQueue)
	}
	c.invalidatePending(query.Fingerprint{}, "")
	c.mu.Unlock()
	c.saver.Wait()
	c.dropMatching(causeInvalidated, query.Fingerprint{}, "")
	if companion := c.existingCompanion(); companion != nil {
		companion.Drop(query.Fingerprint{}, "")
	}
	c.stopReclaiming()
	c.budget.Close()
	if c.options.Store == nil {
		return nil
	}
	return c.options.Store.Close()
}

// Get returns the entry with that key, from memory or from the store, or nil if there
// is none that is still valid. Its records have the given schema, which must be the
// one that the entry was put with. The caller must call [Entry.Release]. Get counts as
// a hit or a miss.
func (c *Cache) Get(key query.Key, schema *arrow.Schema) *Entry {
	e, pages := c.find(key, schema, true)
	if e == nil {
		c.count(func(s *Stats) { s.Misses++ })
		return nil
	}
	c.count(func(s *Stats) { s.Hits++ })
	return e.entry(pages, schema)
}

// Put copies an entry into the cache, where it replaces the entry with the same key,
// and reports whether it did so. It rejects an entry that has expired, has no pages, or
// is larger than [Options.MaxEntryBytes]. The caller keeps its references to the
// records.
func (c *Cache) Put(entry *Entry) bool {
	pending := c.beginEntry(entry.Key, 0, 0)
	if pending == nil {
		return false
	}
	pending.version, pending.readAt, pending.expires = entry.Version, entry.At, entry.Expires
	for _, page := range entry.Pages {
		if !pending.add(page) {
			pending.abandon()
			return false
		}
	}
	return pending.commitAndSave(entry.Schema)
}

// Clear removes all entries, from the store too, and discards results that are
// being read. Records that callers still hold stay valid until they are released.
func (c *Cache) Clear() { c.Invalidate(query.Fingerprint{}, "") }

// Invalidate removes the entries of a table of a source, from the store too. It
// also discards results of that table whose read has begun. An empty table matches
// every table, and the zero source every source.
func (c *Cache) Invalidate(source query.Fingerprint, table string) {
	c.dropMatching(causeInvalidated, source, table)
	if c.options.Store != nil {
		c.storeMu.Lock()
		c.options.Store.Invalidate(source, table)
		c.storeMu.Unlock()
		// Entries may have been loaded from the store while it was invalidated.
		c.dropMatching(causeInvalidated, source, table)
	}
	if companion := c.existingCompanion(); companion != nil {
		companion.Drop(source, table)
	}
	c.budget.ReleaseIdle()
}

// invalidatePending prevents results that are being read from entering the cache.
// The caller holds c.mu.
func (c *Cache) invalidatePending(source query.Fingerprint, table string) {
	for p := range c.pending {
		if p.key.In(source, table) {
			p.invalidated = true
		}
	}
	for key, live := range c.scans {
		if live = slices.DeleteFunc(live, func(p *sharedScan) bool { return p.invalidated }); len(live) == 0 {
			delete(c.scans, key)
		} else {
			c.scans[key] = live
		}
	}
	c.oversized.Purge()
}

// dropMatching evicts the matching entries from memory, and prevents those that
// are being read from entering it and those that are queued from being saved.
func (c *Cache) dropMatching(cause evictionCause, source query.Fingerprint, table string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.invalidatePending(source, table)
	for s := range c.queuedSaves {
		if s.entry.In(source, table) {
			s.invalidated = true
		}
	}
	for _, key := range c.lru.Keys() {
		if e, ok := c.lru.Peek(key); ok && e.key.In(source, table) {
			c.evict(e, cause)
		}
	}
}

// find returns the entry with that key and a reference to each of its pages, from
// memory or, if stored is set, from the store. It returns nil if there is no entry or
// it has expired.
func (c *Cache) find(key query.Key, schema *arrow.Schema, stored bool) (*heldEntry, []*contiguousPage) {
	if e, pages := c.findInMemory(key.Digest); e != nil || c.options.Store == nil || !stored {
		return e, pages
	}
	// A pending entry is invalidated with the others while the store loads it.
	pending := c.beginEntry(key, 0, 0)
	if pending == nil {
		return nil, nil
	}
	loaded, err := sources.GuardCall("cache", key.Table, func() (*Entry, error) { return c.options.Store.Load(key, schema, pending.add), nil })
	if loaded == nil || err != nil || loaded.Key != key {
		pending.abandon()
		return nil, nil
	}
	// The store has times of the wall clock. If that was set back to before the read
	// began, nobody knows how old the entry is. From here on the entry's age is counted
	// by the clock of this process, which nobody can set.
	now := time.Now()
	if loaded.At.After(now) {
		pending.abandon()
		return nil, nil
	}
	pending.version, pending.readAt, pending.expires = loaded.Version, now.Add(-now.Sub(loaded.At)), now.Add(loaded.Expires.Sub(now))
	if !pending.commit() {
		return nil, nil
	}
	c.count(func(s *Stats) { s.Loaded++ })
	return c.findInMemory(key.Digest)
}

// findInMemory is find without the store.
func (c *Cache) findInMemory(key query.Fingerprint) (*heldEntry, []*contiguousPage) {
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

// evictOutdated evicts an entry whose table has a new version.
func (c *Cache) evictOutdated(e *heldEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if current, ok := c.lru.Peek(e.key.Digest); ok && current == e {
		c.evict(e, causeVersion)
	}
}

// evict removes an entry from memory. The caller holds c.mu.
func (c *Cache) evict(e *heldEntry, cause evictionCause) {
	c.lru.Remove(e.key.Digest)
	c.stats.evicted(cause)
	e.release(c.budget)
}

// release releases the entry's pages and uncharges its own memory.
func (e *heldEntry) release(b *budget.Budget) {
	for _, p := range e.pages {
		p.release()
	}
	b.Uncharge(e.bytes)
}

// reclaim frees at least that many bytes if it can: it evicts expired entries
// first, then the least recently used ones, then the companion.
func (c *Cache) reclaim(bytes int64) {
	if c.evictEntries(bytes) < bytes {
		if companion := c.existingCompanion(); companion != nil {
			companion.Evict()
		}
	}
}

// evictEntries evicts entries until that many bytes are free, and returns how many
// are.
func (c *Cache) evictEntries(bytes int64) (freed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.budget.Held()
	c.sweep()
	for {
		if freed = before - c.budget.Held(); freed >= bytes {
			return freed
		}
		_, e, ok := c.lru.RemoveOldest()
		if !ok {
			return freed
		}
		c.evict(e, causePressure)
	}
}

// sweep evicts expired entries. The caller holds c.mu.
func (c *Cache) sweep() {
	now := time.Now()
	for _, key := range c.lru.Keys() {
		if e, ok := c.lru.Peek(key); ok && !now.Before(e.expires) {
			c.evict(e, causeTTL)
		}
	}
}

// makeRoom charges n bytes to the cache's budget and reports whether it did. It
// evicts the least recently used entries if necessary. It takes no memory that
// others wait for.
func (c *Cache) makeRoom(n int64) bool {
	c.mu.Lock()
	if c.budget.Held()+n > c.options.MaxBytes {
		c.sweep()
	}
	for c.budget.Held()+n > c.options.MaxBytes {
		_, e, ok := c.lru.RemoveOldest()
		if !ok {
			break
		}
		c.evict(e, causeBytes)
	}
	c.mu.Unlock()
	return !c.budget.HasWaiters() && c.budget.Charge(n) == nil
}

// TableFingerprint returns [query.TableFingerprint] of a catalog's table, which
// must not change. It caches the fingerprints of recent tables.
func (c *Cache) TableFingerprint(t *sources.Table) query.Fingerprint {
	c.mu.Lock()
	for _, known := range c.tables {
		if known.table == t {
			c.mu.Unlock()
			return known.fingerprint
		}
	}
	c.mu.Unlock()
	known := tableFingerprint{table: t, fingerprint: query.TableFingerprint(t)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tables) >= maxTables {
		c.tables = slices.Delete(c.tables, 0, 1)
	}
	c.tables = append(c.tables, known)
	return known.fingerprint
}

const (
	maxTables      = 64 // the number of tables whose fingerprints are cached
	maxQueuedSaves = 16 // the length of the save queue; entries beyond it are not saved
)
