package csv

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// TestSettled: a file identifies its contents once its last change, of whatever kind, lies far
// enough in the past.
func TestSettled(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for name, c := range map[string]struct {
		modified, changed time.Duration // from now
		want              bool
	}{
		"long ago":               {-time.Hour, -time.Hour, true},
		"two seconds ago":        {-2 * time.Second, -2 * time.Second, true},
		"just modified":          {-time.Second, -time.Second, false},
		"just changed":           {-time.Hour, -time.Second, false},
		"modified in the future": {time.Hour, -time.Hour, false},
		"changed in the future":  {-time.Hour, time.Hour, false},
	} {
		s := fileState{modified: now.Add(c.modified), inode: inode{1, 2, now.Add(c.changed).UnixNano()}}
		if got := s.settled(now); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	for ago, want := range map[time.Duration]bool{time.Second: false, time.Hour: true} {
		if got := (fileState{modified: now.Add(-ago)}).settled(now); got != want {
			t.Errorf("without an inode, %s ago: %t", ago, got)
		}
	}
}

// planVersion returns the version of the table people.
func planVersion(t *testing.T, s sources.Source) string {
	t.Helper()
	session, err := s.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := session.Plan(t.Context(), &sources.Query{Table: "people"})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	return plan.Version
}

// TestVirtualFilesHaveNoIdentity: without inodes, what is cached stays in the process.
func TestVirtualFilesHaveNoIdentity(t *testing.T) {
	files := fstest.MapFS{"people.csv": {Data: []byte("id\n1\n"), ModTime: time.Unix(1e9, 0)}}
	s, err := New(files, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Catalog(t.Context())
	if err != nil || c.Identity != "" {
		t.Errorf("identity %q, %v", c.Identity, err)
	}
	if a, b := planVersion(t, s), planVersion(t, s); a != b || a == "" {
		t.Errorf("the versions are %q and %q", a, b)
	}
}

// TestStandardInputHasNoVersion: it is read once, and what comes next time is something else.
func TestStandardInputHasNoVersion(t *testing.T) {
	s, err := newStdinSource(strings.NewReader("id\n1\n"), Options{Table: "people"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Catalog(t.Context())
	if err != nil || c.Identity != "" {
		t.Errorf("identity %q, %v", c.Identity, err)
	}
	if a, b := planVersion(t, s), planVersion(t, s); a == b || a == "" {
		t.Errorf("the versions are %q and %q", a, b)
	}
}

// TestOptionsOfNewAreIdentity: two sources of the same files with other options have different
// identities, although New has no configuration.
func TestOptionsOfNewAreIdentity(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no inodes")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "people.csv"), []byte("id\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	identity := func(o Options) string {
		s, err := New(os.DirFS(dir), o)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c.Identity
	}
	plain := identity(Options{})
	if plain == "" || identity(Options{}) != plain || identity(Options{Index: dir}) != plain {
		t.Error("equal options have different identities, or none")
	}
	for _, o := range []Options{{Null: []string{"x"}}, {Null: []string{"x y"}}, {Null: []string{"x", "y"}}, {Delimiter: ';'}, {Sample: 3}, {SkipBad: true}} {
		if identity(o) == plain {
			t.Errorf("%+v has the identity of no options", o)
		}
		plain = identity(o)
	}
}
