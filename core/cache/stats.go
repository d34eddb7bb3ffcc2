package cache

// Stats are the figures of a [Cache] since it was made. Their JSON names are
// stable.
type Stats struct {
	Hits   uint64 `json:"hits"`   // results from memory or from the store
	Misses uint64 `json:"misses"` // results from a source
	Shared uint64 `json:"shared"` // results from another stream's scan of the same query
	// Kept is how many results were cached, Loaded how many of them came from the
	// store.
	Kept   uint64 `json:"kept"`
	Loaded uint64 `json:"loaded"`
	// Abandoned is how many results were not cached: they were too large, there
	// was no room, the table changed meanwhile, or the stream did not read to the
	// end.
	Abandoned uint64    `json:"abandoned"`
	Evictions Evictions `json:"evictions"`
	// KeysFound is how many look-up keys were cached by any stream, KeysAsked how
	// many had to be read from a source.
	KeysFound uint64 `json:"keys_found"`
	KeysAsked uint64 `json:"keys_asked"`
	// Entries is the current number of entries. Payload is the size of their rows
	// in bytes, as [sources.Size] counts; Bytes is the memory of the whole cache.
	Entries int   `json:"entries"`
	Payload int64 `json:"payload"`
	Bytes   int64 `json:"bytes"`
}

// Evictions counts evicted entries by cause.
type Evictions struct {
	TTL         uint64 `json:"ttl"`         // expired
	LRU         uint64 `json:"lru"`         // too many entries
	Bytes       uint64 `json:"bytes"`       // too many bytes
	Pressure    uint64 `json:"pressure"`    // streams needed the memory
	Version     uint64 `json:"version"`     // the table has a new version
	Replaced    uint64 `json:"replaced"`    // read again
	Invalidated uint64 `json:"invalidated"` // by Clear, Invalidate or Close
}

// HitRate returns the fraction of results that needed no scan of their own, from 0
// to 1.
func (s Stats) HitRate() float64 {
	answered := s.Hits + s.Shared
	if answered == 0 {
		return 0
	}
	return float64(answered) / float64(answered+s.Misses)
}

// evictionCause is why an entry was evicted.
type evictionCause uint8

const (
	causeTTL evictionCause = iota
	causeLRU
	causeBytes
	causePressure
	causeVersion
	causeReplaced
	causeInvalidated
)

// evicted counts an eviction.
func (s *Stats) evicted(cause evictionCause) {
	e := &s.Evictions
	*[...]*uint64{&e.TTL, &e.LRU, &e.Bytes, &e.Pressure, &e.Version, &e.Replaced, &e.Invalidated}[cause]++
}

// Stats returns the cache's current figures.
func (c *Cache) Stats() Stats {
	var found, missed uint64
	if companion := c.existingCompanion(); companion != nil {
		found, missed = companion.Figures()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.KeysFound, s.KeysAsked = found, missed
	s.Entries, s.Bytes = c.lru.Len(), c.budget.Held()
	for _, key := range c.lru.Keys() {
		if e, ok := c.lru.Peek(key); ok {
			for _, p := range e.pages {
				s.Payload += p.size
			}
		}
	}
	return s
}

// count updates the figures.
func (c *Cache) count(add func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	add(&c.stats)
}
