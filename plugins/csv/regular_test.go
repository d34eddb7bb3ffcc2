//go:build unix

package csv_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// TestSpecialFiles opens what is no regular file, by its name, in a directory, and where
// a data package belongs. Nothing waits for the other end of a pipe, and no error is
// internal.
func TestSpecialFiles(t *testing.T) {
	fifo := func(name string) error { return syscall.Mkfifo(name, 0o600) }
	for _, c := range []struct {
		name string
		make func(name string) error
		want string // in the error
		kind sources.Kind
	}{
		{"named pipe", fifo, "x.csv is a named pipe, and only regular files are read; write csv:- ", sources.Invalid},
		{"socket", func(name string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
			if err == nil {
				t.Cleanup(func() { _ = l.Close() })
			}
			return err
		}, "x.csv is a socket, and only regular files are read", sources.Invalid},
		{"link to a pipe", func(name string) error {
			if err := fifo(filepath.Join(filepath.Dir(name), "pipe")); err != nil {
				return err
			}
			return os.Symlink("pipe", name)
		}, "x.csv is a named pipe", sources.Invalid},
		{"link to a device", func(name string) error { return os.Symlink("/dev/zero", name) }, "is it a link that leads out of the directory?", sources.Invalid},
		{"link to nothing", func(name string) error { return os.Symlink("nothing", name) }, "x.csv", sources.NotFound},
		{"link to itself", func(name string) error { return os.Symlink("x.csv", name) }, "x.csv", sources.Invalid},
		{"link to a directory", func(name string) error { return os.Symlink(".", name) }, "x.csv is a directory", sources.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "csv") // the name of a socket must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			if err := c.make(filepath.Join(dir, "x.csv")); err != nil {
				t.Fatal(err)
			}
			source, err := csv.Open(t.Context(), sources.Config{URI: filepath.Join(dir, "*.csv")})
			if err == nil {
				_, err = source.Catalog(t.Context())
				if closing := source.Close(); closing != nil {
					t.Error(closing)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || sources.KindOf(err) != c.kind {
				t.Errorf("the error is %v (%v), want %v: %s", err, sources.KindOf(err), c.kind, c.want)
			}
		})
	}
	t.Run("data package", func(t *testing.T) {
		for _, name := range []string{"datapackage.json", "schema.json"} {
			dir := t.TempDir()
			if err := fifo(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			if name == "schema.json" {
				text := `{"resources": [{"name": "t", "path": "t.csv", "schema": "schema.json"}]}`
				if err := os.WriteFile(filepath.Join(dir, "datapackage.json"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := csv.Open(t.Context(), sources.Config{URI: dir})
			if want := name + " is a named pipe"; err == nil || !strings.Contains(err.Error(), want) || sources.KindOf(err) != sources.Invalid {
				t.Errorf("the error is %v, want %s", err, want)
			}
		}
	})
	t.Run("a pipe in place of a file", func(t *testing.T) {
		dir := t.TempDir()
		name := filepath.Join(dir, "t.csv")
		if err := os.WriteFile(name, []byte("a\n1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		source, err := csv.Open(t.Context(), sources.Config{URI: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = source.Close() }()
		session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = session.Close() }()
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := fifo(name); err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range session.Scan(t.Context(), &sources.Query{Table: "t"}) {
			last = err
		}
		if last == nil || !strings.Contains(last.Error(), "t.csv is a named pipe") {
			t.Errorf("the error is %v", last)
		}
	})
}

// TestOneBadFile checks that a file that cannot be read, whether it is the first or the
// last one, leaves the other tables as they are, and that its own error has a kind.
func TestOneBadFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b.csv": "id\n1\n", "c.csv": "", "d.csv": "x,x\n1,2\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a.csv", "z.csv"} {
		if err := os.Symlink("nothing", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	source, err := csv.Open(t.Context(), sources.Config{URI: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	catalog, err := source.Catalog(t.Context())
	if err != nil || len(catalog.Tables) != 1 || catalog.Table("b") == nil {
		t.Fatalf("%+v, error %v", catalog, err)
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	for _, c := range []struct {
		table, want string
		kind        sources.Kind
	}{
		{"a", "a.csv: no such file", sources.NotFound},
		{"c", "c.csv: the file is empty", sources.Invalid},
		{"d", `d.csv:1:3: duplicate column name "x"`, sources.Invalid},
		{"z", "z.csv: no such file", sources.NotFound},
		{"y", "there is no such table", sources.NotFound},
	} {
		var fault error
		for _, err := range session.Scan(t.Context(), &sources.Query{Table: c.table}) {
			fault = err
		}
		if fault == nil || !strings.Contains(fault.Error(), c.want) || sources.KindOf(fault) != c.kind {
			t.Errorf("%s: the error is %v, want %v: %s", c.table, fault, c.kind, c.want)
		}
	}
	for batch, err := range session.Scan(t.Context(), &sources.Query{Table: "b"}) {
		if err != nil || batch.Record.NumRows() != 1 {
			t.Errorf("table b: %v", err)
		}
	}
	if _, err := csv.WritePackage(t.Context(), sources.Config{URI: dir}); err == nil || !strings.Contains(err.Error(), "a.csv: no such file") {
		t.Errorf("a data package without a table is written: %v", err)
	}
}
