package cache

import (
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/query"
)

// Companion caches something other than results in the memory of a [Cache], and is
// invalidated and evicted with it. It must be safe for concurrent use.
type Companion interface {
	// Drop removes what was read from a table of a source. An empty table matches
	// every table, and the zero source every source.
	Drop(source query.Fingerprint, table string)
	// Evict frees memory. It must not block, not even on a lock that may be held
	// while memory is allocated.
	Evict()
	// Figures returns how many keys were found, and how many were not.
	Figures() (found, missed uint64)
}

// Companion returns the cache's companion. The first call makes it with
// newCompanion, whose arguments are the budget to allocate from, the maximum
// number of bytes to use, and how long a value stays valid.
func (c *Cache) Companion(newCompanion func(b *budget.Budget, bytes int64, ttl time.Duration) Companion) Companion {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.companion == nil {
		c.companion = newCompanion(c.budget, c.options.MaxBytes/4, c.options.TTL)
	}
	return c.companion
}

// existingCompanion returns the companion, or nil if there is none yet.
func (c *Cache) existingCompanion() Companion {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.companion
}
