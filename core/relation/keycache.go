package relation

import (
	"time"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// keyCache remembers which rows look-ups found for which keys, also that there
// were none. It has a tier for each question. It only makes things faster: it
// holds whole answers alone, and what it is refused memory for it does without.
//
// Its rows are copies of its own, in two generations: what is asked for moves
// into the young one, and when that has half the limit the old one is dropped.
// That is nearly the least recently used, without a list of what was used when.
//
// It is for one goroutine at a time.
type keyCache struct {
	mem   memory.Allocator
	limit int64         // bytes, of all tiers; 0: it remembers nothing
	young int64         // bytes of the young generations
	ttl   time.Duration // for how long a row is good; 0 is for ever
	tiers map[string]*keyTier
}

func newKeyCache(mem memory.Allocator, limit int64, ttl time.Duration) *keyCache {
	return &keyCache{mem: mem, limit: limit, ttl: ttl, tiers: map[string]*keyTier{}}
}

// keyStore remembers the rows of look-ups: for one stream, or for all.
type keyStore interface {
	find(s *rows.Arena, keys *keyList) ([]rowRange, []arrow.RecordBatch)
	remember(keys *keyList, numbers, starts []int32, rows rows.Set)
}

// keyTier has the answers to one question: rows of the schema, by key.
type keyTier struct {
	cache      *keyCache
	schema     *arrow.Schema
	young, old *generation
}

// tier returns the tier of a question: a text that is the same only where the
// same key has the same rows.
func (c *keyCache) tier(question string, schema *arrow.Schema) *keyTier {
	t := c.tiers[question]
	if t == nil {
		t = &keyTier{cache: c, schema: schema}
		c.tiers[question] = t
	}
	return t
}

// shed drops everything. The records that were found stay with who retained
// them.
func (c *keyCache) shed() {
	for _, t := range c.tiers {
		t.young.release()
		t.old.release()
		t.young, t.old = nil, nil
	}
	c.young = 0
}

// forget drops the tier of a question.
func (c *keyCache) forget(question string) {
	t := c.tiers[question]
	if t == nil {
		return
	}
	delete(c.tiers, question)
	if t.young != nil {
		c.young -= t.young.size()
	}
	t.young.release()
	t.old.release()
	t.young, t.old = nil, nil
}

// until is when what is found now is good no more, in Unix time's nanoseconds; 0
// is never.
func (c *keyCache) until() int64 {
	if c.ttl == 0 {
		return 0
	}
	return time.Now().Add(c.ttl).UnixNano()
}

// rowRange is where the rows of a key are.
type rowRange struct{ record, from, rows int32 }

const rowRangeBytes = int(unsafe.Sizeof(rowRange{}))

func castRowRanges(b []byte) []rowRange {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*rowRange)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/rowRangeBytes)
}

// find says for each key where its rows are, in records that it retains into the
// scope. A key that is not remembered has a negative record.
func (t *keyTier) find(s *rows.Arena, keys *keyList) ([]rowRange, []arrow.RecordBatch) {
	places := castRowRanges(s.Bytes(keys.rows * rowRangeBytes))
	var records []arrow.RecordBatch
	var old []int32   // the numbers of the keys that only the old generation has
	var until []int64 // of those
	now := int64(0)
	if t.cache.ttl > 0 {
		now = time.Now().UnixNano()
	}
	seen := [2]map[int32]int32{{}, {}}
	for i := range places {
		places[i].record = -1
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
				records = append(records, s.Retain(generation.blocks[e.record]))
				seen[g][e.record] = record
			}
			places[i] = rowRange{record: record, from: e.from, rows: e.rows}
			if g == 1 {
				old, until = append(old, int32(i)), append(until, e.until)
			}
			break
		}
	}
	if len(old) > 0 {
		t.promote(keys, old, places, records, until)
	}
	return places, records
}

// promote copies what was found in the old generation into the young one.
func (t *keyTier) promote(keys *keyList, numbers []int32, places []rowRange, records []arrow.RecordBatch, until []int64) {
	t.attempt(func(s *rows.Arena) {
		starts, total := s.Ints(len(numbers)+1), 0
		for i, n := range numbers {
			total += int(places[n].rows)
			starts[i+1] = int32(total)
		}
		count := rows.Set{Records: records, Refs: s.Refs(total)}
		for i, n := range numbers {
			for j := range places[n].rows {
				count.Refs[starts[i]+j] = rows.Ref{Record: places[n].record, Row: places[n].from + j}
			}
		}
		t.add(keys, numbers, starts, count, func(i int) int64 { return until[i] })
	})
}

// remember adds the rows that were found for some of the keys: those of the key
// with the number numbers[i] are rows [starts[i], starts[i+1]).
func (t *keyTier) remember(keys *keyList, numbers, starts []int32, n rows.Set) {
	if t.cache.limit > 0 && len(numbers) > 0 {
		until := t.cache.until()
		t.attempt(func(*rows.Arena) { t.add(keys, numbers, starts, n, func(int) int64 { return until }) })
	}
}

