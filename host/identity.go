package host

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Identity returns the fingerprint by which the cache identifies the source, and by
// which [cache.Cache.Invalidate] removes its results. It covers the source's kind, its
// address and options, the user whose permissions it has, and the code that answers. The
// cache adds the identity of the catalog to it, which covers all that opening the
// source has found. Without a cache it is zero. It is specific to the user and the machine.
func (s *Source) Identity() query.Fingerprint { return s.identity.fingerprint }

// identity is what a host knows of the rows of a source before it is opened.
type identity struct {
	fingerprint query.Fingerprint
	openID      string // differs from that of every other open source of this process
	memoryOnly  bool   // the code that answers is not known
	// file is the executable or module that answers, and state what identified it when
	// its contents were hashed; nil if the application itself answers.
	file  string
	state os.FileInfo
}

// opens counts the identities.
var opens atomic.Uint64

// identify returns the identity of a source that is about to be opened. An address
// that is not a URL may be relative to the working directory, so that is part of it.
// What the source reads from its environment, all of it or what is granted to it, is not:
// the identity of its catalog covers that, and a source without one shares no results with
// others.
func (h *Host) identify(name string, c sources.Config) identity {
	build := thisBuild()
	id := identity{openID: fmt.Sprint("open ", opens.Add(1)), memoryOnly: !build.known}
	parts := []string{"host 2", name, c.URI, fmt.Sprint(os.Getuid()), build.id}
	for _, key := range slices.Sorted(maps.Keys(c.Options)) {
		parts = append(parts, key, c.Options[key])
	}
	if !strings.Contains(c.URI, "://") {
		dir, err := filepath.Abs(".")
		if err != nil {
			dir = err.Error()
		}
		parts = append(parts, "in", dir)
	}
	if file := h.codeFile(name, c); file != "" {
		// The state is taken first: if the file changes while it is hashed, the state
		// differs from then on.
		state, err := os.Stat(file)
		sum, err2 := hashFile(file)
		if err != nil || err2 != nil {
			id.memoryOnly, sum = true, id.openID
		}
		id.file, id.state = file, state
		parts = append(parts, "code", sum)
	}
	id.fingerprint = query.Identify(parts...)
	return id
}

// resources returns what the streams of the source identify its results by.
func (id *identity) resources() core.Resources {
	return core.Resources{SourceID: id.fingerprint, OpenID: id.openID, MemoryOnly: id.memoryOnly}
}

// isOutdated reports whether the file with the code has changed since it was hashed. The
// source's process may be started again at any time, and then other code answers.
func (id *identity) isOutdated() bool {
	if id.file == "" {
		return false
	}
	now, err := os.Stat(id.file)
	return err != nil || id.state == nil || !os.SameFile(id.state, now) || id.state.Size() != now.Size() || !id.state.ModTime().Equal(now.ModTime())
}

// codeFile returns the executable or module that answers for a source, or "" if the
// application itself does; see [Host.resolve].
func (h *Host) codeFile(name string, c sources.Config) string {
	_, isLinked := h.options.Sources[name]
	switch {
	case name == "plugin" && !isLinked:
		if path, err := exec.LookPath(c.URI); err == nil {
			return path
		}
		return c.URI
	case name == "wasm" && !isLinked:
		return c.URI
	case h.options.Isolation == Module:
		file, _ := h.find(moduleName(name)) // resolve returns the error
		return file
	case isLinked:
		return ""
	}
	file, err := h.find(executableName(name)) // resolve returns the error
	if file == "" && err == nil {
		file, _ = h.find(moduleName(name))
	}
	return file
}

// build identifies the code of a program.
type build struct {
	id    string
	known bool // not built from files with uncommitted changes
}

// thisBuild returns the identity of the running program. If it was built from a commit
// alone, that is what the build recorded, and otherwise the hash of its executable.
var thisBuild = sync.OnceValue(func() build {
	info, ok := debug.ReadBuildInfo()
	if ok {
		if id, known, ok := identifyBuild(info); ok {
			return build{id, known}
		}
	}
	file := "/proc/self/exe" // the program that runs, also if its file has been replaced
	if runtime.GOOS != "linux" {
		self, err := os.Executable()
		if err != nil {
			return build{"unknown", false}
		}
		file = self
	}
	sum, err := hashFile(file)
	return build{sum, err == nil}
})

// identifyBuild returns the identity that a build recorded, and whether it consists of
// committed files alone. It returns false for ok if the record does not say all that
// the code depends on.
func identifyBuild(info *debug.BuildInfo) (id string, known, ok bool) {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	switch {
	case settings["vcs.modified"] == "true":
		return query.Identify("modified", info.String()).String(), false, true
	case settings["vcs.modified"] != "false", settings["vcs.revision"] == "", settings["-trimpath"] == "true":
		return "", true, false // -trimpath leaves out the flags of the linker
	}
	for _, module := range info.Deps {
		if r := module.Replace; r != nil {
			module = r
		}
		if module.Sum == "" { // a directory, of which nothing is recorded
			return "", true, false
		}
	}
	return query.Identify("revision", info.String()).String(), true, true
}

// hashFile returns the hash of a file's contents.
func hashFile(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
