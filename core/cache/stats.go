package cache

// Stats are the figures of a [Cache] since it was made. Their JSON names are
// stable.
type Stats struct {
	Hits   uint64 `json:"hits"`   // answered from memory or from the store
	Misses uint64 `json:"misses"` // asked of a source
	Shared uint64 `json:"shared"` // answered by what another stream was just asking
	// Kept is how many answers were remembered, Loaded how many came from the
	// store.
	Kept   uint64 `json:"kept"`
	Loaded uint64 `json:"loaded"`
	// Abandoned is how many were not: too large, or no room, or the table changed
	// while it was read, or nobody read to the end.
	Abandoned uint64    `json:"abandoned"`
	Evictions Evictions `json:"evictions"`
	// KeysFound is how many keys of look-ups had been looked up before, for any
	// stream; KeysAsked how many had not.
	KeysFound uint64 `json:"keys_found"`
	KeysAsked uint64 `json:"keys_asked"`
	// Entries is how many answers are held now, Payload how many bytes their rows
	// have as [sources.Size] counts, and Bytes what holding them takes.
	Entries int   `json:"entries"`
	Payload int64 `json:"payload"`
	Bytes   int64 `json:"bytes"`
}

// Evictions are the answers that were dropped, by cause.
type Evictions struct {
	TTL         uint64 `json:"ttl"`         // expired
	LRU         uint64 `json:"lru"`         // too many, and this was not asked for the longest
	Bytes       uint64 `json:"bytes"`       // too large together
	Pressure    uint64 `json:"pressure"`    // streams needed the memory
	Version     uint64 `json:"version"`     // the table changed
	Replaced    uint64 `json:"replaced"`    // asked again
	Invalidated uint64 `json:"invalidated"` // by Clear, Invalidate or Close
}

// HitRate is which part of the questions were answered without asking a source
// once more, from 0 to 1.
func (s Stats) HitRate() float64 {
	good := s.Hits + s.Shared
	if good == 0 {
		return 0
	}
	return float64(good) / float64(good+s.Misses)
}

// evictionCause is why an answer was dropped.
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

func (s *Stats) evicted(why evictionCause) {
	e := &s.Evictions
	*[...]*uint64{&e.TTL, &e.LRU, &e.Bytes, &e.Pressure, &e.Version, &e.Replaced, &e.Invalidated}[why]++
}

// Stats are the cache's figures.
func (c *Cache) Stats() Stats {
	var found, asked uint64
	if k := c.kept(); k != nil {
		found, asked = k.Figures()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.KeysFound, s.KeysAsked = found, asked
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

func (c *Cache) count(add func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	add(&c.stats)
}
