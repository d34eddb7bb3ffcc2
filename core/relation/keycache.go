package relation

import (
	"time"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// keyCache caches the rows that look-ups found for keys, and that a key has none.
// It has a tier for each kind of look-up. It caches complete results only, and
// caches less when memory is refused.
//
// Its rows are copies, in two generations. A key that is found in the old
// generation moves to the young one. When the young one exceeds half the limit, it
// becomes the old one, and the former old one is released. This approximates LRU
// without a list of uses.
//
// A keyCache is not safe for concurrent use.
type keyCache struct {
	mem   memory.Allocator
	limit int64         // bytes, of all tiers; 0 disables the cache
	young int64         // bytes of all young generations
	ttl   time.Duration // how long rows stay valid; 0 means forever
	tiers map[string]*keyTier
}

func newKeyCache(mem memory.Allocator, limit int64, ttl time.Duration) *keyCache {
	return &keyCache{mem: mem, limit: limit, ttl: ttl, tiers: map[string]*keyTier{}}
}

// keyStore caches the rows of look-ups, for one stream or for all.
type keyStore interface {
	// find returns the row range of each key, in records that it retains in the
	// arena. The range of a key that is not cached has a negative record.
	find(arena *rows.Arena, keys *keyList) ([]rowRange, []arrow.RecordBatch)
	// put caches the rows found for some keys. Those of the key with index
	// numbers[i] are rows [starts[i], starts[i+1]).
	put(keys *keyList, numbers, starts []int32, rows rows.Set)
}

// keyTier caches the rows of one kind of look-up by key. All have the same schema.
type keyTier struct {
	cache      *keyCache
	schema     *arrow.Schema
	young, old *generation
}

// tier returns the tier of a kind of look-up. The same key must have the same rows
// in all look-ups with the same tierKey.
func (c *keyCache) tier(tierKey string, schema *arrow.Schema) *keyTier {
	t := c.tiers[tierKey]
	if t == nil {
		t = &keyTier{cache: c, schema: schema}
		c.tiers[tierKey] = t
	}
	return t
}

// evict releases all rows. Records that callers have retained stay valid.
func (c *keyCache) evict() {
	for _, t := range c.tiers {
		t.young.release()
		t.old.release()
		t.young, t.old = nil, nil
	}
	c.young = 0
}

// evictTier releases a tier.
func (c *keyCache) evictTier(tierKey string) {
	t := c.tiers[tierKey]
	if t == nil {
		return
	}
	delete(c.tiers, tierKey)
	if t.young != nil {
		c.young -= t.young.size()
	}
	t.young.release()
	t.old.release()
	t.young, t.old = nil, nil
}

// expires returns when rows that are found now expire, in nanoseconds of Unix
// time; 0 means never.
func (c *keyCache) expires() int64 {
	if c.ttl == 0 {
		return 0
	}
	return time.Now().Add(c.ttl).UnixNano()
}

// rowRange is the position of a key's rows: rows [from, from+rows) of a record.
type rowRange struct{ record, from, rows int32 }

const rowRangeBytes = int(unsafe.Sizeof(rowRange{}))

// castRowRanges returns b as row ranges, without a copy.
func castRowRanges(b []byte) []rowRange {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*rowRange)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/rowRangeBytes)
}

// find implements [keyStore].
func (t *keyTier) find(arena *rows.Arena, keys *keyList) ([]rowRange, []arrow.RecordBatch) {
	ranges := castRowRanges(arena.Bytes(keys.rows * rowRangeBytes))
	var records []arrow.RecordBatch
	var oldKeys []int32 // the indexes of keys that only the old generation has
	var expires []int64 // of oldKeys
	now := int64(0)
	if t.cache.ttl > 0 {
		now = time.Now().UnixNano()
	}
	seen := [2]map[int32]int32{{}, {}}
	for i := range ranges {
		ranges[i].record = -1
		key := keys.at(i)
		hash := hashKey(key)
		for g, generation := range [2]*generation{t.young, t.old} {
			e := generation.find(key, hash, now)
			if e == nil {
				continue
			}
			record, ok := seen[g][e.record]
			if !ok {
				record = int32(len(records))
				records = append(records, arena.Retain(generation.blocks[e.record]))
				seen[g][e.record] = record
			}
			ranges[i] = rowRange{record: record, from: e.from, rows: e.rows}
			if g == 1 {
				oldKeys, expires = append(oldKeys, int32(i)), append(expires, e.expires)
			}
			break
		}
	}
	if len(oldKeys) > 0 {
		t.promote(keys, oldKeys, ranges, records, expires)
	}
	return ranges, records
}

