package host

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// TestIdentifyBuild: what a build recorded identifies its code only if it records all of it.
func TestIdentifyBuild(t *testing.T) {
	info := func(sum string, settings ...string) *debug.BuildInfo {
		b := &debug.BuildInfo{GoVersion: "go1.26", Path: "x", Main: debug.Module{Path: "x", Version: "(devel)"}, Deps: []*debug.Module{{Path: "y", Version: "v1.0.0", Sum: sum}}}
		for i := 0; i < len(settings); i += 2 {
			b.Settings = append(b.Settings, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return b
	}
	for name, c := range map[string]struct {
		info      *debug.BuildInfo
		known, ok bool
	}{
		"a commit":                   {info("h1:", "vcs.revision", "abc", "vcs.modified", "false"), true, true},
		"uncommitted files":          {info("h1:", "vcs.revision", "abc", "vcs.modified", "true"), false, true},
		"no commit":                  {info("h1:"), true, false},
		"a module in a directory":    {info("", "vcs.revision", "abc", "vcs.modified", "false"), true, false},
		"flags of the linker hidden": {info("h1:", "-trimpath", "true", "vcs.revision", "abc", "vcs.modified", "false"), true, false},
	} {
		if _, known, ok := identifyBuild(c.info); known != c.known || ok != c.ok {
			t.Errorf("%s: known %t, ok %t", name, known, ok)
		}
	}
	a, _, _ := identifyBuild(info("h1:", "vcs.revision", "abc", "vcs.modified", "false"))
	for name, other := range map[string]*debug.BuildInfo{
		"commit": info("h1:", "vcs.revision", "abd", "vcs.modified", "false"),
		"module": info("h1:2", "vcs.revision", "abc", "vcs.modified", "false"),
		"tags":   info("h1:", "vcs.revision", "abc", "vcs.modified", "false", "-tags", "x"),
	} {
		if b, _, _ := identifyBuild(other); a == b {
			t.Errorf("another %s has the same identity", name)
		}
	}
	if b := thisBuild(); b.id == "" || b.id == "unknown" {
		t.Errorf("this build is %+v", b)
	}
}

// TestCodeIsIdentity: the contents of the executable or module that answers are part of the identity
// of a source, also if its size and time stay the same.
func TestCodeIsIdentity(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		file, source, uri string
		isolation         Isolation
	}{
		"a module on the path":       {moduleName("x"), "x", "data", Module},
		"a module by its file":       {"some.wasm", "wasm", filepath.Join(dir, "some.wasm"), Default},
		"an executable on the path":  {executableName("y"), "y", "data", Default},
		"an executable by its file":  {"some-plugin", "plugin", filepath.Join(dir, "some-plugin"), Default},
		"no executable but a module": {moduleName("z"), "z", "data", Default},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Host{options: Options{PluginPath: []string{dir}, Isolation: c.isolation}}
			write := func(text string) identity {
				t.Helper()
				file := filepath.Join(dir, c.file)
				at := time.Unix(1e9, 0)
				if err := errors.Join(os.WriteFile(file, []byte(text), 0o700), os.Chtimes(file, at, at)); err != nil {
					t.Fatal(err)
				}
				return h.identify(c.source, sources.Config{URI: c.uri})
			}
			one, again, two := write("one"), write("one"), write("two")
			if one.fingerprint != again.fingerprint || one.fingerprint == two.fingerprint || one.openID == again.openID {
				t.Errorf("%+v, %+v and %+v", one, again, two)
			}
			if err := os.Remove(filepath.Join(dir, c.file)); err != nil {
				t.Fatal(err)
			}
			if !two.isOutdated() {
				t.Error("a file that is gone is not outdated")
			}
		})
	}
}
