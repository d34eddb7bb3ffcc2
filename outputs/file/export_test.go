package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
)

func exportIn(dir string) ExportOptions {
	return ExportOptions{Output: filepath.Join(dir, "out.csv"), Checkpoint: filepath.Join(dir, "c"), Format: "csv", Limit: 4}
}

func begin(t *testing.T, o ExportOptions) *Export {
	t.Helper()
	x, err := NewExport(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func add(t *testing.T, x *Export, text string, token core.Token, rows int64) {
	t.Helper()
	if _, err := x.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := x.Advance(token, rows); err != nil {
		t.Fatal(err)
	}
}

func TestExportIsContinued(t *testing.T) {
	dir := t.TempDir()
	o := exportIn(dir)
	x := begin(t, o)
	if q, more := x.Continue(core.Query{Limit: 4}); x.Resumed() || !x.Due() || !more || q.After != "" || q.Limit != 4 {
		t.Errorf("a new export has %+v, %t", q, more)
	}
	if err := x.Save(0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.Checkpoint); err == nil {
		t.Error("there is a checkpoint of nothing")
	}
	add(t, x, "head\n1\n2\n", "two", 2)
	if err := x.Save(9); err != nil || x.Due() {
		t.Errorf("%v, due again: %t", err, x.Due())
	}
	add(t, x, "3\n", "three", 1) // which is not saved
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}

	x = begin(t, o)
	q, more := x.Continue(core.Query{Limit: 4})
	if !x.Resumed() || x.Complete() || x.Offset() != 9 || !more || q.After != "two" || q.Limit != 2 {
		t.Errorf("continued at %d with %+v, %t", x.Offset(), q, more)
	}
	add(t, x, "3\n4\n", "four", 2)
	if err := x.Save(13); err != nil {
		t.Fatal(err)
	}
	if q, more := x.Continue(core.Query{Limit: 4}); more || q.After != "four" || q.Limit != 4 {
		t.Errorf("after the last row: %+v, %t", q, more)
	}
	if err := x.Finish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"out.csv": "head\n1\n2\n3\n4\n"}, filesIn(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFinishIsFinished: whichever of its steps a kill came before, the next run
// does the rest.
func TestFinishIsFinished(t *testing.T) {
	for step := range 2 {
		dir := t.TempDir()
		o := exportIn(dir)
		x := begin(t, o)
		add(t, x, "all\n", "end", 4)
		if err := x.Save(4); err != nil {
			t.Fatal(err)
		}
		x.state.Complete = true
		if err := x.writeCheckpoint(); err != nil {
			t.Fatal(err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if step == 1 {
			if err := os.Rename(x.partial, o.Output); err != nil {
				t.Fatal(err)
			}
		}
		next, err := NewExport(o)
		if err != nil || !next.Complete() {
			t.Fatalf("%v, complete: %t", err, next.Complete())
		}
		if err := next.Finish(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"out.csv": "all\n"}, filesIn(t, dir)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	dir := t.TempDir()
	o := exportIn(dir)
	x := begin(t, o)
	if err := x.Advance("", 1); !errors.Is(err, ErrNoToken) {
		t.Errorf("without a token: %v", err)
	}
	add(t, x, "some\n", "some", 1)
	if err := x.Save(5); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	other := o
	other.Limit = 5
	var mismatch *MismatchError
	if _, err := NewExport(other); !errors.As(err, &mismatch) || mismatch.Saved != o || !strings.Contains(err.Error(), fmt.Sprintf("to %s as csv with limit 4", o.Output)) {
		t.Errorf("another export: %v", err)
	}
	if err := os.Truncate(x.partial, 3); err != nil {
		t.Fatal(err)
	}
	again, err := NewExport(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Open(); err == nil || !strings.Contains(err.Error(), "has 3 bytes, but the checkpoint") {
		t.Errorf("an output that is too short: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `{"version":1}`, `{"version":2}`, `{"version":2,"partial":"../../../x"}`, `{"version":2,"partial":"0123abcd","bytes":-1}`} {
		if err := os.WriteFile(o.Checkpoint, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewExport(o); err == nil || !strings.Contains(err.Error(), "remove it to start again") {
			t.Errorf("a checkpoint %q: %v", text, err)
		}
	}
	for _, same := range []string{o.Output, sidecar(o.Output), filepath.Join(dir, ".", "x", "..", "out.csv")} {
		if err := os.MkdirAll(filepath.Join(dir, "x"), 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := NewExport(ExportOptions{Output: o.Output, Checkpoint: same, Format: "csv"}); !errors.Is(err, ErrSameFile) {
			t.Errorf("the output as the checkpoint: %v", err)
		}
	}
	o.Output = dir
	if _, err := NewExport(o); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a directory: %v", err)
	}
}

// FuzzCheckpoint checks that an export refuses a checkpoint, or continues at a place that the
// checkpoint knows: one with rows or bytes also has the token of the rows that follow.
func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte(`{"version":2,"partial":"0123abcd","output":"out.csv","format":"csv","limit":4,"token":"t","rows":2,"bytes":9}`))
	f.Add([]byte(`{"version":2,"partial":"0123abcd","output":"out.csv","format":"csv","limit":4,"token":"","rows":2,"bytes":9}`))
	f.Add([]byte(`{"version":2,"partial":"0123abcd","output":"out.csv","format":"csv","limit":4,"token":"t","rows":-2,"bytes":9}`))
	f.Add([]byte(`{"version":2,"partial":"0123abcd","output":"out.csv","format":"csv","limit":4,"complete":true}`))
	f.Add([]byte(`{"version":2`))
	dir := f.TempDir()
	f.Chdir(dir)
	o := ExportOptions{Output: "out.csv", Checkpoint: "c", Format: "csv", Limit: 4}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(o.Checkpoint, text, 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := NewExport(o)
		if err != nil {
			var other *MismatchError
			if !errors.As(err, &other) && !strings.Contains(err.Error(), "remove it to start again") {
				t.Errorf("the error has no remedy: %v", err)
			}
			return
		}
		q, _ := x.Continue(core.Query{Limit: o.Limit})
		if x.Offset() < 0 || q.Limit < 0 || q.Limit > o.Limit || x.Offset() > 0 && q.After == "" && !x.Complete() {
			t.Errorf("%s continues at byte %d with %+v", text, x.Offset(), q)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestExportsKeepApart tests that an export is continued only by itself: not by one of
// another query, and not in the partial file of another checkpoint.
func TestExportsKeepApart(t *testing.T) {
	dir := t.TempDir()
	first := exportIn(dir)
	first.Query = "orders"
	x := begin(t, first)
	add(t, x, "first\n", "f", 2)
	if err := errors.Join(x.Save(6), x.Close()); err != nil {
		t.Fatal(err)
	}
	other := first
	other.Query = "lines"
	var mismatch *MismatchError
	if _, err := NewExport(other); !errors.As(err, &mismatch) {
		t.Errorf("another query: %v", err)
	}
	second := first
	second.Checkpoint = filepath.Join(dir, "d")
	x = begin(t, second)
	add(t, x, "second\n", "s", 2)
	if err := errors.Join(x.Save(7), x.Close()); err != nil {
		t.Fatal(err)
	}
	x, err := NewExport(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Open(); err == nil || !strings.Contains(err.Error(), "is gone: remove the checkpoint") {
		t.Errorf("the first export was continued in the file of the second: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = begin(t, second)
	if err := x.Finish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"out.csv": "second\n", "c": filesIn(t, dir)["c"]}, filesIn(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestExportFollowsNoLinks tests that files beside the output are not written through
// links, and that a named pipe does not block.
func TestExportFollowsNoLinks(t *testing.T) {
	for _, name := range []string{"c", "c.next", ".c.lock", ".out.csv.lock"} {
		dir := t.TempDir()
		if err := os.Symlink(filepath.Join(dir, "victim"), filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
		if _, err := NewExport(exportIn(dir)); !errors.Is(err, ErrNotRegular) {
			t.Errorf("with the link %s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "victim")); err == nil {
			t.Errorf("the link %s was followed", name)
		}
	}
}