// promote copies rows that were found in the old generation into the young one.
func (t *keyTier) promote(keys *keyList, keyNumbers []int32, ranges []rowRange, records []arrow.RecordBatch, expires []int64) {
	t.tryAdd(func(arena *rows.Arena) {
		starts, total := arena.Ints(len(keyNumbers)+1), 0
		for i, n := range keyNumbers {
			total += int(ranges[n].rows)
			starts[i+1] = int32(total)
		}
		found := rows.Set{Records: records, Refs: arena.Refs(total)}
		for i, n := range keyNumbers {
			for j := range ranges[n].rows {
				found.Refs[starts[i]+j] = rows.Ref{Record: ranges[n].record, Row: ranges[n].from + j}
			}
		}
		t.add(keys, keyNumbers, starts, found, func(i int) int64 { return expires[i] })
	})
}

// put implements [keyStore].
func (t *keyTier) put(keys *keyList, numbers, starts []int32, set rows.Set) {
	if t.cache.limit > 0 && len(numbers) > 0 {
		expires := t.cache.expires()
		t.tryAdd(func(*rows.Arena) { t.add(keys, numbers, starts, set, func(int) int64 { return expires }) })
	}
}

// tryAdd calls add, and evicts everything if memory is refused.
func (t *keyTier) tryAdd(f func(*rows.Arena)) {
	arena := rows.NewArena(t.cache.mem)
	defer arena.Release()
	_, err := sources.GuardCall("", "", func() (struct{}, error) { f(arena); return struct{}{}, nil })
	if err == nil {
		return
	}
	t.cache.evict()
	if sources.KindOf(err) != sources.Exhausted {
		panic(err)
	}
}

// add copies rows into the young generation, and ages the generations when it is
// full.
func (t *keyTier) add(keys *keyList, numbers, starts []int32, rows rows.Set, expires func(i int) int64) {
	if t.young == nil {
		t.young = newGeneration(t.cache.mem)
	}
	before := t.young.size()
	t.young.add(t.schema, keys, numbers, starts, rows, expires)
	t.cache.young += t.young.size() - before
	if t.cache.young <= t.cache.limit/2 {
		return
	}
	for _, other := range t.cache.tiers {
		other.old.release()
		other.old, other.young = other.young, nil
	}
	t.cache.young = 0
}

// generation is a hash table from keys to rows, with open addressing. A nil
// generation is empty.
type generation struct {
	mem     memory.Allocator
	blocks  []arrow.RecordBatch
	bytes   int64         // of the blocks
	keys    growing[byte] // the keys' bytes, concatenated
	entries growing[keyEntry]
	slots   growing[int32] // the index of an entry plus one; 0 if empty
}

// keyEntry is one key and its row range in a block. Its bytes are
// keys[at:at+size].
type keyEntry struct {
	rowRange
	size int32
	at   int64
	hash uint64
	// expires is when the rows expire, in nanoseconds of Unix time; 0 means never.
	expires int64
}

// minBlockRows is how many rows a block must have before another is begun. Many
// tiny blocks would take more memory than their rows.
const minBlockRows = 256

func newGeneration(mem memory.Allocator) *generation {
	return &generation{mem: mem, keys: growing[byte]{mem: mem}, entries: growing[keyEntry]{mem: mem}, slots: growing[int32]{mem: mem}}
}

func (g *generation) release() {
	if g == nil {
		return
	}
	for _, b := range g.blocks {
		b.Release()
	}
	g.blocks = nil
	g.keys.release()
	g.entries.release()
	g.slots.release()
}

// size returns the bytes that the generation takes.
func (g *generation) size() int64 {
	return g.bytes + g.keys.size() + g.entries.size() + g.slots.size()
}

