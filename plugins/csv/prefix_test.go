package csv_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// numbered returns the text of a file of numbers from a first one to a last one.
func numbered(first, last int) []byte {
	var b bytes.Buffer
	b.WriteString("id,note\n")
	for i := first; i < last; i++ {
		fmt.Fprintf(&b, "%d,\"note \"\"%d\"\" %s\"\n", i, i, strings.Repeat("x", i%50))
	}
	return b.Bytes()
}

// resumable is a table in some files, of which a scan reads some pages and then resumes.
type resumable struct {
	t     *testing.T
	dir   string
	texts map[string][]byte
	at    time.Time
}

func (r *resumable) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// write writes a file, with the time that all of them have.
func (r *resumable) write(name string, text []byte) {
	r.t.Helper()
	r.must(os.WriteFile(filepath.Join(r.dir, name), text, 0o600))
	r.must(os.Chtimes(filepath.Join(r.dir, name), r.at, r.at))
}

// damage changes a byte of a file, and restores its time.
func (r *resumable) damage(name string, at int) {
	r.t.Helper()
	text := bytes.Clone(r.texts[name])
	text[at] ^= 1
	r.write(name, text)
}

// read opens the table again and reads a number of pages after a cursor. It returns the first
// column, and the cursor after the pages.
func (r *resumable) read(q sources.Query, pages int, await bool) (ids []int64, after sources.Cursor, err error) {
	r.t.Helper()
	source, err := csv.Open(r.t.Context(), sources.Config{URI: filepath.Join(r.dir, "*"), Options: map[string]string{"table": "numbers", "header": "true"}})
	r.must(err)
	defer func() { r.must(source.Close()) }()
	if await {
		testkit.AwaitVersion(r.t, source, "numbers")
	}
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(r.t, 0)
	session, err := source.Begin(r.t.Context(), sources.Env{Mem: mem, Page: sources.Limits{Bytes: 64 << 10, Rows: 1000}})
	r.must(err)
	defer func() { r.must(session.Close()) }()
	q.Table = "numbers"
	for page, err := range session.Scan(r.t.Context(), &q) {
		if err != nil {
			return ids, after, err
		}
		ids = append(ids, page.Record.Column(0).(*array.Int64).Int64Values()...)
		after = page.Cursor
		if pages--; pages == 0 {
			break
		}
	}
	return ids, after, nil
}

// resumeForms lists forms of a table of 30,000 numbers.
var resumeForms = map[string]func(r *resumable){
	"one file": func(r *resumable) { r.texts["a.csv"] = numbered(0, 30_000) },
	"several files": func(r *resumable) {
		r.texts["a.csv"], r.texts["b.csv"], r.texts["c.csv"] = numbered(0, 2_000), numbered(2_000, 2_000), numbered(2_000, 30_000)
	},
	"gzip": func(r *resumable) {
		var packed bytes.Buffer
		w, err := gzip.NewWriterLevel(&packed, gzip.NoCompression) // so that a byte can be changed
		r.must(err)
		_, err = w.Write(numbered(0, 30_000))
		r.must(err)
		r.must(w.Close())
		r.texts["a.csv.gz"] = packed.Bytes()
	},
}

func newResumable(t *testing.T, form func(r *resumable)) *resumable {
	r := &resumable{t: t, dir: t.TempDir(), texts: map[string][]byte{}, at: time.Now().Add(-time.Hour)}
	form(r)
	for name, text := range r.texts {
		r.write(name, text)
	}
	return r
}

// first is the first file of every form.
func (r *resumable) first() string {
	if r.texts["a.csv"] != nil {
		return "a.csv"
	}
	return "a.csv.gz"
}

// TestResumeAfterChanges: a scan resumes if the bytes before the cursor are the same, whatever
// became of the file, and does not if one of them differs, although size and time are the same.
func TestResumeAfterChanges(t *testing.T) {
	for form, make := range resumeForms {
		for name, c := range map[string]struct {
			change func(r *resumable)
			fails  bool
		}{
			"nothing": {change: func(*resumable) {}},
			"chmod":   {change: func(r *resumable) { r.must(os.Chmod(filepath.Join(r.dir, r.first()), 0o400)) }},
			"copied over it": {change: func(r *resumable) {
				r.write(r.first(), r.texts[r.first()])
			}},
			"restored from a copy": {change: func(r *resumable) {
				r.must(os.Remove(filepath.Join(r.dir, r.first())))
				r.write(r.first(), r.texts[r.first()])
			}},
			"touched": {change: func(r *resumable) {
				r.at = time.Now()
				r.write(r.first(), r.texts[r.first()])
			}, fails: true},
			"a byte of the first record": {change: func(r *resumable) { r.damage(r.first(), 60) }, fails: true},
			"a byte before the cursor":   {change: func(r *resumable) { r.damage(r.first(), 40_000) }, fails: true},
		} {
			t.Run(form+", "+name, func(t *testing.T) {
				r := newResumable(t, make)
				before, after, err := r.read(sources.Query{}, 4, false)
				r.must(err)
				c.change(r)
				rest, _, err := r.read(sources.Query{After: after}, 0, false)
				if c.fails {
					if len(rest) > 0 || sources.KindOf(err) != sources.Invalid || form != "gzip" && !strings.Contains(err.Error(), "has changed") {
						t.Errorf("%d rows, %v", len(rest), err)
					}
					return
				}
				r.must(err)
				for i, id := range append(before, rest...) {
					if id != int64(i) {
						t.Fatalf("row %d is %d", i, id)
					}
				}
				if len(before)+len(rest) != 30_000 {
					t.Errorf("%d and %d rows", len(before), len(rest))
				}
			})
		}
	}
}

// TestResumeOften: each cursor of a scan that resumes many times knows all bytes before it, also
// those that other scans have read.
func TestResumeOften(t *testing.T) {
	for form, make := range resumeForms {
		for _, settled := range []bool{true, false} {
			t.Run(fmt.Sprint(form, ", settled ", settled), func(t *testing.T) {
				r := newResumable(t, make)
				var all []int64
				q := sources.Query{}
				var cursors []sources.Cursor
				for range 15 {
					ids, after, err := r.read(q, 1, settled)
					r.must(err)
					all, q.After = append(all, ids...), after
					cursors = append(cursors, after)
				}
				r.must(os.Chmod(filepath.Join(r.dir, r.first()), 0o400)) // so that the bytes are read again
				r.must(os.Chmod(filepath.Join(r.dir, r.first()), 0o600))
				rest, _, err := r.read(q, 0, false)
				r.must(err)
				for i, id := range append(all, rest...) {
					if id != int64(i) {
						t.Fatalf("row %d is %d", i, id)
					}
				}
				r.damage(r.first(), 60)
				for i, after := range cursors {
					if rest, _, err := r.read(sources.Query{After: after}, 1, false); sources.KindOf(err) != sources.Invalid {
						t.Errorf("after page %d: %d rows, %v", i, len(rest), err)
					}
				}
			})
		}
	}
}
