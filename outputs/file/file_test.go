package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// filesIn returns the contents of the files of a directory by name, without locks.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".lock") || e.IsDir() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

func TestOutputGetsItsNameWhenComplete(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "out.csv")
	if err := os.WriteFile(name, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		end  func(*File) error
		want string
	}{{(*File).Discard, "old"}, {(*File).Commit, "new"}} {
		o, err := Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(name); err != nil || string(data) != "old" {
			t.Fatalf("before the end: %q, %v", data, err)
		}
		if err := test.end(o); err != nil {
			t.Fatal(err)
		}
		if err := o.Discard(); err != nil {
			t.Errorf("a discard after the end: %v", err)
		}
		if diff := cmp.Diff(map[string]string{"out.csv": test.want}, filesIn(t, dir)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestOutputRefusesADirectory(t *testing.T) {
	if _, err := Create(t.TempDir()); !errors.Is(err, ErrDirectory) {
		t.Errorf("got %v, want ErrDirectory", err)
	}
}

func TestOutputNamesAMissingDirectory(t *testing.T) {
	if _, err := Create(filepath.Join(t.TempDir(), "no", "out.csv")); err == nil {
		t.Error("no error")
	}
}
