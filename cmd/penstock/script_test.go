package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

func TestMain(m *testing.M) {
	linked["dying"], linked["rude"] = dying, rude
	process.Main(linked, walls...) // the scripts run this program, which starts itself for sources
	testscript.Main(m, map[string]func(){"penstock": main, "hangup": hangup})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"waitfile": waitFile, "exitcode": exitCode, "tokenof": tokenOf, "settle": settle, "digestof": digestOf},
	})
}

// waitFile waits until another process has created a file.
func waitFile(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not appear", args[0])
		}
		time.Sleep(time.Millisecond)
	}
}

// settle waits until a file is so old that its rows can be cached.
func settle(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	deadline := time.Now().Add(time.Minute)
	for last := ""; ; time.Sleep(10 * time.Millisecond) {
		source, err := csv.Open(context.Background(), sources.Config{URI: file})
		ts.Check(err)
		version := versionOf(ts, source)
		ts.Check(source.Close())
		if version == last {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the version of %s is still %q, after %q", args[0], version, last)
		}
		last = version
	}
}

// versionOf returns the version of a source's only table.
func versionOf(ts *testscript.TestScript, source sources.Source) string {
	catalog, err := source.Catalog(context.Background())
	ts.Check(err)
	session, err := source.Begin(context.Background(), sources.Env{Mem: memory.DefaultAllocator})
	ts.Check(err)
	plan, err := session.Plan(context.Background(), &sources.Query{Table: catalog.Tables[0].Name})
	ts.Check(errors.Join(err, session.Close()))
	return plan.Version
}

// dying is a source of CSV files that kills its own process after a number of pages
// of a scan.
func dying(ctx context.Context, c sources.Config) (sources.Source, error) {
	pages, err := strconv.Atoi(c.Options["pages"])
	if err != nil {
		return nil, err
	}
	source, err := csv.Open(ctx, sources.Config{URI: c.URI})
	if err != nil {
		return nil, err
	}
	return testkit.Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			left := pages
			for page, err := range scan {
				if left--; left < 0 {
					self, _ := os.FindProcess(os.Getpid())
					_ = self.Kill()
					select {}
				}
				if !yield(page, err) {
					return
				}
			}
		}
	}), nil
}

// tokenOf sets TOKEN to the token in a file.
func tokenOf(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if token, ok := strings.CutPrefix(strings.TrimSpace(line), "token: "); ok {
			ts.Setenv("TOKEN", token)
			return
		}
	}
	ts.Fatalf("there is no token in %s", args[0])
}

// digestOf sets DIGEST to the line of a summary in a file that has the digest.
func digestOf(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if strings.HasPrefix(line, "digest of ") {
			ts.Setenv("DIGEST", strings.TrimSpace(line))
			return
		}
	}
	ts.Fatalf("there is no digest in %s", args[0])
}

// exitCode runs a command and compares its exit code.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = strconv.Itoa(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// hangup runs a command whose standard output is a closed pipe, as after `| head`,
// and exits with the command's exit code.
func hangup() {
	os.Exit(func() int {
		reader, writer, err := os.Pipe()
		if err != nil || reader.Close() != nil {
			return 99
		}
		command := exec.Command(os.Args[1], os.Args[2:]...)
		command.Stdout, command.Stderr = writer, os.Stderr
		var exit *exec.ExitError
		if err := command.Run(); err != nil && !errors.As(err, &exit) {
			return 99
		}
		return command.ProcessState.ExitCode()
	}())
}
