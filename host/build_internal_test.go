package host

import (
	"runtime/debug"
	"testing"
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
