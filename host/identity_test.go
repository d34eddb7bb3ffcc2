package host_test

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/cachedir"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// tenantSource is a source of one row, which an environment variable determines. Its catalog
// has the identity that identify returns for the variable.
func tenantSource(identify func(tenant string) string) sources.Open {
	return func(context.Context, sources.Config) (sources.Source, error) {
		tenant := os.Getenv("TENANT")
		schema := arrow.NewSchema([]arrow.Field{{Name: "tenant", Type: arrow.BinaryTypes.String}}, nil)
		catalog := &sources.Catalog{Tables: []sources.Table{{Name: "people", Schema: schema, Rows: 1}}, Identity: identify(tenant)}
		return sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				b := array.NewRecordBuilder(env.Mem, schema)
				defer b.Release()
				b.Field(0).(*array.StringBuilder).Append(tenant)
				record := b.NewRecordBatch()
				defer record.Release()
				yield(sources.Batch{Record: record}, nil)
			}
		}), nil
	}
}

func init() {
	linked["tenant"] = tenantSource(func(string) string { return "" })
	linked["namedtenant"] = tenantSource(func(tenant string) string { return "tenant " + tenant })
	linked["onetenant"] = tenantSource(func(string) string { return "it depends on the code alone" })
}

// granted lets the processes of these sources see the variable.
var granted = host.SandboxOptions{Environment: map[string][]string{"tenant": {"TENANT"}, "namedtenant": {"TENANT"}}}

// question is what a test asks a host.
type question struct {
	uri       func() string // of the source
	table     string        // people by default
	isolation host.Isolation
	plugins   string // where plugins are
}

func (q *question) host(t *testing.T, c *host.Cache) *host.Host {
	t.Helper()
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: q.isolation, PluginPath: []string{q.plugins}, Cache: c, Sandboxes: granted})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func closeHost(t *testing.T, h *host.Host) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// ask opens the source in a host and returns all of its rows as text, and how the cache was used.
func (q *question) ask(t *testing.T, h *host.Host) (rows, usage string) {
	t.Helper()
	source, err := h.Open(t.Context(), q.uri())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}()
	if strings.HasPrefix(q.uri(), "csv:") && h.Cache() != nil {
		testkit.AwaitVersion(t, source, cmp.Or(q.table, "people"))
	}
	stream, err := source.Stream(t.Context(), core.Query{Table: cmp.Or(q.table, "people")}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		for i := range chunk.Record.NumRows() {
			for c := range chunk.Record.Columns() {
				rows += chunk.Record.Column(c).ValueStr(int(i)) + "|"
			}
			rows += "\n"
		}
	}
	return rows, stream.Receipt().Cache
}

// askFresh asks a host without a cache.
func (q *question) askFresh(t *testing.T) string {
	t.Helper()
	h := q.host(t, nil)
	defer closeHost(t, h)
	rows, _ := q.ask(t, h)
	return rows
}

// changing asks before and after a change, in the memory tier of one host and in a directory that
// hosts share.
type changing struct {
	question
	before   string // the answer before the change
	inMemory *host.Host
	dir      string
}

func newChanging(t *testing.T, q question) *changing {
	c := &changing{question: q, inMemory: q.host(t, &host.Cache{}), dir: t.TempDir()}
	t.Cleanup(func() { closeHost(t, c.inMemory) })
	return c
}

