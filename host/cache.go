package host

import (
	"time"

	"github.com/penstock-data/penstock/core/cache"
)

// Cache configures the cache of a host. It keeps the results of queries, so that a
// stream of the same query need not read them from the source again. Its memory is
// charged to the host's budget, and shrinks when streams need memory. A field that is
// zero has its default; see [cache.Options].
type Cache struct {
	MaxBytes      int64         // the maximum memory of the cache, in bytes
	MaxEntries    int           // the maximum number of results in memory
	MaxEntryBytes int64         // the maximum size of one result, in bytes; larger ones are not cached
	TTL           time.Duration // how long a result stays valid after its read began
	// Store, if non-nil, also keeps results when they are no longer in memory, and for
	// later processes, such as the directory that cachedir.Open returns. The host
	// closes it; if [New] fails, the caller still owns it.
	//
	// It is not used for sources whose catalog has no identity, nor by a program that was
	// built from files with uncommitted changes: nobody can tell later what they
	// answered.
	Store cache.Store
}

// open returns the cache for a host.
func (c *Cache) open(h *Host) (*cache.Cache, error) {
	return cache.New(cache.Options{
		Budget: h.budget, MaxBytes: c.MaxBytes, MaxEntries: c.MaxEntries, MaxEntryBytes: c.MaxEntryBytes, TTL: c.TTL, Store: c.Store,
	})
}

// Cache returns the host's cache, or nil if [Options.Cache] is nil.
func (h *Host) Cache() *cache.Cache { return h.cache }
