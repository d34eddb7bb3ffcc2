package host_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// scans is how often the csv source that countedCSV opens was scanned.
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

// people writes a directory with a table of so many rows.
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

// readPeople reads the table in a host of its own, as another process would.
func readPeople(t *testing.T, s *scans, dir string, cache host.Cache, log *bytes.Buffer) core.Receipt {
	t.Helper()
	o := host.Options{Sources: map[string]sources.Open{"csv": s.open}, Cache: &cache}
	if log != nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	h, err := host.New(o)
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
	s, dir, answers := &scans{}, people(t, 30_000), host.Cache{Dir: t.TempDir()}
	first := readPeople(t, s, dir, answers, nil)
	again := readPeople(t, s, dir, answers, nil)
	if first.Cache != cache.Miss || again.Cache != cache.Hit || again.Checksum != first.Checksum || s.n.Load() != 1 {
		t.Fatalf("%d scans:\n%+v\n%+v", s.n.Load(), first, again)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "people.csv"), later, later); err != nil {
		t.Fatal(err)
	}
	if r := readPeople(t, s, dir, answers, nil); r.Cache != cache.Miss || s.n.Load() != 2 {
		t.Errorf("%d scans, %+v", s.n.Load(), r)
	}
	answers.TTL = time.Nanosecond
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

// TestDamagedFilesAreNoAnswers: whichever byte of a file is another, and however
// much of it is missing, the rows are the source's; and somebody is told.
func TestDamagedFilesAreNoAnswers(t *testing.T) {
	s, dir, remembered := &scans{}, people(t, 40), host.Cache{Dir: t.TempDir()}
	first := readPeople(t, s, dir, remembered, nil)
	files := answers(t, remembered.Dir)
	if len(files) != 1 {
		t.Fatalf("files: %q", files)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	d, err := host.OpenCacheDir(remembered.Dir, 0, nil)
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
		if r := readPeople(t, s, dir, remembered, &log); r.Checksum != first.Checksum || r.Cache != cache.Miss || s.n.Load() != before+1 {
			t.Errorf("%s: %+v", what, r)
		}
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "damaged, and was removed") {
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

// TestForeignFiles: an answer under another's name is none, and files with other
// names are nobody's business.
func TestForeignFiles(t *testing.T) {
	s, dir, other, remembered := &scans{}, people(t, 40), people(t, 50), host.Cache{Dir: t.TempDir()}
	first := readPeople(t, s, dir, remembered, nil)
	mine := answers(t, remembered.Dir)[0]
	readPeople(t, s, other, remembered, nil)
	for _, file := range answers(t, remembered.Dir) {
		if file != mine {
			if err := os.Rename(file, mine); err != nil {
				t.Fatal(err)
			}
		}
	}
	letter := filepath.Join(remembered.Dir, "letter.penstock")
	if err := os.WriteFile(letter, []byte("dear cache"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if r := readPeople(t, s, dir, remembered, &log); r.Checksum != first.Checksum || r.Cache != cache.Miss || !strings.Contains(log.String(), "another question") {
		t.Errorf("%+v, %s", r, log.String())
	}
	d, err := host.OpenCacheDir(remembered.Dir, 1, nil)
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

// TestCacheDirIsBounded: what was not asked for the longest goes, also where it
// was a host before that asked.
func TestCacheDirIsBounded(t *testing.T) {
	s, remembered := &scans{}, host.Cache{Dir: t.TempDir()}
	var dirs []string
	for i := range 4 {
		dirs = append(dirs, people(t, 1000))
		readPeople(t, s, dirs[i], remembered, nil)
		old := time.Now().Add(time.Duration(i-10) * time.Minute)
		for _, file := range answers(t, remembered.Dir) {
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
	info, err := os.Stat(answers(t, remembered.Dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	remembered.DirBytes = info.Size()*2 + info.Size()/2
	for i, want := range []string{cache.Hit, cache.Miss} { // the first was asked for, the second not
		if r := readPeople(t, s, dirs[i], remembered, nil); r.Cache != want {
			t.Errorf("directory %d: %s", i, r.Cache)
		}
	}
	if n := len(answers(t, remembered.Dir)); n != 2 {
		t.Errorf("%d files", n)
	}
}

// TestHostsShareACacheDir: several at once, which read, write, clear and make
// room.
func TestHostsShareACacheDir(t *testing.T) {
	s, cache := &scans{}, host.Cache{Dir: t.TempDir(), DirBytes: 40_000}
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
					d, err := host.OpenCacheDir(cache.Dir, 0, nil)
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
	if left, err := filepath.Glob(filepath.Join(cache.Dir, ".writing-*")); err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}

// TestHostInvalidates: memory and directory, by source and table.
func TestHostInvalidates(t *testing.T) {
	s, answers := &scans{}, host.Cache{Dir: t.TempDir()}
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"csv": s.open}, Cache: &answers})
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

// TestPostgresVersions: a write to the database is seen by the next question, and
// without one nothing is scanned.
func TestPostgresVersions(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE people (id int PRIMARY KEY); CREATE TABLE changes (n int); INSERT INTO changes VALUES (1)`)
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"postgres": postgres.Open}, Cache: &host.Cache{}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	separator := "?"
	if strings.Contains(uri, "?") {
		separator = "&"
	}
	source, err := h.Open(t.Context(), uri+separator+"version="+url.QueryEscape("SELECT n FROM changes"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{cache.Miss, cache.Hit, cache.Miss, cache.Hit} {
		if i == 2 {
			if err := pgtest.Run(t.Context(), uri, "INSERT INTO people VALUES (1); UPDATE changes SET n = 2"); err != nil {
				t.Fatal(err)
			}
		}
		stream, err := source.Stream(t.Context(), core.Query{Table: "people"}, core.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
		}
		if r := stream.Receipt(); r.Cache != want || r.Rows != int64(i/2) {
			t.Errorf("question %d: %s of %d rows, want a %s", i, r.Cache, r.Rows, want)
		}
	}
}
