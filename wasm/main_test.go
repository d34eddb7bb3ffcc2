package wasm_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/wasm"
)

// testDir contains the modules of testdata and the cache of their compiled forms
// until the tests end.
var testDir string

func TestMain(m *testing.M) {
	flag.Parse()
	if dir := os.Getenv(precompileDir); dir != "" {
		for _, path := range flag.Args() {
			for _, interruptible := range []bool{false, true} {
				if interruptible && !strings.HasSuffix(path, "replay.wasm") {
					continue
				}
				if err := wasm.Precompile(context.Background(), wasm.Options{Path: path, CacheDir: dir, Interruptible: interruptible}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "wasm-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	testDir = dir
	code := m.Run()
	if common != nil {
		if err := common.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// guests builds the modules when the first test needs one.
var guests = sync.OnceValue(func() error {
	var modules []string
	for _, guest := range []string{"source", "rows", "replay", "probe"} {
		if err := build("./testdata/"+guest, filepath.Join(testDir, guest+".wasm")); err != nil {
			return err
		}
		modules = append(modules, filepath.Join(testDir, guest+".wasm"))
	}
	return precompile(modules)
})

const precompileDir = "PENSTOCK_TEST_PRECOMPILE"

// precompile fills the cache with a build of these tests without the race detector,
// which would make the compiler ten times slower.
func precompile(modules []string) error {
	exe := filepath.Join(testDir, "precompile")
	if b, err := exec.Command("go", "test", "-c", "-race=false", "-o", exe, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("building the precompiler: %w\n%s", err, b)
	}
	cmd := exec.Command(exe, modules...)
	cmd.Env = append(os.Environ(), precompileDir+"="+cache())
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("precompiling: %w\n%s", err, b)
	}
	return nil
}

func build(pkg, out string) error {
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, b)
	}
	return nil
}

// file returns the path of a guest's module.
func file(t testing.TB, guest string) string {
	t.Helper()
	if err := guests(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(testDir, guest+".wasm")
}

func cache() string { return filepath.Join(testDir, "cache") }

// options returns the options that every test uses for a guest.
func options(t testing.TB, guest string) wasm.Options {
	t.Helper()
	return wasm.Options{Path: file(t, guest), CacheDir: cache()}
}

// open opens a guest, fails the test if it does not open, and closes it when the
// test ends.
func open(t testing.TB, o wasm.Options, c sources.Config) sources.Source {
	t.Helper()
	s, err := wasm.Open(t.Context(), o, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// common is the source that shared returns. Loading its module takes a second with
// the race detector.
var common sources.Source

// shared returns a source for tests that only read from it. It is closed after the
// last test.
func shared(t testing.TB) sources.Source {
	t.Helper()
	if common == nil {
		s, err := wasm.Open(context.Background(), options(t, "source"), sources.Config{})
		if err != nil {
			t.Fatal(err)
		}
		common = s
	}
	return common
}

// begin begins a session and checks when the test ends that its memory is released.
func begin(t testing.TB, s sources.Source, page sources.Limits) sources.Session {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	session, err := s.Begin(t.Context(), sources.Env{Mem: mem, Page: page})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
		mem.AssertSize(t, 0)
	})
	return session
}

// read reads a scan and returns the text of its rows, the number of its pages, and
// its error.
func read(ctx context.Context, session sources.Session, q *sources.Query) (rows []string, pages int, err error) {
	for b, e := range session.Scan(ctx, q) {
		if e != nil {
			return rows, pages, e
		}
		pages++
		rows = append(rows, texts(b.Record)...)
	}
	return rows, pages, nil
}

func texts(r arrow.RecordBatch) []string {
	out := make([]string, r.NumRows())
	for i := range out {
		for c, column := range r.Columns() {
			if c > 0 {
				out[i] += "|"
			}
			out[i] += sources.ValueAt(column, i).String()
		}
	}
	return out
}