func (c *changing) check(t *testing.T, step, want, usage string) {
	t.Helper()
	if rows, used := c.ask(t, c.inMemory); rows != want || used != usage {
		t.Errorf("%s, in memory: %q (%s), want %q (%s)", step, rows, used, want, usage)
	}
	store, err := cachedir.Open(c.dir, cachedir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := c.host(t, &host.Cache{Store: store})
	defer closeHost(t, h)
	if rows, used := c.ask(t, h); rows != want || used != usage {
		t.Errorf("%s, in another host: %q (%s), want %q (%s)", step, rows, used, want, usage)
	}
}

// start asks twice. The second open must get what is cached, unless the source has no identity.
func (c *changing) start(t *testing.T, identified bool) {
	t.Helper()
	c.before = c.askFresh(t)
	again := cache.Miss
	if identified {
		again = cache.Hit
	}
	c.check(t, "first", c.before, cache.Miss)
	c.check(t, "again", c.before, again)
}

// finish asks after the change, for the new answer. If the change is none, the cached answer must be
// used.
func (c *changing) finish(t *testing.T, changes bool) {
	t.Helper()
	after, usage := c.askFresh(t), cache.Hit
	if (after != c.before) != changes {
		t.Fatalf("the change made %q of %q", after, c.before)
	}
	if changes {
		usage = cache.Miss
	}
	c.check(t, "after the change", after, usage)
}

// checkChange asks before and after a change.
func checkChange(t *testing.T, q question, identified, changes bool, change func()) {
	t.Helper()
	c := newChanging(t, q)
	c.start(t, identified)
	change()
	c.finish(t, changes)
}

// files is a directory of files for a test.
type files struct {
	t   *testing.T
	dir string
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// longAgo is the time of modification of files in tests that restore it.
var longAgo = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

// write writes a file with a time that is long ago.
func (f files) write(name, text string) {
	f.t.Helper()
	f.must(os.MkdirAll(filepath.Dir(f.path(name)), 0o700))
	f.must(os.WriteFile(f.path(name), []byte(text), 0o600))
	f.must(os.Chtimes(f.path(name), longAgo, longAgo))
}

const (
	one     = "id,name\n1,one\n2,NIL\n"
	two     = "id,name\n1,two\n2,NIL\n" // of the same size
	onePack = `{"resources": [{"name": "people", "path": "people.csv", "schema": {"fields": [{"name": "id", "type": "string"}, {"name": "name", "type": "string"}], "missingValues": ["XYZ"]}}]}`
	twoPack = `{"resources": [{"name": "people", "path": "people.csv", "schema": {"fields": [{"name": "id", "type": "string"}, {"name": "name", "type": "string"}], "missingValues": ["NIL"]}}]}`
)

// TestFileChanges lists ways to change what a CSV file answers, most of which keep its size and
// its time, and ways to touch files that change nothing.
func TestFileChanges(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the system tells too little of files to cache their rows for other processes")
	}
	cases := map[string]struct {
		prepare func(f files) (uri func() string) // nil: the directory
		change  func(f files)
		same    bool // the change changes nothing
		// isolation of the source; in-process by default
		isolation host.Isolation
	}{
		"another file":          {change: func(f files) { f.write("people.csv", two+"3,three\n") }},
		"copied over it":        {change: func(f files) { f.write("people.csv", two) }},
		"behind a process wall": {change: func(f files) { f.write("people.csv", two) }, isolation: host.Process},
		"renamed over it": {change: func(f files) {
			f.write("new", two)
			f.must(os.Rename(f.path("new"), f.path("people.csv")))
		}},
		"edited, and touched": {change: func(f files) {
			file, err := os.OpenFile(f.path("people.csv"), os.O_WRONLY, 0)
			f.must(err)
			_, err = file.WriteAt([]byte("two"), 10)
			f.must(err)
			f.must(file.Close())
			f.must(os.Chtimes(f.path("people.csv"), longAgo, longAgo))
		}},
		"hard link": {
			prepare: func(f files) func() string {
				f.write("spare", two)
				return nil
			},
			change: func(f files) {
				f.must(os.Remove(f.path("people.csv")))
				f.must(os.Link(f.path("spare"), f.path("people.csv")))
			},
		},
		"link to another file": {
			prepare: func(f files) func() string {
				f.write("v1", one)
				f.write("v2", two)
				f.must(os.Remove(f.path("people.csv")))
				f.must(os.Symlink("v1", f.path("people.csv")))
				return nil
			},
			change: func(f files) {
				f.must(os.Remove(f.path("people.csv")))
				f.must(os.Symlink("v2", f.path("people.csv")))
			},
		},
		"link to another directory": {
			prepare: func(f files) func() string {
				f.write("a/people.csv", one)
				f.write("b/people.csv", two)
				f.must(os.Symlink("a", f.path("current")))
				return func() string { return "csv:" + f.path("current") }
			},
			change: func(f files) {
				f.must(os.Remove(f.path("current")))
				f.must(os.Symlink("b", f.path("current")))
			},
		},
		"another directory in its place": {
			prepare: func(f files) func() string {
				f.write("a/people.csv", one)
				f.write("b/people.csv", two)
				return func() string { return "csv:" + f.path("a") }
			},
			change: func(f files) {
				f.must(os.Rename(f.path("a"), f.path("c")))
				f.must(os.Rename(f.path("b"), f.path("a")))
			},
		},
		"missingValues": {
			prepare: func(f files) func() string { f.write("datapackage.json", onePack); return nil },
			change:  func(f files) { f.write("datapackage.json", twoPack) },
		},
		"a package where there was none": {change: func(f files) { f.write("datapackage.json", twoPack) }},
		"a schema in a file of its own": {
			prepare: func(f files) func() string {
				f.write("datapackage.json", `{"resources": [{"name": "people", "path": "people.csv", "schema": "schema.json"}]}`)
				f.write("schema.json", `{"fields": [{"name": "id"}, {"name": "name"}], "missingValues": ["XYZ"]}`)
				return nil
			},
			change: func(f files) {
				f.write("schema.json", `{"fields": [{"name": "id"}, {"name": "name"}], "missingValues": ["NIL"]}`)
			},
		},
		"a dialect in a file of its own": {
			prepare: func(f files) func() string {
				f.write("datapackage.json", `{"resources": [{"name": "people", "path": "people.csv", "dialect": "dialect.json"}]}`)
				f.write("dialect.json", `{"header": true}`)
				return nil
			},
			change: func(f files) { f.write("dialect.json", `{"header": false}`) },
		},
		"another file of a pattern": {
			prepare: func(f files) func() string {
				return func() string { return "csv:" + f.path("*.csv") + "?table=people" }
			},
			change: func(f files) { f.write("more.csv", one) },
		},
		"another file beside it":  {change: func(f files) { f.write("other.csv", two) }, same: true},
		"a file that is no table": {change: func(f files) { f.write("README", "hello") }, same: true},
		"the directory is moved and moved back": {
			prepare: func(f files) func() string {
				f.write("a/people.csv", one)
				return func() string { return "csv:" + f.path("a") }
			},
			change: func(f files) {
				f.must(os.Rename(f.path("a"), f.path("b")))
				f.must(os.Rename(f.path("b"), f.path("a")))
			},
			same: true,
		},
	}
	// All files are written, and later changed, at once: each step waits until they are old enough.
	asked, where := map[string]*changing{}, map[string]files{}
	for name, c := range cases {
		f := files{t, t.TempDir()}
		f.write("people.csv", one)
		uri := func() string { return "csv:" + f.dir }
		if c.prepare != nil {
			if other := c.prepare(f); other != nil {
				uri = other
			}
		}
		asked[name], where[name] = newChanging(t, question{uri: uri, isolation: c.isolation}), f
	}
	for name := range cases {
		t.Run(name+", before", func(t *testing.T) { asked[name].start(t, true) })
	}
	for name, c := range cases {
		c.change(where[name])
	}
	for name, c := range cases {
		t.Run(name+", after", func(t *testing.T) { asked[name].finish(t, !c.same) })
	}
}

// TestOptionsAreIdentity: each option of the source is part of its identity.
func TestOptionsAreIdentity(t *testing.T) {
	f := files{t, t.TempDir()}
	f.write("people.csv", one)
	for _, option := range []string{"null=NIL", "header=false", "delimiter=%3B", "filename=file", "skip=1"} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			uri := "csv:" + f.dir
			checkChange(t, question{uri: func() string { return uri }}, true, true, func() { uri += "?" + option })
		})
	}
}

// TestFutureFilesAreNotCached: the clock that dated a file in the future is wrong, so that the file
// may change again and keep its time.
func TestFutureFilesAreNotCached(t *testing.T) {
	f := files{t, t.TempDir()}
	f.write("people.csv", one)
	future := time.Now().Add(time.Hour)
	f.must(os.Chtimes(f.path("people.csv"), future, future))
	q := question{}
	h := q.host(t, &host.Cache{})
	defer closeHost(t, h)
	source, err := h.Open(t.Context(), "csv:"+f.dir)
	f.must(err)
	for range 2 {
		stream, err := source.Stream(t.Context(), core.Query{Table: "people"}, core.Options{})
		f.must(err)
		for _, err := range stream.Chunks() {
			f.must(err)
		}
		if r := stream.Receipt(); r.Cache != cache.Miss {
			t.Errorf("a %s", r.Cache)
		}
	}
	if s := h.Cache().Stats(); s.Entries != 0 {
		t.Errorf("%d entries are cached", s.Entries)
	}
}
