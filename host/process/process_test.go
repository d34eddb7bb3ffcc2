//go:build unix

package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/testkit"
)

// The plugins of these tests are copies of this program: sources are selected by
// their names, and programs that are no source by a variable.
func TestMain(m *testing.M) {
	process.Main(map[string]sources.Open{
		"shop":     shop,
		"meanings": func(context.Context, sources.Config) (sources.Source, error) { return testkit.NewMeanings() },
		"endless":  endless,
		"broken": func(context.Context, sources.Config) (sources.Source, error) {
			panic("no luck today")
		},
		"hangs": func(context.Context, sources.Config) (sources.Source, error) { select {} },
		"picky": func(_ context.Context, c sources.Config) (sources.Source, error) {
			return nil, sources.Errorf(sources.Denied, "open", "", "no entry with %d options", len(c.Options))
		},
	})
	switch os.Getenv("TEST_PLUGIN") {
	case "exits":
		os.Exit(7)
	case "garbage":
		fmt.Println("hello, I am a web server")
		time.Sleep(time.Hour)
	case "silent":
		time.Sleep(time.Hour)
	case "liar":
		actAsLiar()
	case "loud":
		actAsLoud()
	case "host":
		actAsHost()
	}
	code := m.Run()
	if err := os.RemoveAll(binDir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// binDir contains what hogFile builds, until the tests end.
var binDir string

// hogFile builds the plugin of testdata/hog once, without the race detector: with it
// a process needs more memory, and a tenth of a second to start.
func hogFile(t *testing.T) string {
	t.Helper()
	if binDir == "" {
		dir, err := os.MkdirTemp("", "process-test-")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "hog"), "./testdata/hog").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		binDir = dir
	}
	return filepath.Join(binDir, "hog")
}

func shop(context.Context, sources.Config) (sources.Source, error) {
	return testkit.Shop{Seed: 2, Orders: 40}.Memory()
}

// endless is a source with an endless table.
func endless(context.Context, sources.Config) (sources.Source, error) {
	s, err := testkit.Shop{Seed: 2, Orders: 1}.Memory()
	if err != nil {
		return nil, err
	}
	catalog, err := s.Catalog(context.Background())
	if err != nil {
		return nil, err
	}
	tags := *catalog.Table("tags")
	tags.Capabilities, tags.Filters, tags.Lookups, tags.Relations = 0, nil, nil, nil
	return sources.Simple(&sources.Catalog{Tables: []sources.Table{tags}}, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return sources.FromRows(env, tags.Schema, func(yield func(sources.Row, error) bool) {
			row := make([]any, tags.Schema.NumFields())
			for i := 0; ; i++ {
				for j, f := range tags.Schema.Fields() {
					row[j] = any(i)
					if f.Type.String() == "utf8" {
						row[j] = "text"
					}
				}
				if !yield(sources.Row{Values: row}, nil) {
					return
				}
			}
		})
	}), nil
}

func options(self string) wall.Options {
	return wall.Options{Self: self, Name: self, Environment: []string{"TEST_*"}, CallTimeout: 20 * time.Second, StallTimeout: 500 * time.Millisecond}
}

// clean checks that the test leaves no goroutine, process, socket or file behind.
func clean(t *testing.T) {
	t.Helper()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, before)
		left, err := filepath.Glob(filepath.Join(temp, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
		if n := len(children(t, os.Getpid())); n > 0 {
			t.Errorf("%d processes are left", n)
		}
	})
}

