package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// pluginPrefix is what the names of plugins' executables begin with.
const pluginPrefix = "penstock-source-"

// DefaultPluginPath returns the directories in which plugins are looked for when
// nobody says otherwise, in order: that of the running executable, those that
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

// executableName is the file of a source that is a process.
func executableName(name string) string {
	if runtime.GOOS == "windows" {
		return pluginPrefix + name + ".exe"
	}
	return pluginPrefix + name
}

// moduleName is the file of a source that is a WebAssembly module.
func moduleName(name string) string { return name + ".wasm" }

// find returns the first file of that name on the plugin path; "" where there
// is none.
func (h *Host) find(file string) string {
	for _, dir := range h.options.PluginPath {
		path := filepath.Join(dir, file)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// known are the names of all sources that the host could open: those that are
// linked in, and those on the plugin path.
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

// grant gives a module the directory of the path that a URI names, and returns
// the configuration for the module's runner: the module sees the directory as
// /data and nothing else. Where the path is a file or a pattern of files, that is
// the directory that holds them.
func grant(module string, c sources.Config) (sources.Config, error) {
	if strings.Contains(c.URI, "://") {
		return c, &sources.Error{Op: "open", Kind: sources.Denied, Err: errors.New("a WebAssembly module reads files, and this URI is a server's: use --isolation process, or open the module itself with wasm:FILE.wasm?uri=URI")}
	}
	dir, inside := c.URI, "/data"
	if info, err := os.Stat(c.URI); err != nil || !info.IsDir() {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return c, &sources.Error{Op: "open", Kind: sources.KindOf(err), Err: err}
		}
		dir, inside = filepath.Dir(c.URI), "/data/"+filepath.Base(c.URI)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return c, &sources.Error{Op: "open", Kind: sources.NotFound, Err: fmt.Errorf("%s: no such file or directory", c.URI)}
		}
	}
	if _, taken := c.Options["dir"]; taken {
		return c, &sources.Error{Op: "open", Kind: sources.Invalid, Err: errors.New(`the option "dir" is the runner's: the module is given the directory that the URI names`)}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return c, &sources.Error{Op: "open", Kind: sources.Internal, Err: err}
	}
	if strings.ContainsRune(dir, os.PathListSeparator) {
		return c, &sources.Error{Op: "open", Kind: sources.Invalid, Err: fmt.Errorf("%s: a directory with %q in its name cannot be given to a module", dir, os.PathListSeparator)}
	}
	options := map[string]string{"dir": dir + "=/data", "uri": inside}
	for k, v := range c.Options {
		options[k] = v
	}
	return sources.Config{URI: module, Options: options}, nil
}
