package csv_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// countingFS counts the bytes read from its files.
type countingFS struct {
	fs.FS
	read *atomic.Int64
}

func (c countingFS) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if s, ok := f.(seekableFile); ok {
		return countingFile{s, c.read}, nil
	}
	return f, nil // a directory
}

type seekableFile interface {
	fs.File
	Seek(offset int64, whence int) (int64, error)
}

type countingFile struct {
	seekableFile
	read *atomic.Int64
}

func (c countingFile) Read(p []byte) (int, error) {
	n, err := c.seekableFile.Read(p)
	c.read.Add(int64(n))
	return n, err
}

const linesPackage = `{"resources": [{"name": "lines", "path": "lines.csv", "schema": {
  "fields": [{"name": "id", "type": "integer"}, {"name": "order", "type": "integer"}, {"name": "code", "type": "string"}, {"name": "note", "type": "string"}],
  "primaryKey": "id", "foreignKeys": [{"fields": "order", "reference": {"resource": "", "fields": "id"}}, {"fields": ["order", "code"], "reference": {"resource": "", "fields": ["id", "note"]}}]}}]}`

// lines returns a table and its values of order. The column id is sorted, with gaps;
// order is not sorted, has NULLs and repeats; some texts contain line ends.
func lines(n int) (text string, orders []int) {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString("id,order,code,note\n")
	for i := range n {
		order := r.IntN(n / 4)
		if order%10 == 0 {
			order = -1
			fmt.Fprintf(&b, "%d,,", 3*i)
		} else {
			fmt.Fprintf(&b, "%d,%d,", 3*i, order)
		}
		fmt.Fprintf(&b, "c%d,\"note %d\n%s\"\n", order%7, i, strings.Repeat("x", 100))
		orders = append(orders, order)
	}
	return b.String(), orders
}

func lookup(columns []string, perKey int, keys ...[]any) *sources.Keys {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c, Type: arrow.PrimitiveTypes.Int64, Nullable: true}
		if _, ok := keys[0][i].(string); ok {
			fields[i].Type = arrow.BinaryTypes.String
		}
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	for _, key := range keys {
		for i, v := range key {
			switch v := v.(type) {
			case int:
				b.Field(i).(*array.Int64Builder).Append(int64(v))
			case string:
				b.Field(i).(*array.StringBuilder).Append(v)
			default:
				b.Field(i).AppendNull()
			}
		}
	}
	return &sources.Keys{Columns: columns, Values: b.NewRecordBatch(), LimitPerKey: perKey}
}

// ids returns the first column of a scan and the cursors of its pages.
func ids(t *testing.T, s sources.Session, q *sources.Query) (all []int64, cursors []sources.Cursor, rows []int) {
	t.Helper()
	for batch, err := range s.Scan(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, batch.Record.Column(0).(*array.Int64).Int64Values()...)
		cursors, rows = append(cursors, batch.Cursor), append(rows, len(all))
	}
	return all, cursors, rows
}

// TestLookups looks up rows by a sorted key, an unsorted key and a key of several
// columns, with limits for each key, and resumes at every cursor.
func TestLookups(t *testing.T) {
	const n = 2000
	text, orders := lines(n)
	read := &atomic.Int64{}
	files := fstest.MapFS{
		"lines.csv":        {Data: []byte(text), ModTime: time.Unix(1e9, 0)},
		"datapackage.json": {Data: []byte(linesPackage)},
	}
	source, err := csv.New(countingFS{files, read}, csv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	begin := func() sources.Session {
		s, err := source.Begin(t.Context(), sources.Env{Mem: mem, Page: sources.Limits{Rows: 3}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	session := begin()
	expect := func(perKey int, match func(i int) (key string, ok bool)) (want []int64) {
		given := map[string]int{}
		for i := range n {
			if key, ok := match(i); ok {
				if given[key]++; perKey == 0 || given[key] <= perKey {
					want = append(want, int64(3*i))
				}
			}
		}
		return want
	}
	for name, c := range map[string]struct {
		keys  *sources.Keys
		match func(i int) (string, bool)
	}{
		"sorted": {lookup([]string{"id"}, 0, []any{-1}, []any{0}, []any{3}, []any{192}, []any{193}, []any{5997}, []any{5998}, []any{9999}, []any{189}, []any{nil}),
			func(i int) (string, bool) { return "", i == 0 || i == 1 || i == 64 || i == 63 || i == 1999 }},
		"unsorted":      {lookup([]string{"order"}, 0, []any{7}, []any{399}, []any{7}, []any{12345}, []any{nil}), func(i int) (string, bool) { return "", orders[i] == 7 || orders[i] == 399 }},
		"two":           {lookup([]string{"order"}, 2, []any{7}, []any{8}, []any{9}), func(i int) (string, bool) { return fmt.Sprint(orders[i]), orders[i] >= 7 && orders[i] <= 9 }},
		"several":       {lookup([]string{"order", "code"}, 0, []any{7, "c0"}, []any{8, "c0"}, []any{9, "c2"}, []any{3, nil}), func(i int) (string, bool) { return "", orders[i] == 7 || orders[i] == 9 }},
		"nothing there": {lookup([]string{"order"}, 0, []any{-5}), func(int) (string, bool) { return "", false }},
	} {
		t.Run(name, func(t *testing.T) {
			want := expect(c.keys.LimitPerKey, c.match)
			q := &sources.Query{Table: "lines", Columns: []string{"id"}, Keys: c.keys}
			got, cursors, rows := ids(t, session, q)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for i, cursor := range cursors {
				q.After = cursor
				if rest, _, _ := ids(t, session, q); len(rest) != len(want)-rows[i] || len(rest) > 0 && rest[0] != want[rows[i]] {
					t.Errorf("after %d rows come %d, want %d", rows[i], rest, want[rows[i]:])
				}
			}
			q.After, q.Limit = nil, 2
			if got, _, _ := ids(t, session, q); len(got) != min(2, len(want)) {
				t.Errorf("a limit of 2 gives %d rows", len(got))
			}
		})
	}
	// Once there is an index, a lookup does not read the whole file, not even in
	// another session.
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	session = begin()
	read.Store(0)
	ids(t, session, &sources.Query{Table: "lines", Columns: []string{"id"}, Keys: lookup([]string{"order"}, 0, []any{7})})
	if got := read.Load(); got > int64(len(text))/2 {
		t.Errorf("a lookup of a few rows reads %d of %d bytes", got, len(text))
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
}
