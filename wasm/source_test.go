package wasm_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/wasm"
)

var small = sources.Limits{Rows: 100}

func number(n int) string {
	if n%7 == 0 {
		return fmt.Sprintf("%d|NULL", n)
	}
	return fmt.Sprintf("%d|%q", n, fmt.Sprint("number ", n))
}

func numbers(from, to int) (rows []string) {
	for n := from; n < to; n++ {
		rows = append(rows, number(n))
	}
	return rows
}

func TestCatalog(t *testing.T) {
	s := shared(t)
	c, err := s.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	table := c.Table("numbers")
	if table == nil || table.Rows != 1000 || table.MaxScans != 1 || !table.Capabilities.Has(sources.CapResume) || len(table.Lookups) != 1 {
		t.Errorf("got %+v", table)
	}
	if f := table.Schema.Field(0); f.Name != "n" || f.Nullable || f.Type.ID() != arrow.INT64 {
		t.Errorf("got %s", f)
	}
}

func TestScan(t *testing.T) {
	session := begin(t, shared(t), small)
	for range 2 { // the instance serves one scan after the other
		rows, pages, err := read(t.Context(), session, &sources.Query{Table: "numbers"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(numbers(0, 1000), rows); diff != "" {
			t.Error(diff)
		}
		if pages != 10 {
			t.Errorf("%d pages, want 10", pages)
		}
	}
}

func TestCursorsResume(t *testing.T) {
	session := begin(t, shared(t), small)
	var cursors []sources.Cursor
	for b, err := range session.Scan(t.Context(), &sources.Query{Table: "numbers"}) {
		if err != nil {
			t.Fatal(err)
		}
		cursors = append(cursors, b.Cursor)
	}
	for i, c := range cursors {
		rows, _, err := read(t.Context(), session, &sources.Query{Table: "numbers", After: c})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(numbers(100*(i+1), 1000), rows); diff != "" {
			t.Errorf("after page %d:\n%s", i, diff)
		}
	}
}

func TestKeysCrossTheWall(t *testing.T) {
	session := begin(t, shared(t), small)
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil))
	b.Field(0).(*array.Int64Builder).AppendValues([]int64{5, 999, 1 << 60}, nil)
	rows, _, err := read(t.Context(), session, &sources.Query{Table: "numbers", Keys: &sources.Keys{Columns: []string{"n"}, Values: b.NewRecordBatch()}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{number(5), number(999)}, rows); diff != "" {
		t.Error(diff)
	}
}

// TestPanicOfTheConsumer tests that a panic in the loop passes through a scan, which
// releases its page: the end of the test checks the memory.
func TestPanicOfTheConsumer(t *testing.T) {
	session := begin(t, open(t, options(t, "source"), sources.Config{URI: "here"}), small)
	func() {
		defer func() {
			if p := recover(); p != "of the consumer" {
				t.Errorf("the panic is %v", p)
			}
		}()
		for range session.Scan(t.Context(), &sources.Query{Table: "numbers"}) {
			panic("of the consumer")
		}
	}()
	rows, _, err := read(t.Context(), session, &sources.Query{Table: "numbers"})
	if err != nil || len(rows) != 1000 {
		t.Errorf("after the panic: %d rows, %v", len(rows), err)
	}
}

func TestBreakCostsNoInstance(t *testing.T) {
	var log logs
	o := options(t, "source")
	o.Logger = log.logger()
	session := begin(t, open(t, o, sources.Config{URI: "here"}), small)
	for range 5 {
		for b, err := range session.Scan(t.Context(), &sources.Query{Table: "numbers"}) {
			if err != nil {
				t.Fatal(err)
			}
			if got := texts(b.Record)[0]; got != number(0) {
				t.Errorf("a scan begins with %s", got)
			}
			break
		}
	}
	rows, _, err := read(t.Context(), session, &sources.Query{Table: "numbers"})
	if err != nil || len(rows) != 1000 {
		t.Errorf("after five breaks: %d rows, %v", len(rows), err)
	}
	if n := log.count("opening here"); n != 1 {
		t.Errorf("%d instances were started, want 1", n)
	}
}

func TestPlanWithinAScan(t *testing.T) {
	session := begin(t, shared(t), small)
	for _, err := range session.Scan(t.Context(), &sources.Query{Table: "numbers"}) {
		if err != nil {
			t.Fatal(err)
		}
		plan, err := session.Plan(t.Context(), &sources.Query{Table: "numbers"})
		if err != nil || plan.Rows != 1000 {
			t.Fatalf("%v, %v", plan, err)
		}
		if _, _, err := read(t.Context(), session, &sources.Query{Table: "numbers"}); sources.KindOf(err) != sources.Invalid {
			t.Errorf("a second scan: %v", err)
		}
		break
	}
}

func TestSessionsSideBySide(t *testing.T) {
	s := shared(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			session, err := s.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, Page: small})
			if err != nil {
				t.Error(err)
				return
			}
			if rows, _, err := read(t.Context(), session, &sources.Query{Table: "numbers"}); err != nil || len(rows) != 1000 {
				t.Errorf("%d rows, %v", len(rows), err)
			}
			if err := session.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestErrorsOfTheSource(t *testing.T) {
	session := begin(t, open(t, options(t, "source"), sources.Config{URI: "fail"}), small)
	rows, _, err := read(t.Context(), session, &sources.Query{Table: "numbers"})
	if len(rows) != 500 || sources.KindOf(err) != sources.NotFound || err.Error() != "scan numbers: not found: row 500 has gone" {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	for table, kind := range map[string]sources.Kind{"nothing": sources.NotFound} {
		if _, _, err := read(t.Context(), session, &sources.Query{Table: table}); sources.KindOf(err) != kind {
			t.Errorf("table %q: %v", table, err)
		}
		if _, err := session.Plan(t.Context(), &sources.Query{Table: table}); sources.KindOf(err) != kind {
			t.Errorf("plan of %q: %v", table, err)
		}
	}
	if _, _, err := read(t.Context(), session, &sources.Query{Table: "numbers", Limit: 1}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a limit that the table does not take: %v", err)
	}
	if _, err := wasm.Open(t.Context(), options(t, "source"), sources.Config{Options: map[string]string{"rows": "many"}}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a bad option: %v", err)
	}
}

func TestPanicOfTheSourceIsItsError(t *testing.T) {
	session := begin(t, open(t, options(t, "source"), sources.Config{URI: "trap"}), small)
	_, _, err := read(t.Context(), session, &sources.Query{Table: "numbers"})
	if sources.KindOf(err) != sources.Internal || !strings.Contains(err.Error(), "nil pointer") {
		t.Error(err)
	}
}

func TestCrashIsUnavailable(t *testing.T) {
	s := open(t, options(t, "source"), sources.Config{URI: "crash"})
	session := begin(t, s, small)
	rows, _, err := read(t.Context(), session, &sources.Query{Table: "numbers"})
	if sources.KindOf(err) != sources.Unavailable || !strings.Contains(err.Error(), "exited with code 7") {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if diff := cmp.Diff(numbers(0, len(rows)), rows); diff != "" {
		t.Error(diff)
	}
	if _, err := session.Plan(t.Context(), &sources.Query{Table: "numbers"}); sources.KindOf(err) != sources.Unavailable {
		t.Errorf("the session afterwards: %v", err)
	}
	// Another session gets another instance.
	again := begin(t, s, small)
	if _, err := again.Plan(t.Context(), &sources.Query{Table: "numbers"}); err != nil {
		t.Error(err)
	}
}

func TestMemoryCapIsExhausted(t *testing.T) {
	o := options(t, "source")
	o.Memory = 48 << 20
	session := begin(t, open(t, o, sources.Config{URI: "hog"}), small)
	_, _, err := read(t.Context(), session, &sources.Query{Table: "numbers"})
	if sources.KindOf(err) != sources.Exhausted || !strings.Contains(err.Error(), "of its 48 MiB") {
		t.Error(err)
	}
}

func TestMemoryBelowTheMinimum(t *testing.T) {
	o := options(t, "source")
	o.Memory = 1 << 20
	_, err := wasm.Open(t.Context(), o, sources.Config{})
	if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "limit is 1 MiB") {
		t.Error(err)
	}
}

// TestOrdinalsOfAModule tests that a look-up with ordinals passes the wall, with the
// type of the keys and where they come from.
func TestOrdinalsOfAModule(t *testing.T) {
	session := begin(t, shared(t), sources.Limits{})
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "name", Type: arrow.BinaryTypes.LargeString, Nullable: true}}, nil))
	defer b.Release()
	b.Field(0).(*array.LargeStringBuilder).AppendValues([]string{"anna", "", "mark", "nobody", "ANNA"}, []bool{true, false, true, true, true})
	values := b.NewRecordBatch()
	defer values.Release()
	q := &sources.Query{Table: "names", Keys: &sources.Keys{
		Columns: []string{"name"}, Values: values, From: &sources.KeyOrigin{Table: "numbers", Columns: []string{"text"}},
	}}
	rows, _, err := read(t.Context(), session, q)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`"Anna"|0`, `"Mark"|2`, `"MARK"|2`, `"Anna"|4`}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusalOfMemoryLeavesNothing(t *testing.T) {
	for guest, table := range map[string]string{"source": "numbers", "rows": "people"} {
		refused(t, open(t, options(t, guest), sources.Config{}), table)
	}
}

