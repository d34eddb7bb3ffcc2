package cachedir_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/cachedir"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// scans counts the scans of the csv source that open opens.
type scans struct{ n atomic.Int64 }

func (s *scans) open(ctx context.Context, c sources.Config) (sources.Source, error) {
	source, err := csv.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return testkit.Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			s.n.Add(1)
			scan(yield)
		}
	}), nil
}

// people writes a directory with a table of a number of rows.
func people(t *testing.T, rows int) string {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("id,name,joined\n")
	for i := range rows {
		fmt.Fprintf(&b, "%d,name %d,2026-01-%02d\n", i, i*7, i%28+1)
	}
	if err := os.WriteFile(filepath.Join(dir, "people.csv"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// settings is a directory for answers and the options of its host.
type settings struct {
	dir   string
	bytes int64
	ttl   time.Duration
}

// open opens the directory for a host, which closes it.
func (c settings) open(t *testing.T, logger *slog.Logger) *host.Cache {
	t.Helper()
	store, err := cachedir.Open(c.dir, cachedir.Options{Bytes: c.bytes, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	return &host.Cache{Store: store, TTL: c.ttl}
}

// readPeople reads the table in a host of its own, as another process would.
func readPeople(t *testing.T, s *scans, dir string, cache settings, log *bytes.Buffer) core.Receipt {
	t.Helper()
	var logger *slog.Logger
	if log != nil {
		logger = slog.New(slog.NewTextHandler(log, nil))
	}
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"csv": s.open}, Cache: cache.open(t, logger), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil || h.Budget().Held() != 0 {
			t.Errorf("close: %v, %d bytes are held", err, h.Budget().Held())
		}
	}()
	source, err := h.Open(t.Context(), "csv:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	testkit.AwaitVersion(t, source, "people")
	stream, err := source.Stream(t.Context(), core.Query{Table: "people"}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
	}
	return stream.Receipt()
}

// TestCacheOutlivesTheHost: another host with the same directory asks the source
// for nothing, unless the file has changed.
func TestCacheOutlivesTheHost(t *testing.T) {
	t.Parallel()
	s, dir, answers := &scans{}, people(t, 30_000), settings{dir: t.TempDir()}
	first := readPeople(t, s, dir, answers, nil)
	again := readPeople(t, s, dir, answers, nil)
	if first.Cache != cache.Miss || again.Cache != cache.Hit || again.Digest != first.Digest || s.n.Load() != 1 {
		t.Fatalf("%d scans:\n%+v\n%+v", s.n.Load(), first, again)
	}
	earlier := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "people.csv"), earlier, earlier); err != nil {
		t.Fatal(err)
	}
	if r := readPeople(t, s, dir, answers, nil); r.Cache != cache.Miss || s.n.Load() != 2 {
		t.Errorf("%d scans, %+v", s.n.Load(), r)
	}
	answers.ttl = time.Nanosecond
	if r := readPeople(t, s, people(t, 5), answers, nil); r.Cache != cache.Miss {
		t.Errorf("%+v", r)
	}
}

// answers are the files of a cache's directory.
func answers(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.penstock"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestDamagedFilesAreNoAnswers: whichever byte of a file is changed, and however
// much of it is missing, the rows come from the source, and the log has a warning.
func TestDamagedFilesAreNoAnswers(t *testing.T) {
	t.Parallel()
	s, dir, remembered := &scans{}, people(t, 40), settings{dir: t.TempDir()}
	first := readPeople(t, s, dir, remembered, nil)
	files := answers(t, remembered.dir)
	if len(files) != 1 {
		t.Fatalf("files: %q", files)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	d, err := cachedir.Open(remembered.dir, cachedir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Stats(); got.Answers != 1 || got.Tables["people"] != 1 || got.Damaged != 0 || got.Bytes != int64(len(good)) {
		t.Errorf("%+v", got)
	}
	try := func(what string, bad []byte) {
		t.Helper()
		if err := os.WriteFile(files[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := d.Stats(); got.Damaged != 1 {
			t.Errorf("%s: %+v", what, got)
		}
		before := s.n.Load()
		var log bytes.Buffer
		if r := readPeople(t, s, dir, remembered, &log); r.Digest != first.Digest || r.Cache != cache.Miss || s.n.Load() != before+1 {
			t.Errorf("%s: %+v", what, r)
		}
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "removed a damaged file") {
			t.Errorf("%s: the log is %q", what, log.String())
		}
	}
	step := max(len(good)/60, 1) // a byte of each part of the file
	for i := 0; i < len(good); i += step {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		try(fmt.Sprint("byte ", i), bad)
	}
	for _, n := range []int{0, 1, 20, 60, len(good) - 1} {
		try(fmt.Sprint("the first ", n), good[:n])
	}
	try("one byte more", append(bytes.Clone(good), 0))
}

// TestForeignFiles: an answer under the name of another is not used, and files with
// other names are left alone.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	s, dir, other, remembered := &scans{}, people(t, 40), people(t, 50), settings{dir: t.TempDir()}
	first := readPeople(t, s, dir, remembered, nil)
	mine := answers(t, remembered.dir)[0]
	readPeople(t, s, other, remembered, nil)
	for _, file := range answers(t, remembered.dir) {
		if file != mine {
			if err := os.Rename(file, mine); err != nil {
				t.Fatal(err)
			}
		}
	}
	letter := filepath.Join(remembered.dir, "letter.penstock")
	if err := os.WriteFile(letter, []byte("dear cache"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if r := readPeople(t, s, dir, remembered, &log); r.Digest != first.Digest || r.Cache != cache.Miss || !strings.Contains(log.String(), "another question") {
		t.Errorf("%+v, %s", r, log.String())
	}
	d, err := cachedir.Open(remembered.dir, cachedir.Options{Bytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Stats(); got.Answers != 0 {
		t.Errorf("in one byte are %+v", got)
	}
	if _, err := os.Stat(letter); err != nil {
		t.Error(err)
	}
}

// TestCacheDirIsBounded: the least recently used answers are removed, also if an
// earlier host used them last.
func TestCacheDirIsBounded(t *testing.T) {
	t.Parallel()
	s, remembered := &scans{}, settings{dir: t.TempDir()}
	dirs := []string{people(t, 1000), people(t, 1000), people(t, 1000), people(t, 1000)}
	for i := range dirs {
		readPeople(t, s, dirs[i], remembered, nil)
		old := time.Now().Add(time.Duration(i-10) * time.Minute)
		for _, file := range answers(t, remembered.dir) {
			if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) < time.Minute {
				if err := os.Chtimes(file, old, old); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if r := readPeople(t, s, dirs[0], remembered, nil); r.Cache != cache.Hit {
		t.Fatalf("%+v", r)
	}
	info, err := os.Stat(answers(t, remembered.dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	remembered.bytes = info.Size()*2 + info.Size()/2
	for i, want := range []string{cache.Hit, cache.Miss} { // the first was asked for, the second not
		if r := readPeople(t, s, dirs[i], remembered, nil); r.Cache != want {
			t.Errorf("directory %d: %s", i, r.Cache)
		}
	}
	if n := len(answers(t, remembered.dir)); n != 2 {
		t.Errorf("%d files", n)
	}
}

// TestHostsShareACacheDir: several hosts at once read, write, clear and make room.
func TestHostsShareACacheDir(t *testing.T) {
	t.Parallel()
	s, cache := &scans{}, settings{dir: t.TempDir(), bytes: 40_000}
	dirs := []string{people(t, 1000), people(t, 1001), people(t, 1002)}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 12 {
				dir := (i + j) % 3
				if r := readPeople(t, s, dirs[dir], cache, nil); r.Rows != int64(1000+dir) || !r.Complete {
					t.Errorf("%+v", r)
				}
				if j == 6 {
					d, err := cachedir.Open(cache.dir, cachedir.Options{})
					if err != nil {
						t.Error(err)
						return
					}
					d.Invalidate(query.Fingerprint{}, "")
				}
			}
		})
	}
	all.Wait()
	if left, err := filepath.Glob(filepath.Join(cache.dir, ".writing-*")); err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}

// TestHostInvalidates: answers are dropped from memory and from the directory, by
// source and table.
func TestHostInvalidates(t *testing.T) {
	t.Parallel()
	s, answers := &scans{}, settings{dir: t.TempDir()}
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"csv": s.open}, Cache: answers.open(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	read := func(source *host.Source) string {
		stream, err := source.Stream(t.Context(), core.Query{Table: "people"}, core.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
		}
		return stream.Receipt().Cache
	}
	var open [2]*host.Source
	for i := range open {
		if open[i], err = h.Open(t.Context(), "csv:"+people(t, 10)); err != nil {
			t.Fatal(err)
		}
		testkit.AwaitVersion(t, open[i], "people")
		read(open[i])
	}
	if open[0].Identity() == open[1].Identity() {
		t.Error("two directories have one identity")
	}
	h.Cache().Invalidate(open[0].Identity(), "people")
	if a, b := read(open[0]), read(open[1]); a != cache.Miss || b != cache.Hit {
		t.Errorf("%s and %s", a, b)
	}
	h.Cache().Clear()
	if a, b := read(open[0]), read(open[1]); a != cache.Miss || b != cache.Miss {
		t.Errorf("%s and %s", a, b)
	}
}

// TestClockThatIsSetBack: an answer that was asked for in the future has no known age.
func TestClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	d, err := cachedir.Open(t.TempDir(), cachedir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(1)
	record := b.NewRecordBatch()
	defer record.Release()
	for name, c := range map[string]struct {
		asked time.Duration // from now
		found bool
	}{"past": {-time.Minute, true}, "future": {time.Hour, false}} {
		key := query.Key{Digest: query.Identify(name), Source: query.Identify("source"), Table: name}
		at := time.Now().Add(c.asked)
		d.Save(&cache.Entry{Key: key, At: at, Expires: at.Add(2 * time.Hour), Schema: schema, Pages: []sources.Batch{{Record: record}}})
		if s := d.Stats(); (s.Tables[name] == 1) != c.found || (s.Expired == 1) == c.found {
			t.Errorf("%s: %+v", name, s)
		}
		if e := d.Load(key, schema, func(sources.Batch) bool { return true }); (e != nil) != c.found {
			t.Errorf("%s: %+v", name, e)
		}
		if s := d.Stats(); s.Expired != 0 {
			t.Errorf("%s: %+v", name, s)
		}
		d.Invalidate(query.Fingerprint{}, "")
	}
}
