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

// Cache configures the cache of a host. It keeps the results of queries, so that a
// stream of the same query need not read them from the source again. Its memory is
// charged to the host's budget, and shrinks when streams need memory. A field that is
// zero has its default; see [cache.Options].
type Cache struct {
	MaxBytes      int64         // the maximum memory of the cache, in bytes
	MaxEntries    int           // the maximum number of results in memory
	MaxEntryBytes int64         // the maximum size of one result, in bytes; larger ones are not cached
	TTL           time.Duration // how long a result stays valid after its read began
	// Store, if non-nil, also keeps results when they are no longer in memory, and for
	// later processes, such as the directory that cachedir.Open returns. The host
	// closes it; if [New] fails, the caller still owns it.
	Store cache.Store
}

// open returns the cache for a host.
func (c *Cache) open(h *Host) (*cache.Cache, error) {
	return cache.New(cache.Options{
		Budget: h.budget, MaxBytes: c.MaxBytes, MaxEntries: c.MaxEntries, MaxEntryBytes: c.MaxEntryBytes, TTL: c.TTL, Store: c.Store,
	})
}

// Cache returns the host's cache, or nil if [Options.Cache] is nil.
func (h *Host) Cache() *cache.Cache { return h.cache }

// Identity returns the fingerprint by which the cache identifies the source. It covers
// the source's kind and code, its address and options, and the user whose permissions
// it has. Sources with the same identity return the same rows. The identity is
// specific to the user and the machine.
func (s *Source) Identity() query.Fingerprint { return s.identity }

// identify returns the identity of a source that is about to be opened. An address
// that is not a URL may be relative to the working directory, so that is part of
// it, as are the variables that a PostgreSQL client reads. Sizes and times of files
// stand for the source's code, as they do for a compiler.
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
