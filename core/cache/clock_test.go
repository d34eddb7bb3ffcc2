package cache_test

import (
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// shiftedStore is a store in memory, of one entry. It returns the entry as if the clock had been
// set by shift since the entry was saved.
type shiftedStore struct {
	shift  time.Duration
	saved  chan *cache.Entry
	loads  int
	loaded *cache.Entry
}

func (s *shiftedStore) Load(key query.Key, _ *arrow.Schema, yield func(sources.Batch) bool) *cache.Entry {
	s.loads++
	if s.loaded == nil || s.loaded.Key != key {
		return nil
	}
	for _, p := range s.loaded.Pages {
		if !yield(p) {
			return nil
		}
	}
	// As a store on a disk has them, the times have no reading of the monotonic clock.
	return &cache.Entry{Key: key, Version: s.loaded.Version, At: s.loaded.At.Round(0).Add(s.shift), Expires: s.loaded.Expires.Round(0).Add(s.shift), Schema: s.loaded.Schema}
}

func (s *shiftedStore) Save(e *cache.Entry) {
	kept := *e
	kept.Pages = nil
	for _, p := range e.Pages {
		p.Record.Retain()
		kept.Pages = append(kept.Pages, p)
	}
	s.saved <- &kept
}

func (s *shiftedStore) Invalidate(query.Fingerprint, string) {}
func (s *shiftedStore) Close() error                         { return nil }

// TestStoreAndClock: an entry of the store is used until it expires, unless the clock was set back
// to before it was read.
func TestStoreAndClock(t *testing.T) {
	for name, c := range map[string]struct {
		shift time.Duration
		want  string
	}{
		"as it was":          {0, cache.Hit},
		"a minute later":     {-time.Minute, cache.Hit},
		"expired":            {-time.Hour, cache.Miss},
		"set back an hour":   {time.Hour, cache.Miss},
		"set back ten weeks": {70 * 24 * time.Hour, cache.Miss},
	} {
		t.Run(name, func(t *testing.T) {
			budget := coretest.NewBudget(t)
			store := &shiftedStore{shift: c.shift, saved: make(chan *cache.Entry, 8)}
			source := newCounted(10)
			source.identity = "i"
			first, err := cache.New(cache.Options{Budget: budget, Store: store})
			if err != nil {
				t.Fatal(err)
			}
			readItems(t, source, core.Options{}, coretest.WithCache(first, budget))
			store.loaded = <-store.saved
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			second, err := cache.New(cache.Options{Budget: budget, Store: store})
			if err != nil {
				t.Fatal(err)
			}
			r := readItems(t, source, core.Options{}, coretest.WithCache(second, budget))
			if r.Cache != c.want || c.want == cache.Hit && (r.CacheAge < 0 || r.CacheAge > time.Hour) {
				t.Errorf("a %s of age %s, want a %s", r.Cache, r.CacheAge, c.want)
			}
			if err := second.Close(); err != nil {
				t.Fatal(err)
			}
			for _, p := range store.loaded.Pages {
				p.Record.Release()
			}
			for len(store.saved) > 0 {
				for _, p := range (<-store.saved).Pages {
					p.Record.Release()
				}
			}
		})
	}
}

// TestIdentityOfTheCatalog: streams share results only if the catalogs have the same identity, and
// the store is for catalogs that have one.
func TestIdentityOfTheCatalog(t *testing.T) {
	budget := coretest.NewBudget(t)
	shared := coretest.NewCache(t, cache.Options{Budget: budget})
	for i, c := range []struct{ identity, openID, want string }{
		{"a", "1", cache.Miss}, {"a", "2", cache.Hit}, {"b", "2", cache.Miss}, {"a", "3", cache.Hit},
		{"", "4", cache.Miss}, {"", "4", cache.Hit}, {"", "5", cache.Miss},
	} {
		source := newCounted(10)
		source.identity = c.identity
		resources := coretest.WithCache(shared, budget)
		resources.OpenID = c.openID
		if r := readItems(t, source, core.Options{}, resources); r.Cache != c.want {
			t.Errorf("question %d, %+v: a %s", i, c, r.Cache)
		}
	}
	for _, c := range []struct {
		identity   string
		memoryOnly bool
		loads      int
	}{{"a", false, 1}, {"a", true, 0}, {"", false, 0}} {
		store := &shiftedStore{saved: make(chan *cache.Entry, 8)}
		stored, err := cache.New(cache.Options{Budget: budget, Store: store})
		if err != nil {
			t.Fatal(err)
		}
		source := newCounted(10)
		source.identity = c.identity
		resources := coretest.WithCache(stored, budget)
		resources.MemoryOnly = c.memoryOnly
		readItems(t, source, core.Options{}, resources)
		if err := stored.Close(); err != nil {
			t.Fatal(err)
		}
		if saves := len(store.saved); saves != c.loads || (store.loads > 0) != (c.loads > 0) {
			t.Errorf("%+v: %d saves, %d loads", c, saves, store.loads)
		}
		for len(store.saved) > 0 {
			for _, p := range (<-store.saved).Pages {
				p.Record.Release()
			}
		}
	}
}
