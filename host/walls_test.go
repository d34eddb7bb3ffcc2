package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
	"github.com/penstock-data/penstock/wasm"
)

var linked = map[string]sources.Open{"csv": csv.Open, "postgres": postgres.Open, "slow": openSlow, "extended": openExtended}

var walls = []wall.Wall{process.Wall(), wasm.Wall()}

func TestMain(m *testing.M) {
	process.Main(linked, walls...)
	os.Exit(m.Run())
}

// behind returns a host that runs sources with an isolation and searches dir for
// plugins.
func behind(t *testing.T, isolation host.Isolation, dir string) *host.Host {
	t.Helper()
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: isolation, PluginPath: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if held := h.Budget().Held(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
	return h
}

// build compiles a plugin, for the system that the environment names.
func build(t *testing.T, pkg, to string, env ...string) {
	t.Helper()
	c := exec.Command("go", "build", "-o", to, pkg)
	c.Env = append(append(c.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// shop writes a shop as CSV files.
func shop(t *testing.T, orders int) string {
	t.Helper()
	dir := t.TempDir()
	if err := (testkit.Shop{Seed: 3, Orders: orders}).WriteCSV(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// receipts reads every table and returns the receipts, without the fields that
// depend on time and memory.
func receipts(t *testing.T, source *host.Source) map[string]core.Receipt {
	t.Helper()
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]core.Receipt{}
	for _, table := range catalog.Tables {
		stream, err := source.Stream(t.Context(), core.Query{Table: table.Name}, core.Options{Memory: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
		}
		all[table.Name] = lasting(t, stream.Receipt())
	}
	return all
}

// lasting returns a receipt without the fields that depend on time and memory.
func lasting(t *testing.T, r core.Receipt) core.Receipt {
	t.Helper()
	if !r.Complete {
		t.Errorf("the receipt is %+v", r)
	}
	r.PeakBytes, r.SandboxPeakBytes, r.SandboxLimitBytes, r.Elapsed = 0, 0, 0, 0
	return r
}

// TestWalls checks that a source behaves the same behind each wall.
func TestWalls(t *testing.T) {
	dir, plugins := shop(t, 200), t.TempDir()
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "bad.csv"), []byte("a,b\n1,x\n2\n3,y\n4,\"z\"z\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var first map[string]core.Receipt
	uris := []string{"csv:" + dir, "csv:" + bad + "?on_error=skip"} // skipped records are reported through every wall
	compare := func(t *testing.T, got map[string]core.Receipt) {
		t.Helper()
		if r := got["bad"]; r.Rows != 2 || r.Skipped != 2 || len(r.SkippedFirst) != 2 {
			t.Errorf("the receipt is %+v", r)
		}
		if first == nil {
			first = got
		}
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("the receipts differ (-want +got):\n%s", diff)
		}
	}
	for _, isolation := range []host.Isolation{host.InProcess, host.Process} {
		t.Run(string(isolation), func(t *testing.T) {
			h := behind(t, isolation, plugins)
			source, err := h.Open(t.Context(), uris[0])
			if err != nil {
				t.Fatal(err)
			}
			got := receipts(t, source)
			skipping, err := h.Open(t.Context(), uris[1])
			if err != nil {
				t.Fatal(err)
			}
			got["bad"] = receipts(t, skipping)["bad"]
			compare(t, got)
			if isolation == host.InProcess {
				return // plugins/csv runs the suite itself
			}
			if err := testkit.TestSource(t.Context(), source); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run(string(host.Module), func(t *testing.T) {
		program := filepath.Join(t.TempDir(), "walls")
		build(t, "./testdata/walls", program)
		build(t, "../plugins/csv/plugin", filepath.Join(plugins, "csv.wasm"), "GOOS=wasip1", "GOARCH=wasm")
		c := exec.Command(program, uris...)
		c.Env = append(c.Environ(), "PENSTOCK_PLUGIN_PATH="+plugins)
		var said bytes.Buffer
		c.Stderr = &said
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, said.String())
		}
		var got map[string]core.Receipt
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		for name, r := range got {
			got[name] = lasting(t, r)
		}
		compare(t, got)
	})
}

// TestPostgresWalls checks that a database yields the same rows in-process and in a
// process of its own.
func TestPostgresWalls(t *testing.T) {
	var script bytes.Buffer
	if err := (testkit.Shop{Seed: 3, Orders: 60}).WriteSQL(t.Context(), &script); err != nil {
		t.Fatal(err)
	}
	uri := pgtest.Start(t).Database(t, script.String())
	var first map[string]core.Receipt
	for _, isolation := range []host.Isolation{host.InProcess, host.Process} {
		t.Run(string(isolation), func(t *testing.T) {
			source, err := behind(t, isolation, "").Open(t.Context(), uri)
			if err != nil {
				t.Fatal(err)
			}
			got := receipts(t, source)
			if first == nil {
				first = got
			}
			if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("the receipts differ (-want +got):\n%s", diff)
			}
			if isolation == host.Process {
				joined(t, source)
			}
			if err := testkit.TestSource(t.Context(), source); err != nil {
				t.Error(err)
			}
		})
	}
}

// joined checks that a session can join the snapshot of another session in another
// process.
func joined(t *testing.T, source *host.Source) {
	t.Helper()
	mem := memory.DefaultAllocator
	first, err := source.Begin(t.Context(), sources.Env{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := first.Plan(t.Context(), &sources.Query{Table: "orders"})
	if err != nil || plan.Snapshot == "" {
		t.Fatalf("the plan is %+v, %v", plan, err)
	}
	second, err := source.Begin(t.Context(), sources.Env{Mem: mem, Snapshot: plan.Snapshot})
	if err != nil {
		t.Fatal(err)
	}
	if all := source.Sandboxes(); len(all) != 2 || all[0].Sessions != 1 || all[1].Sessions != 1 {
		t.Errorf("two sessions are in %+v", all)
	}
	rows := int64(0)
	for batch, err := range second.Scan(t.Context(), &sources.Query{Table: "orders"}) {
		if err != nil {
			t.Fatal(err)
		}
		rows += batch.Record.NumRows()
	}
	if rows != 60 {
		t.Errorf("%d rows", rows)
	}
	if err := errors.Join(second.Close(), first.Close()); err != nil {
		t.Error(err)
	}
}

// TestPlugins checks that executables are found by their names on the plugin path,
// and by a URI.
func TestPlugins(t *testing.T) {
	dir, plugins := shop(t, 20), t.TempDir()
	file := filepath.Join(plugins, "penstock-source-files")
	build(t, "../plugins/csv/plugin", file)
	h := behind(t, host.Default, plugins)
	for _, uri := range []string{"files:" + dir, "plugin:" + file + "?uri=" + dir} {
		source, err := h.Open(context.Background(), uri)
		if err != nil {
			t.Fatal(err)
		}
		if got := receipts(t, source)["orders"]; got.Rows != 20 {
			t.Errorf("%s: the receipt is %+v", uri, got)
		}
	}
}

// run runs a program and returns its output.
func run(t *testing.T, file string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(file, args...).CombinedOutput()
	return string(out), err
}

// TestEmbedded checks that an application which calls process.Main can start itself
// as its own source, and that one which does not gets an error that says so.
func TestEmbedded(t *testing.T) {
	bin := t.TempDir()
	build(t, "./testdata/app", filepath.Join(bin, "app"))
	build(t, "./testdata/bare", filepath.Join(bin, "bare"))
	if out, err := run(t, filepath.Join(bin, "app"), "testdata/shop"); err != nil || out != "3 orders\n" {
		t.Errorf("with Main: %v: %s", err, out)
	}
	if out, err := run(t, filepath.Join(bin, "bare"), "testdata/shop"); err == nil || !strings.Contains(out, "call process.Main first in main") {
		t.Errorf("without Main: %v: %s", err, out)
	}
	// A program that was started to serve a source, but does not call Main.
	bare := exec.Command(filepath.Join(bin, "bare"), "testdata/shop")
	bare.Env = append(bare.Environ(), wall.SelfVariable+"=csv")
	if out, err := bare.CombinedOutput(); err == nil || !strings.Contains(string(out), "call process.Main first in main") {
		t.Errorf("a child without Main: %v: %s", err, out)
	}
}

// TestStrangersPlugin checks that a plugin from another module works, and that one
// with an older protocol gets an error with the remedy.
func TestStrangersPlugin(t *testing.T) {
	bin, module := t.TempDir(), filepath.Join("..", "testkit", "testdata", "plugin")
	for name, pkg := range map[string]string{"planets": ".", "old": "./old"} {
		c := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg)
		c.Dir = module
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	h := behind(t, host.Default, "")
	source, err := h.Open(t.Context(), "plugin:"+filepath.Join(bin, "planets"))
	if err != nil {
		t.Fatal(err)
	}
	if err := testkit.TestSource(t.Context(), source); err != nil {
		t.Error(err)
	}
	if got := receipts(t, source)["planets"]; got.Rows != 8 {
		t.Errorf("the receipt is %+v", got)
	}
	_, err = h.Open(t.Context(), "plugin:"+filepath.Join(bin, "old"))
	want := `open: invalid: plugin "old" speaks version 1 of the source protocol, this program version 2; build plugin "old" against a newer penstock`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
