package cachedir_test

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host/cachedir"
	"github.com/penstock-data/penstock/sources"
)

// TestAnswersIgnoreRegisteredExtensions: a program that links Arrow's extension types
// and one that does not read each other's answers.
func TestAnswersIgnoreRegisteredExtensions(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	uuid := extensions.NewUUIDType()
	schema := sources.NormalizeSchema(arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: uuid}, {Name: "ids", Type: arrow.ListOf(uuid), Nullable: true},
		{Name: "word", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	}, nil))
	const id = `"ABEiM0RVZneImaq7zN3u/w=="`
	var pages []sources.Batch
	for _, rows := range []string{`[]`, `[{"id":` + id + `,"ids":[` + id + `,null],"word":"a"}]`, `[{"id":` + id + `,"ids":null,"word":"b"}]`} {
		record, _, err := array.RecordFromJSON(mem, schema, strings.NewReader(rows))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, sources.Batch{Record: record, Cursor: sources.Cursor(rows)})
	}
	store, err := cachedir.Open(t.TempDir(), cachedir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	entry := &cache.Entry{Key: query.Key{Digest: query.Identify("answer"), Table: "t"}, At: time.Now(), Expires: time.Now().Add(time.Hour), Schema: schema, Pages: pages}
	defer entry.Release()
	load := func(t *testing.T) {
		n := 0
		found := store.Load(entry.Key, schema, func(b sources.Batch) bool {
			for i, c := range b.Record.Columns() {
				if !arrow.TypeEqual(c.DataType(), schema.Field(i).Type, arrow.CheckMetadata()) {
					t.Errorf("column %d is %s", i, c.DataType())
				}
			}
			if want := pages[n]; !array.RecordEqual(want.Record, b.Record) || string(want.Cursor) != string(b.Cursor) || !b.Record.Schema().Equal(schema) {
				t.Errorf("page %d is %v", n, b.Record)
			}
			n++
			return true
		})
		if found == nil || n != len(pages) {
			t.Fatalf("%d pages of the entry %+v", n, found)
		}
		if store.Load(entry.Key, schema, func(sources.Batch) bool { return false }) != nil {
			t.Error("a page was refused, and the entry is whole")
		}
	}
	store.Save(entry)
	t.Run("registered", load)
	known := arrow.GetExtensionType("arrow.uuid")
	if err := arrow.UnregisterExtensionType("arrow.uuid"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := arrow.RegisterExtensionType(known); err != nil {
			t.Error(err)
		}
	}()
	t.Run("not registered", load)
}
