package csv_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// damagedIndex looks up keys through a stored index that the disk has changed.
type damagedIndex struct {
	t         *testing.T
	dir, kept string
	query     *sources.Query
	file      string // the stored index
	good      []byte // its contents
	want      []int64
}

// newDamagedIndex stores the index of a query.
func newDamagedIndex(t *testing.T, q *sources.Query) *damagedIndex {
	t.Helper()
	d := &damagedIndex{t: t, dir: t.TempDir(), kept: t.TempDir(), query: q}
	text, _ := lines(3000)
	for name, text := range map[string]string{"lines.csv": text, "datapackage.json": linesPackage} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.want = d.read()
	if len(d.want) == 0 {
		t.Fatal("the query finds no rows")
	}
	files, err := filepath.Glob(filepath.Join(d.kept, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q are stored, error %v", files, err)
	}
	d.file = files[0]
	if d.good, err = os.ReadFile(d.file); err != nil {
		t.Fatal(err)
	}
	return d
}

// read returns the rows that a new source finds.
func (d *damagedIndex) read() []int64 {
	d.t.Helper()
	source, err := csv.Open(d.t.Context(), sources.Config{URI: d.dir, Options: map[string]string{"index": d.kept}})
	if err != nil {
		d.t.Fatal(err)
	}
	testkit.AwaitVersion(d.t, source, "lines")
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(d.t, 0)
	session, err := source.Begin(d.t.Context(), sources.Env{Mem: mem})
	if err != nil {
		d.t.Fatal(err)
	}
	got, _, _ := ids(d.t, session, d.query)
	for _, err := range []error{session.Close(), source.Close()} {
		if err != nil {
			d.t.Error(err)
		}
	}
	return got
}

// check stores other contents in place of the index, and checks that the rows are
// right and that the index is good again.
func (d *damagedIndex) check(what string, contents []byte) {
	d.t.Helper()
	if err := os.WriteFile(d.file, contents, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if diff := cmp.Diff(d.want, d.read()); diff != "" {
		d.t.Errorf("%s: rows (-want +got):\n%s", what, diff)
	}
	now, err := os.ReadFile(d.file)
	if err != nil || string(now) != string(d.good) {
		d.t.Errorf("%s: the index was not written again, error %v", what, err)
	}
}

// TestDamagedIndex changes a stored index in every way in which disks do: bits, whole
// pages, pages in the place of others, and its length. A lookup finds the right rows,
// and writes the index again.
func TestDamagedIndex(t *testing.T) {
	var orders, few [][]any
	for key := range 750 {
		orders, few = append(orders, []any{key}), append(few, []any{key * 12})
	}
	for name, q := range map[string]*sources.Query{
		"every record": {Table: "lines", Columns: []string{"id"}, Keys: lookup([]string{"order"}, 0, orders...)},
		"blocks":       {Table: "lines", Columns: []string{"id"}, Keys: lookup([]string{"id"}, 0, few...)},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDamagedIndex(t, q)
			const page = 4096
			size := len(d.good)
			if size%page != 0 || size < 2*page {
				t.Fatalf("the index has %d bytes", size)
			}
			// Single bits: in each part of the first page, and in every page.
			at := []int{0, 20, 21, 52, 53, 54, 61, 62, 500, page - 17, page - 16, page - 1}
			for from := page; from < size; from += page {
				at = append(at, from, from+3, from+8, from+13, from+page/2, from+page-17, from+page-16, from+page-1)
			}
			for i, at := range at {
				changed := append([]byte(nil), d.good...)
				changed[at] ^= 1 << (i % 8)
				d.check(fmt.Sprintf("bit %d of byte %d", i%8, at), changed)
			}
			for from := 0; from < size; from += page {
				changed := append([]byte(nil), d.good...)
				clear(changed[from : from+page])
				d.check(fmt.Sprintf("zeros from byte %d", from), changed)
				if next := from + page; next < size && from > 0 {
					copy(changed[from:next], d.good[next:next+page])
					copy(changed[next:next+page], d.good[from:next])
					d.check(fmt.Sprintf("pages from byte %d swapped", from), changed)
				}
			}
			for _, n := range []int{0, 1, 100, page, size - page, size - 1} {
				d.check(fmt.Sprintf("the first %d bytes", n), d.good[:n])
			}
			d.check("a page more", append(d.good[:size:size], make([]byte, page)...))
		})
	}
}

// TestForeignIndex puts the index of another table's files where that of this one is
// expected.
func TestForeignIndex(t *testing.T) {
	q := &sources.Query{Table: "lines", Columns: []string{"id"}, Keys: lookup([]string{"order"}, 0, []any{7}, []any{11})}
	d := newDamagedIndex(t, q)
	other := newDamagedIndex(t, q)
	d.check("another index", other.good)
}