func refused(t *testing.T, s sources.Source, table string) {
	t.Helper()
	session, err := s.Begin(t.Context(), sources.Env{Mem: refusing{memory.DefaultAllocator}, Page: small})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the instance stays usable
		if _, _, err := read(t.Context(), session, &sources.Query{Table: table}); !errors.Is(err, errRefused) {
			t.Fatal(err)
		}
	}
	if _, err := session.Plan(t.Context(), &sources.Query{Table: table}); err != nil {
		t.Error(err)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
}

var errRefused = errors.New("not a byte")

type refusing struct{ memory.Allocator }

func (refusing) Allocate(int) []byte {
	panic(sources.NewError(sources.Exhausted, "", "", errRefused))
}

func TestGrants(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "hello"), "hello")
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "a secret")
	if err := os.Symlink(secret, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("hello", filepath.Join(dir, "inside")); err != nil {
		t.Fatal(err)
	}
	o := options(t, "probe")
	o.Dirs = []wasm.Dir{{Host: dir, Guest: "/data"}}
	for uri, want := range map[string]struct {
		kind sources.Kind
		text string
	}{
		"read:/data/hello":                   {sources.Internal, "it says hello"},
		"read:/data/inside":                  {sources.Internal, "it says hello"},
		"read:/data/none":                    {sources.NotFound, "none"},
		"list:/data":                         {sources.Internal, "4 entries"},
		"list:/":                             {sources.Internal, "0 entries"},
		"read:/data/link":                    {sources.Denied, "not permitted"},
		"read:/data/../../../../etc/passwd":  {sources.Denied, ""},
		"read:/data/sub/../../../etc/passwd": {sources.Denied, ""},
		"read:/etc/passwd":                   {sources.Denied, "/etc/passwd"},
		"read:" + secret:                     {sources.Denied, ""},
		"write:/data/new":                    {sources.NotFound, ""},
		"write:/data/hello":                  {sources.Internal, ""},
		"write:/new":                         {sources.Denied, ""},
	} {
		_, err := wasm.Open(t.Context(), o, sources.Config{URI: uri})
		if err == nil || sources.KindOf(err) != want.kind || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v, want %s %q", uri, err, want.kind, want.text)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "hello")); err != nil || string(b) != "hello" {
		t.Errorf("the file is now %q, %v", b, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func TestNothingElseIsGranted(t *testing.T) {
	t.Setenv("PENSTOCK_TEST_SECRET", "1")
	seen := make(map[string]bool)
	for range 2 {
		_, err := wasm.Open(t.Context(), options(t, "probe"), sources.Config{URI: "look"})
		m := regexp.MustCompile(`random ([0-9a-f]{32}) year (\d+) args \["probe.wasm"\] environment \[\]`).FindStringSubmatch(fmt.Sprint(err))
		if m == nil {
			t.Fatal(err)
		}
		if m[2] != "2022" {
			t.Errorf("without a clock it is the year %s", m[2])
		}
		seen[m[1]] = true
	}
	if len(seen) != 2 {
		t.Error("the randomness is not random")
	}
	o := options(t, "probe")
	o.Clock = true
	if _, err := wasm.Open(t.Context(), o, sources.Config{URI: "look"}); !strings.Contains(fmt.Sprint(err), fmt.Sprint("year ", time.Now().Year())) {
		t.Error(err)
	}
}

// TestTimePasses checks that a guest without a clock sees elapsed time, by which its
// garbage collector paces its work: real time in whole milliseconds, however often
// it is read.
func TestTimePasses(t *testing.T) {
	o := options(t, "probe")
	begun := time.Now()
	_, err := wasm.Open(t.Context(), o, sources.Config{URI: "time"})
	real := time.Since(begun)
	m := regexp.MustCompile(`passed: (\S+)`).FindStringSubmatch(fmt.Sprint(err))
	if m == nil {
		t.Fatal(err)
	}
	seen, err := time.ParseDuration(m[1])
	if err != nil || seen > real || seen%time.Millisecond != 0 {
		t.Errorf("the guest saw %s pass of %s, %v", m[1], real, err)
	}
}

func TestModulesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "text.wasm"), "hello, this is no module")
	header := "\x00asm\x01\x00\x00\x00"
	for name, c := range map[string]struct {
		options wasm.Options
		kind    sources.Kind
		text    string
	}{
		"no module":   {wasm.Options{}, sources.Invalid, "set Path or Module"},
		"no file":     {wasm.Options{Path: filepath.Join(dir, "none.wasm")}, sources.NotFound, "none.wasm"},
		"text":        {wasm.Options{Path: filepath.Join(dir, "text.wasm")}, sources.Invalid, "text.wasm is not a WebAssembly module"},
		"no command":  {wasm.Options{Module: []byte(header)}, sources.Invalid, "no _start"},
		"imports":     {wasm.Options{Module: []byte(header + "\x01\x04\x01\x60\x00\x00" + "\x02\x09\x01\x03env\x01f\x00\x00")}, sources.Denied, `imports the function f of "env"`},
		"no such dir": {wasm.Options{Path: file(t, "rows"), Dirs: []wasm.Dir{{Host: filepath.Join(dir, "none"), Guest: "/data"}}}, sources.NotFound, "none"},
		"file as dir": {wasm.Options{Path: file(t, "rows"), Dirs: []wasm.Dir{{Host: filepath.Join(dir, "text.wasm"), Guest: "/data"}}}, sources.Invalid, "not a directory"},
		"all at once": {wasm.Options{Memory: 1, StallTimeout: -1, Dirs: []wasm.Dir{{Guest: "data"}}}, sources.Invalid, "StallTimeout must not be negative (got -1ns)"},
	} {
		_, err := wasm.Open(t.Context(), c.options, sources.Config{})
		if sources.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: %v, want %s %q", name, err, c.kind, c.text)
		}
	}
}

func TestModulesThatEndAtOnce(t *testing.T) {
	for uri, text := range map[string]string{"exit": "exited with code 3: I would rather not", "panic": "no source today"} {
		_, err := wasm.Open(t.Context(), options(t, "source"), sources.Config{URI: uri})
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func TestCloseIsIdempotentAndFinal(t *testing.T) {
	s, err := wasm.Open(t.Context(), options(t, "rows"), sources.Config{})
	if err != nil {
		t.Fatal(err)
	}
	session, err := s.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Begin(t.Context(), sources.Env{}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("begin after close: %v", err)
	}
	if _, err := session.Plan(t.Context(), &sources.Query{Table: "people"}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("plan after close: %v", err)
	}
}

func write(t testing.TB, name, contents string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(contents), 0o644); err != nil {
		t.Fatal(err)
	}
}

// logs records the messages of a logger.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}