// attempt drops everything where the attempt is refused memory.
func (t *keyTier) attempt(f func(*rows.Arena)) {
	s := rows.NewArena(t.cache.mem)
	defer s.Release()
	_, err := sources.GuardCall("", "", func() (struct{}, error) { f(s); return struct{}{}, nil })
	if err == nil {
		return
	}
	t.cache.shed()
	if sources.KindOf(err) != sources.Exhausted {
		panic(err)
	}
}

func (t *keyTier) add(keys *keyList, numbers, starts []int32, rows rows.Set, until func(i int) int64) {
	if t.young == nil {
		t.young = newGeneration(t.cache.mem)
	}
	before := t.young.size()
	t.young.add(t.schema, keys, numbers, starts, rows, until)
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

// generation is a table from keys to rows, with open addressing. A nil one is
// empty.
type generation struct {
	mem     memory.Allocator
	blocks  []arrow.RecordBatch
	bytes   int64         // that the blocks hold
	keys    growing[byte] // one behind the other
	entries growing[keyEntry]
	slots   growing[int32] // the number of an entry and one, or 0
}

// keyEntry is one key, whose bytes are keys[at:at+size]. The record of its place
// is a block.
type keyEntry struct {
	rowRange
	size int32
	at   int64
	hash uint64
	// until is when the rows are good no more, in Unix time's nanoseconds; 0 is never.
	until int64
}

// smallBlock is how many rows a block must have before another is begun: many
// tiny ones would cost more than they hold.
const smallBlock = 256

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

// size is how many bytes it holds.
func (g *generation) size() int64 {
	return g.bytes + g.keys.size() + g.entries.size() + g.slots.size()
}

// find returns the entry of a key that is good now; nil where there is none. The
// entry of one that was asked for again stands behind its expired one.
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
		if e.hash == hash && (e.until == 0 || e.until > now) && string(g.keys.items[e.at:e.at+int64(e.size)]) == string(key) {
			return e
		}
	}
}

// add copies rows in. Where it is refused memory half way, what it holds is no
// longer whole, and must be released.
func (g *generation) add(schema *arrow.Schema, keys *keyList, numbers, starts []int32, count rows.Set, until func(i int) int64) {
	block, first := int32(len(g.blocks)), int32(0)
	if total := int(starts[len(starts)-1]); total > 0 || block == 0 {
		refs := count.Refs[:total]
		if block > 0 && g.blocks[block-1].NumRows() < smallBlock {
			block--
			last := g.blocks[block]
			first = int32(last.NumRows())
			s := rows.NewArena(g.mem)
			defer s.Release()
			joined := s.Refs(int(first) + total)
			for i := range first {
				joined[i] = rows.Ref{Record: int32(len(count.Records)), Row: i}
			}
			copy(joined[first:], refs)
			record := rows.Set{Records: append(count.Records[:len(count.Records):len(count.Records)], last), Refs: joined}.Copy(g.mem, schema)
			g.bytes += sources.Size(record) - sources.Size(last)
			last.Release()
			g.blocks[block] = record
		} else {
			record := count.Copy(g.mem, schema)
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
			size:     int32(len(key)), at: int64(len(g.keys.items)), hash: hashKey(key), until: until(i),
		})
		g.keys.items = append(g.keys.items, key...)
	}
	g.index(len(numbers))
}

// index puts the last so many entries into the table, or all where it must grow.
func (g *generation) index(added int) {
	n := len(g.entries.items)
	from := n - added
	if 2*n > len(g.slots.items) {
		g.slots.release()
		g.slots.grow(slotsFor(2 * n))
		g.slots.items = g.slots.items[:slotsFor(2*n)] // zeroes, as every allocator of ours gives
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

// growing is a list in an allocator's memory, of items without pointers.
type growing[T any] struct {
	mem    memory.Allocator
	buffer []byte
	items  []T
}

func (g *growing[T]) size() int64 { return int64(cap(g.buffer)) }

// grow makes room for n items more, so that append does not allocate.
func (g *growing[T]) grow(n int) {
	if len(g.items)+n <= cap(g.items) {
		return
	}
	var item T
	room := max(len(g.items)+n, 2*cap(g.items), 16)
	buffer := g.mem.Allocate(room * int(unsafe.Sizeof(item)))
	items := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(buffer))), room)
	copy(items, g.items)
	size := len(g.items)
	g.release()
	g.buffer, g.items = buffer, items[:size:room]
}

func (g *growing[T]) release() {
	if g.buffer != nil {
		g.mem.Free(g.buffer)
	}
	g.buffer, g.items = nil, nil
}
