//go:build unix

package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// TestUntrustedPlugins checks that a plugin which another user of the machine may have made
// or changed is refused, with the reason, and that others are run.
func TestUntrustedPlugins(t *testing.T) {
	const relative, writable = "is relative", "every user of this machine can write to "
	for name, c := range map[string]struct {
		file     string                       // of the plugin, in the directory
		spoil    func(dir, file string) error // of the directory or the file
		path     func(dir string) string      // the plugin path
		uri      func(dir string) string      // of the source
		reason   string                       // why the plugin is refused; empty if it is run
		writable func(dir string) string      // what the reason names
	}{
		"trusted":            {},
		"trusted module":     {file: "x.wasm"},
		"relative":           {path: func(dir string) string { return filepath.Base(dir) }, reason: relative},
		"working directory":  {path: func(string) string { return "" }, reason: relative},
		"relative module":    {file: "x.wasm", path: func(dir string) string { return filepath.Base(dir) }, reason: relative},
		"writable directory": {spoil: func(dir, _ string) error { return os.Chmod(dir, 0o777) }, reason: writable, writable: func(dir string) string { return dir }},
		"sticky directory":   {spoil: func(dir, _ string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }, reason: writable, writable: func(dir string) string { return dir }},
		"writable file":      {spoil: func(_, file string) error { return os.Chmod(file, 0o777) }, reason: writable, writable: func(dir string) string { return filepath.Join(dir, "penstock-source-x") }},
		"writable module":    {file: "x.wasm", spoil: func(_, file string) error { return os.Chmod(file, 0o666) }, reason: writable, writable: func(dir string) string { return filepath.Join(dir, "x.wasm") }},
		"writable parent":    {spoil: func(dir, _ string) error { return os.Chmod(filepath.Dir(dir), 0o777) }, reason: writable, writable: filepath.Dir},
		"sticky parent":      {spoil: func(dir, _ string) error { return os.Chmod(filepath.Dir(dir), 0o777|os.ModeSticky) }},
		"group":              {spoil: func(dir, _ string) error { return os.Chmod(dir, 0o775) }},
		"link to a writable directory": {spoil: func(dir, file string) error {
			shared := filepath.Join(filepath.Dir(dir), "shared")
			if err := os.Mkdir(shared, 0o700); err != nil {
				return err
			}
			if err := os.Rename(file, filepath.Join(shared, "it")); err != nil {
				return err
			}
			if err := os.Symlink("../shared/it", file); err != nil {
				return err
			}
			return os.Chmod(shared, 0o777)
		}, reason: writable, writable: func(dir string) string { return filepath.Join(filepath.Dir(dir), "shared") }},
		"named by its path":                   {uri: func(dir string) string { return "plugin:" + dir + "/penstock-source-x" }},
		"named by a relative path":            {uri: func(dir string) string { return "plugin:./" + filepath.Base(dir) + "/penstock-source-x" }},
		"named by its path, sticky directory": {uri: func(dir string) string { return "plugin:" + dir + "/penstock-source-x" }, spoil: func(dir, _ string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }},
		"named by its path, writable": {uri: func(dir string) string { return "plugin:" + dir + "/penstock-source-x" }, spoil: func(_, file string) error { return os.Chmod(file, 0o777) },
			reason: writable, writable: func(dir string) string { return filepath.Join(dir, "penstock-source-x") }},
	} {
		t.Run(name, func(t *testing.T) {
			parent, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(parent, "plugins")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if name == "working directory" {
				t.Chdir(dir)
			} else {
				t.Chdir(parent)
			}
			if c.file == "" {
				c.file = "penstock-source-x"
			}
			file := filepath.Join(dir, c.file)
			if err := os.WriteFile(file, []byte("#!/bin/sh\nexit 5\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if c.spoil != nil {
				if err := c.spoil(dir, file); err != nil {
					t.Fatal(err)
				}
			}
			path, uri := dir, "x:"
			if c.path != nil {
				path = c.path(dir)
			}
			if c.uri != nil {
				uri = c.uri(dir)
			}
			h, err := host.New(host.Options{Walls: walls, PluginPath: []string{path}})
			if err != nil {
				t.Fatal(err)
			}
			defer closeHost(t, h)
			_, err = h.Open(t.Context(), uri)
			if c.reason == "" {
				if sources.KindOf(err) == sources.Denied || err == nil || strings.Contains(err.Error(), "there is no source") {
					t.Errorf("the plugin is not run: %v", err) // running it is an error too
				}
				return
			}
			want := c.reason
			if c.writable != nil {
				want += c.writable(dir) + ";"
			}
			if sources.KindOf(err) != sources.Denied || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}
