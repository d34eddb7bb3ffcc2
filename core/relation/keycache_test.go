package relation

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

var cacheSchema = arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.BinaryTypes.String}, {Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

// cacheRows returns keys from to to-1 and their rows: k%4 rows for key k.
func cacheRows(arena *rows.Arena, from, to int) (keyList, []int32, []int32, rows.Set) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, cacheSchema)
	defer b.Release()
	keys := array.NewStringBuilder(memory.DefaultAllocator)
	defer keys.Release()
	var numbers []int32
	starts := []int32{0}
	set := rows.Set{}
	for k := from; k < to; k++ {
		text := fmt.Sprint("key ", k)
		keys.Append(text)
		for i := range k % 4 {
			b.Field(0).(*array.StringBuilder).Append(text)
			b.Field(1).(*array.Int64Builder).Append(int64(100*k + i))
			set.Refs = append(set.Refs, rows.Ref{Row: int32(len(set.Refs))})
		}
		numbers, starts = append(numbers, int32(k-from)), append(starts, int32(len(set.Refs)))
	}
	set.Records = []arrow.RecordBatch{rows.Keep(arena, b.NewRecordBatch())}
	column := rows.Keep(arena, keys.NewArray())
	return encodeKeys(arena, []arrow.Array{column}, []arrow.Array{column}, to-from), numbers, starts, set
}

// checkTier checks the rows that a tier has cached for keys, and returns for how
// many keys it has any.
func checkTier(t *testing.T, tier *keyTier, from, to int) (hits int) {
	t.Helper()
	arena := rows.NewArena(memory.DefaultAllocator)
	defer arena.Release()
	keys, _, _, _ := cacheRows(arena, from, to)
	ranges, records := tier.find(arena, &keys)
	for i, p := range ranges {
		if p.record < 0 {
			continue
		}
		hits++
		k := from + i
		if int(p.rows) != k%4 {
			t.Fatalf("key %d has %d rows", k, p.rows)
		}
		for j := range p.rows {
			r := records[p.record]
			if got := sources.ValueAt(r.Column(1), int(p.from+j)).V; got != int64(100*k)+int64(j) {
				t.Fatalf("row %d of key %d is %d", j, k, got)
			}
		}
	}
	return hits
}

// TestKeyCache checks that cached rows are correct, that the most recently used
// ones are cached, and that the cache stays within its limit.
func TestKeyCache(t *testing.T) {
	budget, err := budget.New("test", 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer budget.Close()
	cache := newKeyCache(budget, 128<<10, 0)
	tier := cache.tier("key", cacheSchema)
	for _, size := range []int{1, 7, 300} {
		for from := 0; from+size <= 3000; from += size {
			arena := rows.NewArena(memory.DefaultAllocator)
			keys, numbers, starts, rows := cacheRows(arena, from, from+size)
			tier.put(&keys, numbers, starts, rows)
			arena.Release()
			if hits := checkTier(t, tier, from, from+size); hits != size {
				t.Fatalf("found %d of the last %d keys", hits, size)
			}
			// These keys are in constant use, and stay.
			if hits := checkTier(t, tier, 0, min(from, 20)); hits != min(from, 20) {
				t.Fatalf("found %d of the keys in use, after %d in steps of %d", hits, from, size)
			}
		}
		if hits := checkTier(t, tier, 0, 3000); hits < 300 || hits == 3000 {
			t.Errorf("found %d of 3000 keys, in steps of %d", hits, size)
		}
		cache.evict()
		if live := budget.Live(); live != 0 {
			t.Fatalf("%d bytes are not released", live)
		}
	}
	if peak := budget.Peak(); peak > 3*128<<10 { // two generations, and the copy of one
		t.Errorf("the peak is %d bytes", peak)
	}
}

// TestKeyCacheRefused checks that refused memory is not an error and leaves a
// consistent cache.
func TestKeyCacheRefused(t *testing.T) {
	for limit := int64(256); limit < 64<<10; limit += 1 << 10 {
		budget, err := budget.New("test", limit, nil)
		if err != nil {
			t.Fatal(err)
		}
		cache := newKeyCache(budget, 1<<20, 0)
		tier := cache.tier("key", cacheSchema)
		for from := 0; from < 500; from += 50 {
			arena := rows.NewArena(memory.DefaultAllocator)
			keys, numbers, starts, rows := cacheRows(arena, from, from+50)
			tier.put(&keys, numbers, starts, rows)
			arena.Release()
			checkTier(t, tier, 0, from+50)
		}
		cache.evict()
		if live := budget.Live(); live != 0 {
			t.Errorf("limit %d: %d bytes are not released", limit, live)
		}
		budget.Close()
	}
}
