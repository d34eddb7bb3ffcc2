package simulate

import (
	"context"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// store is a store of a cache whose loads take time. Saves take none, since the cache
// holds a mutex meanwhile, and time does not pass in a bubble in which a goroutine waits
// for one. The store may lose entries and break off while it loads one. Its memory is
// counted.
type store struct {
	*simulation
	mem *memory.CheckedAllocator

	lock    sync.Mutex
	entries map[query.Key]*cache.Entry
	calls   int
}

func newStore(s *simulation) *store {
	return &store{simulation: s, mem: memory.NewCheckedAllocator(memory.DefaultAllocator), entries: map[query.Key]*cache.Entry{}}
}

// turn returns the number of the call.
func (s *store) turn() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.calls++
	return s.calls
}

func (s *store) Load(key query.Key, _ *arrow.Schema, yield func(sources.Batch) bool) *cache.Entry {
	n := s.turn()
	_ = sleep(context.Background(), s.world.delay("store", n, s.world.Source.Slow))
	s.lock.Lock()
	e := s.entries[key]
	if e == nil {
		s.lock.Unlock()
		return nil
	}
	found := *e
	found.Pages = nil
	for _, page := range e.Pages {
		page.Record.Retain()
		found.Pages = append(found.Pages, page)
	}
	s.lock.Unlock()
	defer found.Release()
	for i, page := range found.Pages {
		if s.world.Cache.Forgetful && n%2 == 0 && i > 0 {
			return nil
		}
		if !yield(page) {
			return nil
		}
	}
	s.note("the store has loaded %s", key.Table)
	return &cache.Entry{Key: found.Key, Version: found.Version, At: found.At, Expires: found.Expires, Schema: found.Schema}
}

func (s *store) Save(e *cache.Entry) {
	if n := s.turn(); s.world.Cache.Forgetful && n%2 == 0 {
		return
	}
	saved := *e
	saved.Pages = nil
	for _, page := range e.Pages {
		columns := make([]arrow.Array, page.Record.NumCols())
		for i, c := range page.Record.Columns() {
			var err error
			if columns[i], err = array.Concatenate([]arrow.Array{c}, s.mem); err != nil {
				panic(err)
			}
			defer columns[i].Release()
		}
		page.Record = array.NewRecordBatch(page.Record.Schema(), columns, page.Record.NumRows())
		saved.Pages = append(saved.Pages, page)
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if old := s.entries[e.Key]; old != nil {
		old.Release()
	}
	s.entries[e.Key] = &saved
}

func (s *store) Invalidate(source query.Fingerprint, table string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for key, e := range s.entries {
		if key.In(source, table) {
			e.Release()
			delete(s.entries, key)
		}
	}
}

// Close does nothing: a cache that is made later has the same store.
func (s *store) Close() error { return nil }

// end checks that the store has released its memory.
func (s *store) end() {
	s.Invalidate(query.Fingerprint{}, "")
	if left := s.mem.CurrentAlloc(); left != 0 {
		s.wrong("the store holds %d bytes at the end", left)
	}
}
