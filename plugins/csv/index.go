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

// indexEntry locates a record, or a block of records, by its key.
type indexEntry struct {
	rank uint64 // of the key; see rankOf
	at   int64  // the position of the record
}

const indexEntryBytes = int64(unsafe.Sizeof(indexEntry{}))

// index finds the records of keys in files that have not changed. If the records
// are in the order of the key, the index is sparse: it has an entry for the first of
// every sparseBlock records, and a lookup reads a block. Otherwise it has an entry
// for each record with a key. Entries are sorted by rank and position.
//
// The entries are in the session's memory, or in a file if they do not fit there or
// are stored for other processes.
type index struct {
	sparse  bool
	entries []indexEntry
	buf     []byte // the memory of entries
	file    *indexFile
}

const sparseBlock = 64

// maxCachedIndexBytes bounds the indexes that a source caches between sessions. They
// belong to no stream's budget; a session copies them into memory that does.
const maxCachedIndexBytes = 32 << 20

// indexCache caches indexes between sessions. It is safe for concurrent use.
type indexCache struct {
	mu    sync.Mutex
	kept  map[string]index
	bytes int64
}

func (s *indexCache) get(name string, mem memory.Allocator) *index {
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

func (s *indexCache) put(name string, x *index) {
	size := int64(len(x.entries)) * indexEntryBytes
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.kept[name]; ok || x.file != nil || s.bytes+size > maxCachedIndexBytes {
		return
	}
	if s.kept == nil {
		s.kept = map[string]index{}
	}
	s.kept[name] = index{sparse: x.sparse, entries: slices.Clone(x.entries)}
	s.bytes += size
}

// grow allocates room for n entries.
func (x *index) grow(mem memory.Allocator, n int) {
	size := int(int64(max(n, 1)) * indexEntryBytes)
	if x.buf == nil {
		x.buf = mem.Allocate(size)
	} else {
		x.buf = mem.Reallocate(size, x.buf)
	}
	all := unsafe.Slice((*indexEntry)(unsafe.Pointer(unsafe.SliceData(x.buf))), max(n, 1))
	x.entries = all[:len(x.entries)]
}

// free frees the memory and closes the file.
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

func (x *index) entry(i int) (indexEntry, error) {
	if x.file != nil {
		return x.file.entry(int64(i))
	}
	return x.entries[i], nil
}

// first returns the index of the first entry whose rank is at least rank.
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

// find returns the ranges that contain the records of the keys, in the order of the
// table. They may contain other records too.
func (x *index) find(keys *keySet, sortable bool) ([]positionRange, error) {
	ranks := make([]uint64, 0, len(keys.counts))
	for key := range keys.counts {
		ranks = append(ranks, rankOf([]byte(key), sortable))
	}
	slices.Sort(ranks) // adjacent ranks share blocks of an index file
	var spans []positionRange
	for _, rank := range slices.Compact(ranks) {
		from, err := x.first(rank)
		if err != nil {
			return nil, err
		}
		// The block before may end with records of the key.
		s := positionRange{-1, endOfTable}
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
				spans = append(spans, positionRange{e.at, e.at + 1})
			} else if s.from < 0 {
				s.from = e.at
			}
		}
		if x.sparse && s.from >= 0 {
			spans = append(spans, s)
		}
	}
	slices.SortFunc(spans, func(a, b positionRange) int { return cmp.Compare(a.from, b.from) })
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

// find returns the ranges that contain the records of the keys. It builds the index
// if there is none. Scans of one session take turns.
func (s *session) find(ctx context.Context, t *table, keys *keySet) ([]positionRange, error) {
	select {
	case s.indexLock <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.indexLock }()
	x, err := s.index(ctx, t, keys.columns, false)
	if err != nil {
		return nil, err
	}
	spans, err := x.find(keys, t.isSortable(keys.columns))
	if !errors.Is(err, errBadIndex) {
		return spans, err
	}
	if x, err = s.index(ctx, t, keys.columns, true); err != nil {
		return nil, err
	}
	if spans, err = x.find(keys, t.isSortable(keys.columns)); errors.Is(err, errBadIndex) {
		err = sources.Errorf(sources.Unavailable, "", "", "an index that was just written cannot be read: %w; check the disk", err)
	}
	return spans, err
}

