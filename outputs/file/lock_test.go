package file

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMain runs the test program as the process of another run, if it is asked to.
func TestMain(m *testing.M) {
	switch dir := os.Getenv("PENSTOCK_TEST_RUN_IN"); os.Getenv("PENSTOCK_TEST_RUN") {
	case "export":
		other(beginOther(dir))
	case "file":
		f, err := Create(filepath.Join(dir, "out.csv"))
		if err == nil {
			_, err = f.Write([]byte("half"))
		}
		other(err)
	}
	os.Exit(m.Run())
}

// beginOther begins an export in a directory, saves two rows, and writes more.
func beginOther(dir string) error {
	x, err := NewExport(exportIn(dir))
	if err != nil {
		return err
	}
	if err := x.Open(); err != nil {
		return err
	}
	_, err = x.Write([]byte("head\n1\n2\n"))
	if err = errors.Join(err, x.Advance("two", 2), x.Save(9)); err != nil {
		return err
	}
	_, err = x.Write([]byte("this is not saved\n"))
	return err
}

// other tells the test that the other run is where it should be, and waits to be killed.
func other(err error) {
	fmt.Println("ready:", err)
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(1)
}

// startOther starts another process that runs what TestMain knows by that name, in dir, and
// waits until it is ready.
func startOther(t *testing.T, what, dir string) (process *os.Process, kill func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "PENSTOCK_TEST_RUN="+what, "PENSTOCK_TEST_RUN_IN="+dir)
	stdin, err := c.StdinPipe() // stays open, so that the process waits
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready: <nil>\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return c.Process, kill
}

// TestExportsExclude tests that only one run at a time writes an output or a checkpoint,
// whatever else the runs name, and that a killed run gives its locks back.
func TestExportsExclude(t *testing.T) {
	dir := t.TempDir()
	o := exportIn(dir)
	process, kill := startOther(t, "export", dir)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	before := filesIn(t, dir)
	for name, second := range map[string]ExportOptions{
		"the same pair":          o,
		"another checkpoint":     {Output: o.Output, Checkpoint: filepath.Join(dir, "other"), Format: "csv"},
		"another output":         {Output: filepath.Join(dir, "other"), Checkpoint: o.Checkpoint, Format: "csv"},
		"output and checkpoint":  {Output: o.Checkpoint, Checkpoint: o.Output, Format: "csv"},
		"another path":           {Output: filepath.Join(link, "out.csv"), Checkpoint: filepath.Join(dir, "other"), Format: "csv"},
		"an output's checkpoint": {Output: filepath.Join(dir, "other"), Checkpoint: o.Output, Format: "csv"},
	} {
		x, err := NewExport(second)
		var locked *LockedError
		if !errors.As(err, &locked) || x != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := fmt.Sprintf("process %d on host", process.Pid); !strings.HasPrefix(locked.Holder, want) {
			t.Errorf("%s: the holder is %q, want %q", name, locked.Holder, want)
		}
		if locked.Name != second.Output && locked.Name != second.Checkpoint {
			t.Errorf("%s: the error names %s", name, locked.Name)
		}
	}
	if diff := cmp.Diff(before, filesIn(t, dir)); diff != "" {
		t.Errorf("runs that were refused changed files (-want +got):\n%s", diff)
	}
	kill()
	x := begin(t, o)
	if !x.Resumed() || x.Offset() != 9 {
		t.Errorf("resumed %t at %d", x.Resumed(), x.Offset())
	}
	add(t, x, "3\n4\n", "four", 2)
	if err := x.Finish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"out.csv": "head\n1\n2\n3\n4\n"}, filesIn(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRefusedRunReleases tests that a run that gets one lock of two gives it back.
func TestRefusedRunReleases(t *testing.T) {
	o := exportIn(t.TempDir())
	held, err := acquire(o.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	if _, err := NewExport(o); !errors.As(err, &locked) || locked.Name != o.Checkpoint {
		t.Errorf("with a locked checkpoint: %v", err)
	}
	output, err := acquire(o.Output)
	if err != nil {
		t.Fatalf("the output is still locked: %v", err)
	}
	if err := errors.Join(held.Unlock(), output.Unlock()); err != nil {
		t.Fatal(err)
	}
}

// TestStaleTailIsCut tests that an output ends where its last write ended, although the
// partial file was longer.
func TestStaleTailIsCut(t *testing.T) {
	dir := t.TempDir()
	x := begin(t, exportIn(dir))
	add(t, x, "all\n", "end", 4)
	if err := os.WriteFile(x.partial, []byte("all\nand a tail"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := x.Finish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"out.csv": "all\n"}, filesIn(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSweep tests that an output removes the partial files of killed processes, and no
// other files.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	_, kill := startOther(t, "file", dir)
	kill()
	_, _ = startOther(t, "file", dir)
	for _, name := range []string{".out.csv.0123abcd.export", ".other.csv.0123abcd.partial", ".out.csv.0123abcd.partial~", "out.csv.0123abcd.partial", ".out.csv.0123abcg.partial"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("kept"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(filesIn(t, dir)); n != 6 { // the second process has swept what the first one left
		t.Errorf("there are %d files, want 6: %v", n, filesIn(t, dir))
	}
	f, err := Create(filepath.Join(dir, "out.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("whole")); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, text := range filesIn(t, dir) {
		got[text]++
	}
	if diff := cmp.Diff(map[string]int{"whole": 1, "half": 1, "kept": 5}, got); diff != "" {
		t.Errorf("files by contents (-want +got):\n%s", diff)
	}
}

// TestErrorsNameTheOutput tests that errors have the name that the caller knows.
func TestErrorsNameTheOutput(t *testing.T) {
	name := filepath.Join(t.TempDir(), "missing", "out.csv")
	if _, err := Create(name); err == nil || !strings.Contains(err.Error(), name+":") {
		t.Errorf("create: %v", err)
	}
	if _, err := NewExport(ExportOptions{Output: name, Checkpoint: filepath.Join(t.TempDir(), "c")}); err == nil || !strings.Contains(err.Error(), name+":") {
		t.Errorf("export: %v", err)
	}
	f, err := Create(filepath.Join(t.TempDir(), "out.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err == nil || strings.Contains(err.Error(), "partial") {
		t.Errorf("write: %v", err)
	}
}
