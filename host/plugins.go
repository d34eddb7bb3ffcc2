package host

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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
// if there is none.
func (h *Host) find(file string) string {
	for _, dir := range h.options.PluginPath {
		path := filepath.Join(dir, file)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

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
