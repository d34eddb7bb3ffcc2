package csv

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// entry says where records of a key are.
type entry struct {
	rank uint64 // of the key
	at   int64  // the place of the record
}

const entryBytes = int64(unsafe.Sizeof(entry{}))

// index finds the records of keys in files that have not changed. It is sparse
// where the records lie in the order of the key: then there is one entry for
// each block of sparseBlock records, the first one's, and what lies between is
// read. Else there is an entry for each record that has a key. Both are in the
// order of rank and place.
//
// The entries are in the session's memory, or in a file where they did not fit
// or are to outlive the process.
type index struct {
	sparse  bool
	entries []entry
	buf     []byte // holds the entries
	file    *indexFile
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
	x.entries = append(x.entries, kept.entries...)
	return x
}

func (s *shelf) put(name string, x *index) {
	size := int64(len(x.entries)) * entryBytes
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.kept[name]; ok || x.file != nil || s.bytes+size > keepIndexes {
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

// free gives the memory and the file back.
func (x *index) free(mem memory.Allocator) error {
	if x.buf != nil {
		mem.Free(x.buf)
		x.buf, x.entries = nil, nil
	}
	if x.file != nil {
		return x.file.close()
	}
	return nil
}

func (x *index) len() int {
	if x.file != nil {
		return int(x.file.entries)
	}
	return len(x.entries)
}

func (x *index) entry(i int) (entry, error) {
	if x.file != nil {
		return x.file.entry(int64(i))
	}
	return x.entries[i], nil
}

// first returns the number of the first entry that is not below a rank.
func (x *index) first(rank uint64) (int, error) {
	low, high := 0, x.len()
	for low < high {
		middle := int(uint(low+high) / 2)
		e, err := x.entry(middle)
		if err != nil {
			return 0, err
		}
		if e.rank < rank {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// find returns where the records of the keys can be, in the order of the table.
// Other records may be there too.
func (x *index) find(keys *keySet, sortable bool) ([]span, error) {
	ranks := make([]uint64, 0, len(keys.given))
	for key := range keys.given {
		ranks = append(ranks, rank([]byte(key), sortable))
	}
	slices.Sort(ranks) // neighbours are in the same part of a file
	var spans []span
	for _, rank := range slices.Compact(ranks) {
		from, err := x.first(rank)
		if err != nil {
			return nil, err
		}
		// A block's first entry may be of the key that the block before ends
		// with.
		s := span{-1, endOfTable}
		if x.sparse && from > 0 {
			e, err := x.entry(from - 1)
			if err != nil {
				return nil, err
			}
			s.from = e.at
		}
		for i := from; i < x.len(); i++ {
			e, err := x.entry(i)
			if err != nil {
				return nil, err
			}
			if e.rank != rank {
				s.to = e.at
				break
			}
			if !x.sparse {
				spans = append(spans, span{e.at, e.at + 1})
			} else if s.from < 0 {
				s.from = e.at
			}
		}
		if x.sparse && s.from >= 0 {
			spans = append(spans, s)
		}
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
	return merged, nil
}

// find returns where the records of the keys can be. One of a session's scans
// looks, and builds an index where there is none; the others wait.
func (s *session) find(ctx context.Context, t *table, keys *keySet) ([]span, error) {
	select {
	case s.building <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.building }()
	x, err := s.index(ctx, t, keys.columns)
	if err != nil {
		return nil, err
	}
	return x.find(keys, t.sortable(keys.columns))
}

// index returns the index of a table by some of its columns, and builds it where
// there is none.
func (s *session) index(ctx context.Context, t *table, columns []int) (*index, error) {
	var name strings.Builder
	fmt.Fprintf(&name, "%s\x00%s\x00%+v", t.table, t.identity, t.dialect)
	for _, c := range columns {
		fmt.Fprintf(&name, "\x00%+v", t.columns[c])
	}
	if x := s.indexes[name.String()]; x != nil {
		return x, nil
	}
	x := s.source.shelf.get(name.String(), s.env.Mem)
	var kept string
	if dir := s.source.options.Index; x == nil && dir != "" {
		where := ""
		if s.source.root != nil {
			where = s.source.root.Name()
		}
		kept = filepath.Join(dir, fmt.Sprintf("%x.index", sha256.Sum256([]byte(where+"\x00"+name.String()))))
		file, err := openIndex(kept)
		if err == nil {
			x = &index{file: file, sparse: file.sparse}
		} else if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errNoIndex) {
			return nil, err
		}
	}
	if x == nil {
		var err error
		if x, err = s.build(ctx, t, columns, kept); err != nil {
			return nil, err
		}
		s.source.shelf.put(name.String(), x)
	}
	s.indexes[name.String()] = x
	return x, nil
}

// build reads the table once, or twice where its first records are in the order
// of the key and later ones are not. kept is the file to write the index to;
// empty where there is none.
func (s *session) build(ctx context.Context, t *table, columns []int, kept string) (_ *index, err error) {
	b := builder{session: s, table: t, columns: columns, kept: kept, sortable: t.sortable(columns)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.drop())
		}
	}()
	sorted := false
	if b.sortable {
		b.index = &index{sparse: true}
		if sorted, err = b.pass(ctx); err != nil {
			return nil, err
		}
	}
	if !sorted {
		if err := b.drop(); err != nil {
			return nil, err
		}
		b.index = &index{}
		if _, err := b.pass(ctx); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

// builder makes one index.
type builder struct {
	session  *session
	table    *table
	columns  []int
	sortable bool
	kept     string
	index    *index
	runs     *runs // what did not fit into memory; nil: all of it does
}

// drop gives back what the builder holds.
func (b *builder) drop() error {
	var faults []error
	if b.index != nil {
		faults = append(faults, b.index.free(b.session.env.Mem))
	}
	if b.runs != nil {
		faults = append(faults, b.runs.close())
		b.runs = nil
	}
	return errors.Join(faults...)
}

// pass makes the entries. A sparse pass ends with false at the first record that
// is out of order.
func (b *builder) pass(ctx context.Context) (sorted bool, err error) {
	s := b.session
	w := s.source.walk(ctx, b.table, s.env.Mem, s.buffer(), b.table.everything())
	defer w.close()
	r := row{w}
	var key []byte
	last := uint64(0)
	for n := 0; ; {
		more, err := w.next()
		if err != nil {
			return false, err
		}
		if !more {
			return true, nil
		}
		var ok bool
		if key, ok, err = r.key(b.columns, key[:0]); err != nil {
			// A record that is to be left out is found by no key.
			if err = w.skip(err); err != nil {
				return false, err
			}
			continue
		}
		if !ok {
			continue
		}
		e := entry{rank(key, b.sortable), w.start()}
		if b.index.sparse {
			if e.rank < last {
				return false, nil
			}
			last = e.rank
		}
		if !b.index.sparse || n%sparseBlock == 0 {
			if err := b.add(e); err != nil {
				return false, err
			}
		}
		n++
	}
}

// add adds an entry, or first writes those that there are into a file where
// there is no room for more.
func (b *builder) add(e entry) error {
	x, s := b.index, b.session
	if int64(len(x.entries)+1)*entryBytes > int64(len(x.buf)) {
		dir := b.scratch()
		full := dir != "" && int64(len(x.buf)) >= 8*s.env.Page.Bytes
		if !full {
			_, err := sources.GuardCall("", "", func() (struct{}, error) {
				x.grow(s.env.Mem, max(len(x.entries)*2, 256))
				return struct{}{}, nil
			})
			if err != nil {
				if sources.KindOf(err) != sources.Exhausted {
					return err
				}
				if full = dir != "" && len(x.entries) > 0; !full {
					return &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf(
						"the index of %d records by %s does not fit: give the stream more memory, or the source a directory with index=DIR: %w",
						len(x.entries), strings.Join(b.names(), ", "), err)}
				}
			}
		}
		if full {
			if err := b.spill(dir); err != nil {
				return err
			}
		}
	}
	x.entries = append(x.entries, e)
	return nil
}

func (b *builder) names() (names []string) {
	for _, c := range b.columns {
		names = append(names, b.table.columns[c].name)
	}
	return names
}

// scratch is where what does not fit is written; empty: nowhere.
func (b *builder) scratch() string {
	if b.session.env.Scratch != "" {
		return b.session.env.Scratch
	}
	return b.session.source.options.Index
}

func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.at, b.at))
}

// spill sorts the entries and writes them as a run.
func (b *builder) spill(dir string) error {
	if b.runs == nil {
		var err error
		if b.runs, err = newRuns(dir); err != nil {
			return err
		}
	}
	slices.SortFunc(b.index.entries, compareEntries)
	err := b.runs.write(b.index.entries)
	b.index.entries = b.index.entries[:0]
	return err
}

// finish sorts and merges, and writes the file that is to be kept.
func (b *builder) finish() (*index, error) {
	x, mem := b.index, b.session.env.Mem
	if b.runs == nil {
		if !x.sparse {
			slices.SortFunc(x.entries, compareEntries)
		}
		if b.kept == "" {
			return x, nil
		}
		w, err := newIndexFile(filepath.Dir(b.kept), x.sparse)
		if err != nil {
			return nil, err
		}
		for _, e := range x.entries {
			w.add(e)
		}
		// The index in memory is as good, and faster.
		file, err := w.finish(b.kept)
		if err != nil {
			return nil, err
		}
		return x, file.close()
	}
	if err := b.spill(b.scratch()); err != nil {
		return nil, err
	}
	// The runs' buffers take the place of the entries.
	if err := x.free(mem); err != nil {
		return nil, err
	}
	dir := b.scratch()
	if b.kept != "" {
		dir = filepath.Dir(b.kept)
	}
	w, err := newIndexFile(dir, false)
	if err != nil {
		return nil, err
	}
	if err := b.runs.merge(mem, w.add); err != nil {
		return nil, errors.Join(err, w.drop())
	}
	file, err := w.finish(b.kept)
	if err == nil {
		err = b.runs.close()
		b.runs = nil
	}
	if err != nil {
		return nil, err
	}
	return &index{file: file}, nil
}
