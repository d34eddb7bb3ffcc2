package coretest

import (
	"testing"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
)

// SourceID is an identity for a source whose rows a test caches.
var SourceID = query.Identify("counted", "test")

// NewCache returns a cache. When the test ends, it closes the cache and fails if the
// cache still holds memory.
func NewCache(t *testing.T, o cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if held := c.Budget().Held(); held != 0 {
			t.Errorf("the closed cache still holds %d bytes", held)
		}
	})
	return c
}

// WithCache returns the resources of a stream that caches the rows of source
// [SourceID]. Either argument may be nil.
func WithCache(c *cache.Cache, budget *budget.Budget) core.Resources {
	return core.Resources{Budget: budget, Cache: c, SourceID: SourceID}
}