// find returns the valid entry of a key; nil if there is none. The table may also
// have an expired entry of the same key, which comes first.
func (g *generation) find(key []byte, hash uint64, now int64) *keyEntry {
	if g == nil || len(g.slots.items) == 0 {
		return nil
	}
	mask := uint64(len(g.slots.items) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		n := int(g.slots.items[at]) - 1
		if n < 0 {
			return nil
		}
		e := &g.entries.items[n]
		if e.hash == hash && (e.expires == 0 || e.expires > now) && string(g.keys.items[e.at:e.at+int64(e.size)]) == string(key) {
			return e
		}
	}
}

// add copies rows into the generation. If it is refused memory, the generation is
// inconsistent and must be released.
func (g *generation) add(schema *arrow.Schema, keys *keyList, numbers, starts []int32, found rows.Set, expires func(i int) int64) {
	block, first := int32(len(g.blocks)), int32(0)
	if total := int(starts[len(starts)-1]); total > 0 || block == 0 {
		refs := found.Refs[:total]
		if block > 0 && g.blocks[block-1].NumRows() < minBlockRows {
			block--
			last := g.blocks[block]
			first = int32(last.NumRows())
			arena := rows.NewArena(g.mem)
			defer arena.Release()
			joined := arena.Refs(int(first) + total)
			for i := range first {
				joined[i] = rows.Ref{Record: int32(len(found.Records)), Row: i}
			}
			copy(joined[first:], refs)
			record := rows.Set{Records: append(found.Records[:len(found.Records):len(found.Records)], last), Refs: joined}.Copy(g.mem, schema)
			g.bytes += sources.Size(record) - sources.Size(last)
			last.Release()
			g.blocks[block] = record
		} else {
			record := found.Copy(g.mem, schema)
			g.bytes += sources.Size(record)
			g.blocks = append(g.blocks, record)
		}
	} else {
		block--
	}
	g.entries.grow(len(numbers))
	for i, n := range numbers {
		key := keys.at(int(n))
		g.keys.grow(len(key))
		g.entries.items = append(g.entries.items, keyEntry{
			rowRange: rowRange{record: block, from: first + starts[i], rows: starts[i+1] - starts[i]},
			size:     int32(len(key)), at: int64(len(g.keys.items)), hash: hashKey(key), expires: expires(i),
		})
		g.keys.items = append(g.keys.items, key...)
	}
	g.index(len(numbers))
}

// index inserts the last added entries into the table, or all entries if the table
// must grow.
func (g *generation) index(added int) {
	n := len(g.entries.items)
	from := n - added
	if 2*n > len(g.slots.items) {
		g.slots.release()
		g.slots.grow(slotsFor(2 * n))
		g.slots.items = g.slots.items[:slotsFor(2*n)] // zeros: the allocator clears its memory
		from = 0
	}
	mask := uint64(len(g.slots.items) - 1)
	for i := from; i < n; i++ {
		at := g.entries.items[i].hash & mask
		for g.slots.items[at] != 0 {
			at = (at + 1) & mask
		}
		g.slots.items[at] = int32(i) + 1
	}
}

// growing is a slice in an allocator's memory. Its items must have no pointers.
type growing[T any] struct {
	mem    memory.Allocator
	buffer []byte
	items  []T
}

// size returns the allocated bytes.
func (g *growing[T]) size() int64 { return int64(cap(g.buffer)) }

// grow makes room for n more items, so that append does not allocate.
func (g *growing[T]) grow(n int) {
	if len(g.items)+n <= cap(g.items) {
		return
	}
	var item T
	capacity := max(len(g.items)+n, 2*cap(g.items), 16)
	buffer := g.mem.Allocate(capacity * int(unsafe.Sizeof(item)))
	items := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(buffer))), capacity)
	copy(items, g.items)
	size := len(g.items)
	g.release()
	g.buffer, g.items = buffer, items[:size:capacity]
}

func (g *growing[T]) release() {
	if g.buffer != nil {
		g.mem.Free(g.buffer)
	}
	g.buffer, g.items = nil, nil
}
