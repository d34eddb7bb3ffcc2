package cache_test

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// TestEveryTypeIsRemembered tests that records of every type, and slices of them,
// with and without NULLs, are the same after they were stored.
func TestEveryTypeIsRemembered(t *testing.T) {
	const rows = `[
		{"b": true, "i": 1, "s": "one", "d": "1.50", "l": [1, null, 3], "ls": [{"x": "a", "y": [1]}], "st": {"x": "p", "y": [1, 2]}, "f": [1, 2], "m": [{"key": "k", "value": 1}], "dict": "red", "lt": "long", "bin": "AAEC", "n": null, "ts": 1767323045000006},
		{"b": null, "i": null, "s": null, "d": null, "l": null, "ls": null, "st": null, "f": null, "m": null, "dict": null, "lt": null, "bin": null, "n": null, "ts": null},
		{"b": false, "i": -7, "s": "", "d": "-0.01", "l": [], "ls": [{"x": null, "y": null}, {"x": "b", "y": []}], "st": {"x": null, "y": []}, "f": [3, null], "m": [], "dict": "blue", "lt": "", "bin": "", "n": null, "ts": -1},
		{"b": true, "i": 9, "s": "four", "d": "99999999.99", "l": [4], "ls": [], "st": {"x": "q", "y": [null]}, "f": [5, 6], "m": [{"key": "a", "value": null}, {"key": "b", "value": 2}], "dict": "red", "lt": "x", "bin": "/w==", "n": null, "ts": 0}
	]`
	inner := arrow.StructOf(arrow.Field{Name: "x", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "y", Type: arrow.ListOf(arrow.PrimitiveTypes.Int16), Nullable: true})
	var fields []arrow.Field
	for _, f := range []struct {
		name string
		t    arrow.DataType
	}{
		{"b", arrow.FixedWidthTypes.Boolean}, {"i", arrow.PrimitiveTypes.Int64}, {"s", arrow.BinaryTypes.String}, {"d", &arrow.Decimal128Type{Precision: 10, Scale: 2}},
		{"l", arrow.ListOf(arrow.PrimitiveTypes.Int32)}, {"ls", arrow.LargeListOf(inner)}, {"st", inner}, {"f", arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8)},
		{"m", arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32)}, {"dict", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}},
		{"lt", arrow.BinaryTypes.LargeString}, {"bin", arrow.BinaryTypes.Binary}, {"n", arrow.Null}, {"ts", arrow.FixedWidthTypes.Timestamp_us},
	} {
		fields = append(fields, arrow.Field{Name: f.name, Type: f.t, Nullable: true})
	}
	schema := arrow.NewSchema(fields, nil)
	whole, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	testCache := coretest.NewCache(t, cache.Options{})
	key := query.Key{Digest: query.Identify("key"), Source: coretest.SourceID, Table: "t"}
	for from := int64(0); from <= 4; from++ {
		for to := from; to <= 4; to++ {
			slice := whole.NewSlice(from, to)
			page := sources.Batch{Record: slice, Cursor: sources.Cursor("here"), Skipped: sources.Skipped{Records: 1, Locations: []string{"line 3"}}}
			put := &cache.Entry{Key: key, Version: "v", At: time.Now(), Expires: time.Now().Add(time.Hour), Schema: schema, Pages: []sources.Batch{page, page}}
			if !testCache.Put(put) {
				t.Fatalf("[%d,%d) was not stored", from, to)
			}
			got := testCache.Get(key, schema)
			if got == nil || len(got.Pages) != 2 || got.Version != "v" || got.Key != key {
				t.Fatalf("[%d,%d): got %+v", from, to, got)
			}
			for _, p := range got.Pages {
				if !array.RecordEqual(slice, p.Record) || string(p.Cursor) != "here" || p.Skipped.Records != 1 || p.Skipped.Locations[0] != "line 3" {
					t.Errorf("[%d,%d): got %v, want %v", from, to, p.Record, slice)
				}
			}
			got.Release()
		}
	}
	put := &cache.Entry{Key: key, At: time.Now(), Expires: time.Now(), Schema: schema, Pages: []sources.Batch{{Record: whole}}}
	if testCache.Put(put) || testCache.Put(&cache.Entry{Key: key, Expires: time.Now().Add(time.Hour)}) {
		t.Error("an expired entry, or one without pages, was stored")
	}
}

// TestTheShopIsRemembered tests that every table of the generated shop is the same
// after it was stored, in at most 1.25 times the memory of its rows.
func TestTheShopIsRemembered(t *testing.T) {
	shop, err := testkit.Shop{Seed: 7, Orders: 3000}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	budget := coretest.NewBudget(t)
	cache := coretest.NewCache(t, cache.Options{Budget: budget})
	catalog, err := shop.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range catalog.Tables {
		var sums []string
		for range 2 {
			stream := coretest.Open(t, shop, core.Query{Table: table.Name}, core.Options{}, coretest.WithCache(cache, budget))
			for _, err := range stream.Chunks() {
				if err != nil {
					t.Fatal(err)
				}
			}
			sums = append(sums, stream.Receipt().Digest.Ordered()+" "+stream.Receipt().Cache)
		}
		if want := strings.Replace(sums[0], "miss", "hit", 1); sums[1] != want {
			t.Errorf("%s: %q", table.Name, sums)
		}
	}
	s := cache.Stats()
	t.Logf("%d bytes of rows in %d bytes", s.Payload, s.Bytes)
	if float64(s.Bytes) > 1.25*float64(s.Payload) {
		t.Errorf("%d bytes of rows take %d bytes of memory", s.Payload, s.Bytes)
	}
}
