package csv_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// TestHugePackage tests that a data package, or a file that it names, is not read into
// memory if it is too large, as a sparse file may be.
func TestHugePackage(t *testing.T) {
	for name, description := range map[string]string{
		"datapackage.json": "",
		"schema.json":      `{"resources":[{"name":"t","path":"t.csv","schema":"schema.json"}]}`,
		"dialect.json":     `{"resources":[{"name":"t","path":"t.csv","dialect":"dialect.json"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"t.csv": "a\n1\n", "datapackage.json": description, name: description} {
				if file == name {
					text = ""
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Truncate(filepath.Join(dir, name), 1<<30); err != nil {
				t.Skipf("this file system has no large sparse files: %v", err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			source, err := csv.Open(t.Context(), sources.Config{URI: dir})
			if err == nil {
				_, err = source.Catalog(t.Context())
				if closing := source.Close(); closing != nil {
					t.Error(closing)
				}
			}
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(fmt.Sprint(err), name+" has more than 16 MiB") {
				t.Errorf("%.300v", err)
			}
			if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 256<<20 {
				t.Errorf("%d bytes were allocated", bytes)
			}
		})
	}
}
