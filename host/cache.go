package host

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Cache is what a host remembers of what its streams have read, under the host's
// own budget: identical questions are answered once. The zero value of a field is
// its default.
type Cache struct {
	// Bytes, Entries, Answer and TTL are those of [cache.Options].
	Bytes   int64
	Entries int
	Answer  int64
	TTL     time.Duration
	// Dir is a directory in which answers are kept as well, for processes that come
	// later; empty is none. It holds what the tables hold, so it should be its
	// owner's alone. DirBytes is how much it holds; 0 is [DefaultCacheDirBytes].
	Dir      string
	DirBytes int64
}

// open opens the cache of a host.
func (c *Cache) open(h *Host) (*cache.Cache, error) {
	o := cache.Options{Budget: h.budget, MaxBytes: c.Bytes, MaxEntries: c.Entries, MaxEntryBytes: c.Answer, TTL: c.TTL}
	if c.Dir != "" {
		dir, err := OpenCacheDir(c.Dir, c.DirBytes, h.options.Logger)
		if err != nil {
			return nil, err
		}
		o.Store = dir
	}
	return cache.New(o)
}

// Cache is the host's; nil where [Options.Cache] is.
func (h *Host) Cache() *cache.Cache { return h.cache }

// Identity is what the cache knows the source by: its kind and code, its address
// and options, and whose permissions it has. Two sources with the same identity
// give the same answers. It is of this user and machine.
func (s *Source) Identity() query.Fingerprint { return s.identity }

// identify makes the identity of a source that is about to be opened. An address
// that is no URL may be relative to the working directory. What the environment
// says to a PostgreSQL client is part of an address. What the source's code is,
// files say by their size and time, as for a compiler.
func (h *Host) identify(name string, c sources.Config) query.Fingerprint {
	parts := []string{"host 1", name, c.URI, fmt.Sprint(os.Getuid())}
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
	for _, pair := range slices.Sorted(slices.Values(os.Environ())) {
		if strings.HasPrefix(pair, "PG") {
			parts = append(parts, pair)
		}
	}
	_, linked := h.options.Sources[name]
	code := []string{}
	switch {
	case (name == "plugin" || name == "wasm") && !linked:
		code = append(code, c.URI)
	case linked && h.options.Isolation != Module:
	default:
		code = append(code, h.find(executableName(name)), h.find(moduleName(name)))
	}
	if self, err := os.Executable(); err == nil {
		code = append(code, self)
	}
	for _, file := range code {
		parts = append(parts, file)
		if info, err := os.Stat(file); err == nil {
			parts = append(parts, fmt.Sprint(info.Size(), info.ModTime().UnixNano()))
		}
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		parts = append(parts, build.Main.Version)
	}
	return query.Identify(parts...)
}
