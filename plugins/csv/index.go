package csv

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// entry says where records of a key are.
type entry struct {
	rank   uint64 // of the key
	offset int64  // where the record begins
}

const entryBytes = int64(unsafe.Sizeof(entry{}))

// index finds the records of keys in an unchanged file. It is sparse where the
// records lie in the order of the key: then there is one entry for each block of
// sparseBlock records, the first one's, and what lies between is read. Else
// there is an entry for each record that has a key. Both are in the order of
// rank and offset.
type index struct {
	sparse  bool
	entries []entry
	buf     []byte // holds the entries, from the session's memory
}

const sparseBlock = 64

// keepIndexes is how many bytes of indexes a source keeps from session to
// session. They belong to no stream's budget; what a session works with is a
// copy that does.
const keepIndexes = 32 << 20

// shelf keeps indexes between sessions. It is safe for concurrent use.
type shelf struct {
	mu    sync.Mutex
	kept  map[string]index
	bytes int64
}

func (s *shelf) get(name string, mem memory.Allocator) *index {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.kept[name]
	if !ok {
		return nil
	}
	x := &index{sparse: kept.sparse}
	x.grow(mem, len(kept.entries))
	x.entries = x.entries[:len(kept.entries)]
	copy(x.entries, kept.entries)
	return x
}

func (s *shelf) put(name string, x *index) {
	size := int64(len(x.entries)) * entryBytes
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.kept[name]; ok || s.bytes+size > keepIndexes {
		return
	}
	if s.kept == nil {
		s.kept = map[string]index{}
	}
	s.kept[name] = index{sparse: x.sparse, entries: slices.Clone(x.entries)}
	s.bytes += size
}

// grow makes room for n entries.
func (x *index) grow(mem memory.Allocator, n int) {
	size := int(int64(max(n, 1)) * entryBytes)
	if x.buf == nil {
		x.buf = mem.Allocate(size)
	} else {
		x.buf = mem.Reallocate(size, x.buf)
	}
	all := unsafe.Slice((*entry)(unsafe.Pointer(unsafe.SliceData(x.buf))), max(n, 1))
	x.entries = all[:len(x.entries)]
}

func (x *index) free(mem memory.Allocator) {
	if x.buf != nil {
		mem.Free(x.buf)
		x.buf, x.entries = nil, nil
	}
}

func (x *index) add(mem memory.Allocator, e entry) {
	if len(x.entries) == cap(x.entries) || int64(len(x.buf)) < int64(len(x.entries)+1)*entryBytes {
		x.grow(mem, len(x.entries)*3/2+64)
	}
	x.entries = append(x.entries, e)
}

// span are the records that begin in [from, to).
type span struct{ from, to int64 }

// find returns where the records of the keys can be, in the order of the file.
// Other records may be there too.
func (x *index) find(keys *keySet, sortable bool, end int64) []span {
	var spans []span
	for key := range keys.given {
		r := rank([]byte(key), sortable)
		from, _ := slices.BinarySearchFunc(x.entries, r, func(e entry, r uint64) int { return cmp.Compare(e.rank, r) })
		if !x.sparse {
			for ; from < len(x.entries) && x.entries[from].rank == r; from++ {
				at := x.entries[from].offset
				spans = append(spans, span{at, at + 1})
			}
			continue
		}
		to := from
		for to < len(x.entries) && x.entries[to].rank == r {
			to++
		}
		if to == 0 { // every record has a greater key
			continue
		}
		s := span{x.entries[max(from-1, 0)].offset, end}
		if to < len(x.entries) {
			s.to = x.entries[to].offset
		}
		spans = append(spans, s)
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	merged := spans[:0]
	for _, s := range spans {
		if n := len(merged); n > 0 && s.from < merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, s.to)
		} else {
			merged = append(merged, s)
		}
	}
	return merged
}

// index returns the index of a table by some of its columns, and builds it where
// the session has none. One of a session's scans builds, the others wait.
func (s *session) index(ctx context.Context, t *table, columns []int) (*index, error) {
	var name strings.Builder
	name.WriteString(t.table + "\x00" + t.identity)
	for _, c := range columns {
		name.WriteString("\x00" + t.columns[c].name)
	}
	select {
	case s.building <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.building }()
	if x := s.indexes[name.String()]; x != nil {
		return x, nil
	}
	x := s.source.shelf.get(name.String(), s.env.Mem)
	if x == nil {
		var err error
		if x, err = s.build(ctx, t, columns); err != nil {
			return nil, err
		}
		s.source.shelf.put(name.String(), x)
	}
	s.indexes[name.String()] = x
	return x, nil
}

// build reads the file once, or twice where its first records are in the order
// of the key and later ones are not.
func (s *session) build(ctx context.Context, t *table, columns []int) (*index, error) {
	sortable := t.sortable(columns)
	if sortable {
		x, sorted, err := s.pass(ctx, t, columns, true)
		if err != nil || sorted {
			return x, err
		}
	}
	x, _, err := s.pass(ctx, t, columns, false)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(x.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.offset, b.offset))
	})
	return x, nil
}

// pass makes the entries. A sparse pass ends with false at the first record that
// is out of order.
func (s *session) pass(ctx context.Context, t *table, columns []int, sparse bool) (_ *index, sorted bool, err error) {
	file, in, err := s.source.open(ctx, t)
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	if err := in.seek(file, place{offset: t.start, line: t.line}); err != nil {
		return nil, false, err
	}
	x := &index{sparse: sparse}
	whole := false
	defer func() {
		if !whole { // also where the memory is refused
			x.free(s.env.Mem)
		}
	}()
	sortable := t.sortable(columns)
	var key []byte
	last := uint64(0)
	for n := 0; ; {
		more, err := in.next()
		if err == nil && more {
			err = t.width(in)
		}
		if err != nil {
			return nil, false, err
		}
		if !more {
			break
		}
		var ok bool
		if key, ok, err = t.keyOf(in, columns, key[:0]); err != nil {
			return nil, false, err
		}
		if !ok {
			continue
		}
		e := entry{rank(key, sortable), in.start}
		if sparse {
			if e.rank < last {
				return nil, false, nil
			}
			last = e.rank
		}
		if !sparse || n%sparseBlock == 0 {
			x.add(s.env.Mem, e)
		}
		n++
	}
	whole = true
	return x, true, nil
}
