package host

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// pluginPrefix begins the file names of executables that are plugins.
const pluginPrefix = "penstock-source-"

// DefaultPluginPath returns the default of [Options.PluginPath], in the order of
// the search: the directory of the running executable, the directories that
// $PENSTOCK_PLUGIN_PATH lists, and penstock/plugins in the user's data directory
// ($XDG_DATA_HOME or ~/.local/share; on macOS ~/Library/Application Support; on
// Windows %LocalAppData%). They need not exist.
func DefaultPluginPath() []string {
	var dirs []string
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, dir := range filepath.SplitList(os.Getenv("PENSTOCK_PLUGIN_PATH")) {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	if data := dataDir(); data != "" {
		dirs = append(dirs, filepath.Join(data, "penstock", "plugins"))
	}
	return dirs
}

func dataDir() string {
	home, err := os.UserHomeDir()
	switch {
	case runtime.GOOS == "windows":
		return os.Getenv("LocalAppData")
	case runtime.GOOS == "darwin" && err == nil:
		return filepath.Join(home, "Library", "Application Support")
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "share")
}

// executableName returns the file name of a source that is an executable.
func executableName(name string) string {
	if runtime.GOOS == "windows" {
		return pluginPrefix + name + ".exe"
	}
	return pluginPrefix + name
}

// moduleName returns the file name of a source that is a WebAssembly module.
func moduleName(name string) string { return name + ".wasm" }

// find returns the path of the first file of that name on the plugin path, or ""
// if there is none. If others may decide what the file contains, the error is of kind
// [sources.Denied].
func (h *Host) find(file string) (string, error) {
	for _, dir := range h.options.PluginPath {
		path := filepath.Join(dir, file)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if !filepath.IsAbs(dir) {
			return "", denied("the plugin %s is not used: the directory %q of the plugin path is relative, so what it means depends on where the program runs; write an absolute path", file, dir)
		}
		// In a directory that everyone can write to, anybody may have made the file, also if
		// the directory is sticky as /tmp is.
		if info, err := os.Stat(dir); err == nil && isWritable(info) {
			return "", notTrusted(path, dir)
		}
		return path, checkTrust(path)
	}
	return "", nil
}

func denied(format string, args ...any) error {
	return sources.Errorf(sources.Denied, "open", "", format, args...)
}

func notTrusted(plugin, writable string) error {
	return denied("the plugin %s is not used: every user of this machine can write to %s; to trust it, run chmod o-w %s", plugin, writable, writable)
}

// checkTrust returns an error of kind [sources.Denied] if every user of the machine can change
// or replace a file, under its own name or the one that a link leads to. Files in a sticky
// directory can be replaced only by their owner.
func checkTrust(file string) error {
	absolute, err := filepath.Abs(file)
	if err != nil {
		return sources.NewError(sources.Internal, "open", "", err)
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return sources.NewError(sources.KindOf(err), "open", "", err)
	}
	for _, path := range []string{absolute, resolved} {
		for at := path; ; at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err != nil {
				return sources.NewError(sources.KindOf(err), "open", "", err)
			}
			if isWritable(info) && (at == path || info.Mode()&fs.ModeSticky == 0) {
				return notTrusted(file, at)
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return nil
}

// isWritable reports whether every user of the machine can write to a file or directory.
// Windows has no such bit.
func isWritable(info fs.FileInfo) bool { return runtime.GOOS != "windows" && info.Mode()&0o002 != 0 }

// known returns the names of all sources that the host can open, linked in or on
// the plugin path, in order.
func (h *Host) known() []string {
	names := []string{"plugin", "wasm"}
	for name := range h.options.Sources {
		names = append(names, name)
	}
	for _, dir := range h.options.PluginPath {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // a directory of the path need not exist
		}
		for _, e := range entries {
			name := strings.TrimSuffix(e.Name(), ".exe")
			if plugin, ok := strings.CutPrefix(name, pluginPrefix); ok {
				names = append(names, plugin)
			} else if module, ok := strings.CutSuffix(name, ".wasm"); ok {
				names = append(names, module)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