// children returns the ids of the processes that a process has started.
func children(t *testing.T, parent int) (pids []int) {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,comm=").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		var name string
		if _, err := fmt.Sscan(line, &pid, &ppid, &name); err == nil && ppid == parent && name != "ps" {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestContract(t *testing.T) {
	for _, name := range []string{"shop", "meanings"} { // the second one looks up with ordinals
		t.Run(name, func(t *testing.T) {
			clean(t)
			source, err := process.Open(t.Context(), options(name), sources.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if err := testkit.TestSource(t.Context(), source); err != nil {
				t.Error(err)
			}
			if err := source.Close(); err != nil {
				t.Error(err)
			}
			if err := source.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLongTemporaryDirectory checks that plugins start even if the path of the
// directory for temporary files is too long for a socket.
func TestLongTemporaryDirectory(t *testing.T) {
	clean(t)
	for _, name := range []string{strings.Repeat("x", 40), strings.Repeat("x", 110)} {
		temp := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(temp, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", temp)
		source, err := process.Open(t.Context(), options("shop"), sources.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
}

// TestManyCycles checks that opening and closing a source many times leaves nothing
// behind.
func TestManyCycles(t *testing.T) {
	file := hogFile(t)
	clean(t)
	cycles := 60
	if testing.Short() {
		cycles = 20
	}
	for range cycles {
		source, err := process.Open(t.Context(), wall.Options{Command: []string{file}}, sources.Config{Options: map[string]string{"rate": "1"}})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := core.Open(t.Context(), source, core.Query{Table: "modest"}, core.Options{Memory: 4 << 20}, core.Resources{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if err := errors.Join(stream.Close(), source.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBadPlugins checks that each kind of bad plugin gives a clear error of one
// line, and leaves nothing behind.
func TestBadPlugins(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(text, []byte("not a program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, variable string
		options        wall.Options
		kind           sources.Kind
		part           string
	}{
		{name: "exits", variable: "exits", options: wall.Options{Command: []string{self}, Name: "p"}, kind: sources.Unavailable, part: `plugin "p" exited with code 7 before the handshake`},
		{name: "garbage", variable: "garbage", options: wall.Options{Command: []string{self}, Name: "p"}, kind: sources.Invalid, part: `plugin "p" wrote something else than a handshake`},
		{name: "silent", variable: "silent", options: wall.Options{Command: []string{self}, Name: "p", CallTimeout: 300 * time.Millisecond}, kind: sources.Unavailable, part: "did not complete the handshake in time"},
		{name: "missing", options: wall.Options{Command: []string{"/nowhere/p"}}, kind: sources.NotFound, part: "/nowhere/p"},
		{name: "not a program", options: wall.Options{Command: []string{text}}, kind: sources.Internal, part: "exec format error"},
		{name: "a directory", options: wall.Options{Command: []string{os.TempDir()}}, kind: sources.Invalid, part: "is a directory"},
		{name: "none", kind: sources.Invalid, part: "no executable is named"},
		{name: "panics in open", options: options("broken"), kind: sources.Internal, part: "panic: no luck today"},
		{name: "hangs in open", options: wall.Options{Self: "hangs", Name: "p", CallTimeout: 2 * time.Second}, kind: sources.Unavailable, part: `plugin "p" did not answer within 2s`},
		{name: "refuses", options: options("picky"), kind: sources.Denied, part: "open: denied: no entry with 1 options"},
		{name: "unknown", options: options("unknown"), kind: sources.Unavailable, part: "exited with code 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t)
			t.Setenv("TEST_PLUGIN", c.variable)
			c.options.Environment = []string{"TEST_*"}
			_, err := process.Open(t.Context(), c.options, sources.Config{URI: "secret", Options: map[string]string{"password": "secret"}})
			if sources.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.part) || !strings.HasPrefix(fmt.Sprint(err), "open: ") {
				t.Errorf("%v, want %s with %q", err, c.kind, c.part)
			}
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("%v tells the secret", err)
			}
		})
	}
}

// TestDeath checks that a stream whose process is killed or stopped fails with
// Unavailable within the timeout, and that its receipt is not complete.
func TestDeath(t *testing.T) {
	for signal, part := range map[syscall.Signal]string{
		syscall.SIGKILL: `plugin "endless" was killed by signal 9`,
		syscall.SIGSTOP: `plugin "endless" sent nothing for 500ms`,
	} {
		t.Run(signal.String(), func(t *testing.T) {
			clean(t)
			source, err := process.Open(t.Context(), options("endless"), sources.Config{})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := core.Open(t.Context(), source, core.Query{Table: "tags"}, core.Options{}, core.Resources{})
			if err != nil {
				t.Fatal(err)
			}
			var last error
			sent := false
			for _, err := range stream.Chunks() {
				if last = err; !sent {
					sent = true
					for _, pid := range pids(source.(*process.Source)) {
						if err := syscall.Kill(pid, signal); err != nil {
							t.Error(err)
						}
					}
				}
			}
			if sources.KindOf(last) != sources.Unavailable || !strings.Contains(fmt.Sprint(last), part) {
				t.Errorf("the stream ends with %v", last)
			}
			if r := stream.Receipt(); r.Complete || r.Rows == 0 {
				t.Errorf("the receipt is %+v", r)
			}
			if err := errors.Join(stream.Close(), source.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// actAsHost opens a source, prints "ready", and waits until it is killed.
func actAsHost() {
	o, c := options("endless"), sources.Config{}
	if file := os.Getenv("TEST_HOG"); file != "" {
		o = wall.Options{Command: []string{file}}
		c.Options = map[string]string{"rate": "1", "child": os.Getenv("TEST_CHILD"), "childat": "open"}
	}
	source, err := process.Open(context.Background(), o, c)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if os.Getenv("TEST_STREAMS") == "" {
		fmt.Println("ready")
		time.Sleep(time.Hour)
	}
	stream, err := core.Open(context.Background(), source, core.Query{Table: "tags"}, core.Options{}, core.Resources{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for range stream.Chunks() {
		if stream.Receipt().Chunks == 10 {
			fmt.Println("ready")
		}
	}
}

// TestKilledHost checks that a killed host leaves no child process, whether idle or
// streaming.
func TestKilledHost(t *testing.T) {
	for _, streams := range []string{"", "yes"} {
		t.Run("streams "+streams, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			host := exec.Command(self)
			host.Env = append(host.Environ(), "TEST_PLUGIN=host", "TEST_STREAMS="+streams, "TMPDIR="+t.TempDir())
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || line != "ready\n" {
				t.Fatalf("the host says %q, %v", line, err)
			}
			pids := children(t, host.Process.Pid)
			if len(pids) != 1 {
				t.Fatalf("the host has the children %v", pids)
			}
			if err := host.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = host.Wait() // it was killed
			for deadline := time.Now().Add(10 * time.Second); running(pids[0]); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("process %d outlives its host", pids[0])
				}
			}
		})
	}
}

// running reports whether a process exists and is not a zombie.
func running(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}
