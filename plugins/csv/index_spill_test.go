package csv_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// TestSpilledIndex checks that an index which does not fit in memory goes to the
// scratch directory, and that a stored index is found by another source until the
// file changes.
func TestSpilledIndex(t *testing.T) {
	dir, kept, scratch := t.TempDir(), t.TempDir(), t.TempDir()
	text, orders := lines(20_000)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "lines.csv"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	if err := os.WriteFile(filepath.Join(dir, "datapackage.json"), []byte(linesPackage), 0o600); err != nil {
		t.Fatal(err)
	}
	want := func(key int) (all []int64) {
		for i, o := range orders {
			if o == key {
				all = append(all, int64(3*i))
			}
		}
		return all
	}
	left := func(dir string) int {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	for name, c := range map[string]struct {
		options map[string]string
		env     sources.Env
		files   int // that are kept
		fault   sources.Kind
	}{
		"no room":                   {env: sources.Env{}, fault: sources.Exhausted},
		"scratch":                   {env: sources.Env{Scratch: scratch}},
		"kept":                      {options: map[string]string{"index": kept}, files: 1},
		"kept, and made in scratch": {options: map[string]string{"index": kept}, env: sources.Env{Scratch: scratch}, files: 1},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				source, err := csv.Open(t.Context(), sources.Config{URI: dir, Options: c.options})
				if err != nil {
					t.Fatal(err)
				}
				testkit.AwaitVersion(t, source, "lines") // an index of a file that has just changed is not stored
				mem := &most{limit: 300 << 10}
				c.env.Mem, c.env.Page = mem, sources.Limits{Bytes: 16 << 10}
				session, err := source.Begin(t.Context(), c.env)
				if err != nil {
					t.Fatal(err)
				}
				for _, key := range []int{7, 4999, 123456, 11} {
					var got []int64
					q := &sources.Query{Table: "lines", Columns: []string{"id"}, Keys: lookup([]string{"order"}, 0, []any{key})}
					for batch, err := range session.Scan(t.Context(), q) {
						if sources.KindOf(err) != c.fault {
							t.Fatal(err)
						}
						if err == nil {
							got = append(got, batch.Record.Column(0).(*array.Int64).Int64Values()...)
						} else if !strings.Contains(err.Error(), "index=DIR") {
							t.Errorf("%v names no remedy", err)
						}
					}
					if diff := cmp.Diff(want(key), got); c.fault == 0 && diff != "" {
						t.Errorf("%d (-want +got):\n%s", key, diff)
					}
				}
				if err := session.Close(); err != nil {
					t.Error(err)
				}
				if err := source.Close(); err != nil {
					t.Error(err)
				}
				if mem.held != 0 || left(scratch) != 0 {
					t.Errorf("%d bytes and %d files are left", mem.held, left(scratch))
				}
			}
			if n := left(kept); n < c.files {
				t.Errorf("%d indexes are kept, want %d", n, c.files)
			}
		})
	}
	before := left(kept)
	if before == 0 {
		t.Fatal("no index is kept")
	}
	write(strings.Replace(text, ",7,", ",8,", 1) + "1,7,c0,x\n")
	orders[slices.Index(orders, 7)] = 8
	source, err := csv.Open(t.Context(), sources.Config{URI: dir, Options: map[string]string{"index": kept}})
	if err != nil {
		t.Fatal(err)
	}
	testkit.AwaitVersion(t, source, "lines")
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	got, _, _ := ids(t, session, &sources.Query{Table: "lines", Columns: []string{"id"}, Keys: lookup([]string{"order"}, 0, []any{7})})
	if diff := cmp.Diff(append(want(7), 1), got); diff != "" || left(kept) != before+1 {
		t.Errorf("after a change, with %d indexes (-want +got):\n%s", left(kept), diff)
	}
	for _, e := range []error{session.Close(), source.Close()} {
		if e != nil {
			t.Error(e)
		}
	}
}

// most is an allocator with a limit.
type most struct {
	memory.GoAllocator
	held, limit int
}

func (m *most) Allocate(n int) []byte {
	if m.held+n > m.limit {
		panic(sources.Errorf(sources.Exhausted, "", "", "%d bytes and %d more", m.held, n))
	}
	m.held += n
	return m.GoAllocator.Allocate(n)
}

func (m *most) Reallocate(n int, b []byte) []byte {
	larger := m.Allocate(n)
	copy(larger, b)
	m.Free(b)
	return larger
}

func (m *most) Free(b []byte) { m.held -= len(b) }
