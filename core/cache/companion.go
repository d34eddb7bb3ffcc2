package cache

import (
	"time"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/query"
)

// Companion remembers something else than whole answers in the memory of a
// [Cache], and is dropped and shed with it. It must be safe for concurrent use.
type Companion interface {
	// Drop forgets what was read from a table of a source: from every table if the
	// name is empty, from every source if the source is zero.
	Drop(source query.Fingerprint, table string)
	// Shed gives memory back. It must not wait, not even for a lock that is held
	// while memory is allocated.
	Shed()
	// Figures returns how many keys were found, and how many were not.
	Figures() (found, missed uint64)
}

// Companion returns the cache's companion, and makes it on first use. It may hold
// as many bytes of the budget, each thing for as long as ttl.
func (c *Cache) Companion(make func(b *budget.Budget, bytes int64, ttl time.Duration) Companion) Companion {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.companion == nil {
		c.companion = make(c.budget, c.o.MaxBytes/4, c.o.TTL)
	}
	return c.companion
}

// kept returns the companion; nil if it was never asked for.
func (c *Cache) kept() Companion {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.companion
}