// index returns the index of a table on some of its columns: that of the session,
// the source's cache or the directory Options.Index, or a new one. If anew is set, it
// replaces the index of the session, and the stored one.
func (s *session) index(ctx context.Context, t *table, columns []int, anew bool) (*index, error) {
	now, _, settled, err := s.source.filesNow(t)
	if err != nil {
		return nil, err
	}
	var name strings.Builder
	fmt.Fprintf(&name, "%s\x00%s\x00%+v", t.table, now, t.dialect)
	for _, c := range columns {
		fmt.Fprintf(&name, "\x00%+v", t.columns[c])
	}
	if x := s.indexes[name.String()]; x != nil && !anew {
		return x, nil
	} else if x != nil {
		delete(s.indexes, name.String())
		if err := x.free(s.env.Mem); err != nil {
			return nil, err
		}
	}
	x := s.source.indexes.get(name.String(), s.env.Mem)
	var kept string
	var key indexKey
	if dir := s.source.options.Index; x == nil && dir != "" && settled && s.catalog.Identity != "" {
		key = sha256.Sum256([]byte(s.catalog.Identity + "\x00" + name.String()))
		kept = filepath.Join(dir, fmt.Sprintf("%x.index", key))
		if !anew {
			file, err := openIndex(kept, key)
			if err == nil {
				x = &index{file: file, sparse: file.sparse}
			} else if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errBadIndex) {
				return nil, err
			}
		}
	}
	if x == nil {
		if x, err = s.build(ctx, t, columns, kept, key, now); err != nil {
			return nil, err
		}
		if settled {
			s.source.indexes.put(name.String(), x)
		}
	}
	s.indexes[name.String()] = x
	return x, nil
}

// build makes an index. It reads the table once, or twice if the first records are
// in the order of the key and later ones are not. It also writes the index to the
// file kept under the key, unless that is empty. It fails if the table's files are no longer those
// that filesNow told.
func (s *session) build(ctx context.Context, t *table, columns []int, kept string, key indexKey, files string) (_ *index, err error) {
	b := indexBuilder{session: s, table: t, columns: columns, kept: kept, key: key, sortable: t.isSortable(columns)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.discard())
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
		if err := b.discard(); err != nil {
			return nil, err
		}
		b.index = &index{}
		if _, err := b.pass(ctx); err != nil {
			return nil, err
		}
	}
	switch now, _, _, err := s.source.filesNow(t); {
	case err != nil:
		return nil, err
	case now != files:
		return nil, sources.Errorf(sources.Unavailable, "", "", "%s has changed while its keys were read: read again", t.files[0].name)
	}
	return b.finish()
}

// indexBuilder makes one index.
type indexBuilder struct {
	session  *session
	table    *table
	columns  []int
	sortable bool
	kept     string
	key      indexKey
	index    *index
	runs     *sortedRuns // entries that did not fit in memory; nil if all did
}

// discard frees what the builder holds.
func (b *indexBuilder) discard() error {
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

// pass reads the table and makes the entries. A pass for a sparse index ends and
// returns false at the first record that is out of order.
func (b *indexBuilder) pass(ctx context.Context) (sorted bool, err error) {
	s := b.session
	w := s.source.newRecordReader(ctx, b.table, s.env.Mem, s.buffer(), b.table.wholeTable())
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
			// No key finds a record that is left out.
			if err = w.skipRecord(err); err != nil {
				return false, err
			}
			continue
		}
		if !ok {
			continue
		}
		e := indexEntry{rankOf(key, b.sortable), w.position()}
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

// add adds an entry. If there is no memory for it, add first writes the existing
// entries to a file.
func (b *indexBuilder) add(e indexEntry) error {
	x, s := b.index, b.session
	if int64(len(x.entries)+1)*indexEntryBytes > int64(len(x.buf)) {
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
					return sources.Errorf(sources.Exhausted, "", "",
						"the index of %d records on %s does not fit in memory: raise the stream's memory limit, or set index=DIR to let the source write files: %w",
						len(x.entries), strings.Join(b.names(), ", "), err)
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

func (b *indexBuilder) names() (names []string) {
	for _, c := range b.columns {
		names = append(names, b.table.columns[c].name)
	}
	return names
}

// scratch returns the directory for what does not fit in memory, or an empty string.
func (b *indexBuilder) scratch() string {
	if b.session.env.Scratch != "" {
		return b.session.env.Scratch
	}
	return b.session.source.options.Index
}

func compareEntries(a, b indexEntry) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.at, b.at))
}

// spill sorts the entries and writes them to a file as one run.
func (b *indexBuilder) spill(dir string) error {
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

// finish sorts or merges the entries and writes the file to keep, if there is one.
func (b *indexBuilder) finish() (*index, error) {
	x, mem := b.index, b.session.env.Mem
	if b.runs == nil {
		if !x.sparse {
			slices.SortFunc(x.entries, compareEntries)
		}
		if b.kept == "" {
			return x, nil
		}
		w, err := newIndexFile(filepath.Dir(b.kept), b.key, x.sparse)
		if err != nil {
			return nil, err
		}
		for _, e := range x.entries {
			w.add(e)
		}
		// The index in memory is faster than the file.
		file, err := w.finish(b.kept)
		if err != nil {
			return nil, err
		}
		return x, file.close()
	}
	if err := b.spill(b.scratch()); err != nil {
		return nil, err
	}
	// Free the entries first, to make room for the buffers of the runs.
	if err := x.free(mem); err != nil {
		return nil, err
	}
	dir := b.scratch()
	if b.kept != "" {
		dir = filepath.Dir(b.kept)
	}
	w, err := newIndexFile(dir, b.key, false)
	if err != nil {
		return nil, err
	}
	if err := b.runs.merge(mem, w.add); err != nil {
		return nil, errors.Join(err, w.discard())
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
