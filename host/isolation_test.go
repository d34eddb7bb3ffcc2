package host_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/wasm"
)

const (
	addProcess = "import github.com/penstock-data/penstock/host/process and put process.Wall() into host.Options.Walls"
	addModule  = "import github.com/penstock-data/penstock/wasm and put wasm.Wall() into host.Options.Walls"
	addBoth    = "import github.com/penstock-data/penstock/host/process and github.com/penstock-data/penstock/wasm and put process.Wall() and wasm.Wall() into host.Options.Walls"
)

// TestMissingWalls checks that a source which needs a missing wall does not open,
// and that the error says which import and which call add the wall.
func TestMissingWalls(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"penstock-source-files", "penstock-source-files.exe", "sheets.wasm", "csv.wasm"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		isolation host.Isolation
		walls     []wall.Wall
		uri, want string
	}{
		{host.Default, nil, "plugin:x", "open: invalid: this needs the process wall: " + addProcess},
		{host.Default, []wall.Wall{wasm.Wall()}, "plugin:x", "open: invalid: this needs the process wall: " + addProcess},
		{host.Default, nil, "files:x", "open: invalid: this needs the process wall: " + addProcess},
		{host.Default, nil, "sheets:x", "open: invalid: this needs the process and wasm walls: " + addBoth},
		{host.Default, nil, "wasm:x", "open: invalid: this needs the process and wasm walls: " + addBoth},
		{host.Default, []wall.Wall{process.Wall()}, "wasm:x", "open: invalid: this needs the wasm wall: " + addModule},
		{host.Default, []wall.Wall{wasm.Wall()}, "wasm:x", "open: invalid: this needs the process wall: " + addProcess},
		{host.InProcess, nil, "wasm:x", "open: invalid: this needs the wasm wall: " + addModule},
		{host.InProcess, nil, "plugin:x", "open: invalid: this needs the process wall: " + addProcess},
		{host.Process, nil, "", `host: invalid: isolation "process" needs the process wall: ` + addProcess},
		{host.Process, []wall.Wall{process.Wall()}, "wasm:x", "open: invalid: this needs the wasm wall: " + addModule},
		{host.Module, []wall.Wall{process.Wall()}, "", `host: invalid: isolation "wasm" needs the wasm wall: ` + addModule},
		{host.Module, nil, "", `host: invalid: isolation "wasm" needs the process and wasm walls: ` + addBoth},
	} {
		h, err := host.New(host.Options{Sources: linked, Walls: c.walls, Isolation: c.isolation, PluginPath: []string{dir}})
		if err == nil {
			_, err = h.Open(t.Context(), c.uri)
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
		if sources.KindOf(err) != sources.Invalid || err == nil || err.Error() != c.want {
			t.Errorf("isolation %q, %q: %v, want %s", c.isolation, c.uri, err, c.want)
		}
	}
}

// otherWall is a wall that the host does not know.
type otherWall struct{ wall.Wall }

func (otherWall) Name() string { return "moat" }

// TestWallOptions checks that New refuses walls that are not valid.
func TestWallOptions(t *testing.T) {
	for want, walls := range map[string][]wall.Wall{
		"Walls contains the process wall twice": {process.Wall(), process.Wall()},
		"Walls must not contain nil":            {nil},
		`unknown wall "moat"`:                   {otherWall{}},
	} {
		if _, err := host.New(host.Options{Walls: walls}); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := host.New(host.Options{Isolation: "moat"}); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `unknown isolation "moat": use inproc, process or wasm`) {
		t.Errorf("an unknown isolation: %v", err)
	}
	for _, sandboxes := range []host.SandboxOptions{{Memory: -1}, {IdleTimeout: -1}} {
		if _, err := host.New(host.Options{Sandboxes: sandboxes}); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "must not be negative (got -1") {
			t.Errorf("%+v: %v", sandboxes, err)
		}
	}
}

// TestUnknownSelf checks the error for a source that the program does not pass to
// process.Main: the child's own text.
func TestUnknownSelf(t *testing.T) {
	h, err := host.New(host.Options{
		Sources: map[string]sources.Open{"other": func(context.Context, sources.Config) (sources.Source, error) { return nil, nil }},
		Walls:   walls, Isolation: host.Process,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_, err = h.Open(t.Context(), "other:")
	if sources.KindOf(err) != sources.Unavailable || !strings.Contains(err.Error(), `this program has no source "other" to serve: pass process.Main the Sources and Walls of host.Options`) {
		t.Errorf("got %v", err)
	}
}

// TestSmallApplication checks that an application without walls works, and does not
// serve a source when it is asked to.
func TestSmallApplication(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inproc")
	build(t, "./testdata/inproc", file)
	if out, err := run(t, file, "testdata/shop"); err != nil || out != "3 orders\n" {
		t.Errorf("%v: %s", err, out)
	}
	child := exec.Command(file, "testdata/shop")
	child.Env = append(child.Environ(), wall.SelfVariable+"=csv")
	if out, err := child.CombinedOutput(); err == nil || !strings.Contains(string(out), "call process.Main first in main") {
		t.Errorf("as a child: %v: %s", err, out)
	}
}
