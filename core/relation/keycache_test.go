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

// cacheRows are k%4 rows for each key k.
func cacheRows(s *rows.Arena, from, to int) (keyList, []int32, []int32, rows.Set) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, cacheSchema)
	defer b.Release()
	keys := array.NewStringBuilder(memory.DefaultAllocator)
	defer keys.Release()
	var numbers []int32
	starts := []int32{0}
	n := rows.Set{}
	for k := from; k < to; k++ {
		text := fmt.Sprint("key ", k)
		keys.Append(text)
		for i := range k % 4 {
			b.Field(0).(*array.StringBuilder).Append(text)
			b.Field(1).(*array.Int64Builder).Append(int64(100*k + i))
			n.Refs = append(n.Refs, rows.Ref{Row: int32(len(n.Refs))})
		}
		numbers, starts = append(numbers, int32(k-from)), append(starts, int32(len(n.Refs)))
	}
	n.Records = []arrow.RecordBatch{rows.Keep(s, b.NewRecordBatch())}
	column := rows.Keep(s, keys.NewArray())
	return encodeKeys(s, []arrow.Array{column}, []arrow.Array{column}, to-from), numbers, starts, n
}

// check holds what a tier remembers of keys against the truth, and returns how
// many it remembers.
func checkTier(t *testing.T, tier *keyTier, from, to int) (hits int) {
	t.Helper()
	s := rows.NewArena(memory.DefaultAllocator)
	defer s.Release()
	keys, _, _, _ := cacheRows(s, from, to)
	places, records := tier.find(s, &keys)
	for i, p := range places {
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

// TestKeyCache: what is remembered is right, what was used last is remembered,
// and no more is held than the limit.
func TestKeyCache(t *testing.T) {
	budget, err := budget.New("test", 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer budget.Close()
	cache := newKeyCache(budget, 128<<10, 0)
	tier := cache.tier("question", cacheSchema)
	for _, step := range []int{1, 7, 300} {
		for from := 0; from+step <= 3000; from += step {
			s := rows.NewArena(memory.DefaultAllocator)
			keys, numbers, starts, rows := cacheRows(s, from, from+step)
			tier.remember(&keys, numbers, starts, rows)
			s.Release()
			if hits := checkTier(t, tier, from, from+step); hits != step {
				t.Fatalf("%d of the %d keys that were remembered last", hits, step)
			}
			// These are asked for all the time, and stay.
			if hits := checkTier(t, tier, 0, min(from, 20)); hits != min(from, 20) {
				t.Fatalf("%d of the keys that are used, after %d in steps of %d", hits, from, step)
			}
		}
		if hits := checkTier(t, tier, 0, 3000); hits < 300 || hits == 3000 {
			t.Errorf("%d of 3000 keys after steps of %d", hits, step)
		}
		cache.shed()
		if live := budget.Live(); live != 0 {
			t.Fatalf("%d bytes are left", live)
		}
	}
	if peak := budget.Peak(); peak > 3*128<<10 { // generations, and one that is copied
		t.Errorf("it held %d bytes", peak)
	}
}

// TestKeyCacheRefused: memory that is refused is no fault, and leaves nothing
// half done.
func TestKeyCacheRefused(t *testing.T) {
	for limit := int64(256); limit < 64<<10; limit += 1 << 10 {
		budget, err := budget.New("test", limit, nil)
		if err != nil {
			t.Fatal(err)
		}
		cache := newKeyCache(budget, 1<<20, 0)
		tier := cache.tier("question", cacheSchema)
		for from := 0; from < 500; from += 50 {
			s := rows.NewArena(memory.DefaultAllocator)
			keys, numbers, starts, rows := cacheRows(s, from, from+50)
			tier.remember(&keys, numbers, starts, rows)
			s.Release()
			checkTier(t, tier, 0, from+50)
		}
		cache.shed()
		if live := budget.Live(); live != 0 {
			t.Errorf("limit %d: %d bytes are left", limit, live)
		}
		budget.Close()
	}
}
