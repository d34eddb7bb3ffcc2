package cachedir

import (
	"bytes"
	"crypto/sha256"
	"os"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// FuzzAnswer checks that whatever a file with a valid checksum contains, it is left out or
// gives pages that can be read, as many as its label says.
func FuzzAnswer(f *testing.F) {
	d, err := Open(f.TempDir(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "name", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	key := query.Key{Digest: query.Identify("query"), Source: query.Identify("source"), Table: "t"}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	builder.Field(0).(*array.Int64Builder).AppendValues([]int64{1, 2}, nil)
	builder.Field(1).(*array.StringBuilder).AppendValues([]string{"a", ""}, []bool{true, false})
	record := builder.NewRecordBatch()
	defer record.Release()
	page := sources.Batch{Record: record, Cursor: sources.Cursor("c"), Skipped: sources.Skipped{Records: 1, Locations: []string{"here"}}}
	for _, pages := range [][]sources.Batch{{page}, {page, page}} {
		d.Save(&cache.Entry{Key: key, Version: "v", At: time.Now().Add(-time.Minute), Expires: time.Now().Add(1000 * time.Hour), Schema: schema, Pages: pages})
		content, err := os.ReadFile(d.path(key))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content[len(magic)+sha256.Size:])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		sum := sha256.Sum256(content)
		file := append(append([]byte(magic), sum[:]...), content...)
		if err := os.WriteFile(d.path(key), file, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := peek(d.path(key)); err == nil && bytes.IndexByte(content, '{') < 0 {
			t.Errorf("a label without JSON: %+v", l)
		}
		given := 0
		entry := d.Load(key, schema, func(b sources.Batch) bool {
			given++
			if !b.Record.Schema().Equal(schema) {
				t.Errorf("a page with %s", b.Record.Schema())
			}
			for _, c := range b.Record.Columns() {
				for i := range min(c.Len(), 1000) {
					sources.ValueAt(c, i)
				}
			}
			return true
		})
		if entry != nil && (given == 0 || entry.Key != key || !time.Now().Before(entry.Expires)) {
			t.Errorf("%d pages of %+v", given, entry)
		}
	})
}
