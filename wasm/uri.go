package wasm

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-data/penstock/sources"
)

// OpenURI opens a module by its configuration alone. It is the [sources.Open] of
// the URI scheme wasm, and of a process that serves a module. The URI is the path
// of the module's file, optionally with a query whose parameters are added to the
// options. These options configure the runner:
//
//	dir        a directory that the module can read; the module sees it as /data.
//	           Several are written PATH=/name, separated by the system's list
//	           separator
//	uri        the source's own URI; by default the module's path of the first dir
//	memory     the memory limit of each instance, as in 256MiB
//	cache      the directory that keeps compiled modules, or "none"; by default
//	           in the user's cache directory
//	clock      true lets the module read the real time
//	stall      the longest wait for the module in a call, as in 30s
//
// All other options are passed to the source. What the module writes to standard
// error is logged by the default logger.
func OpenURI(ctx context.Context, c sources.Config) (sources.Source, error) {
	return openURI(ctx, slog.Default(), c)
}

func openURI(ctx context.Context, logger *slog.Logger, c sources.Config) (sources.Source, error) {
	o, inner, err := parseConfig(c)
	if err != nil {
		return nil, sources.NewError(sources.Invalid, "open", "", err)
	}
	o.Logger = logger
	return Open(ctx, o, inner)
}

func parseConfig(c sources.Config) (Options, sources.Config, error) {
	var o Options
	inner := sources.Config{Options: maps.Clone(c.Options)}
	if inner.Options == nil {
		inner.Options = make(map[string]string)
	}
	file, query, _ := strings.Cut(strings.TrimPrefix(c.URI, "wasm:"), "?")
	o.Path = file
	if file == "" {
		return o, inner, fmt.Errorf("the URI names no module: write wasm:FILE.wasm?dir=DIRECTORY")
	}
	given, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B")) // which separates nothing
	if err != nil {
		// The query may contain a secret, and so may the parser's error.
		return o, inner, fmt.Errorf("the query of the URI of %s is malformed", file)
	}
	for k, v := range given {
		if _, twice := inner.Options[k]; twice || len(v) > 1 && k != "dir" {
			return o, inner, fmt.Errorf("the option %q is given twice", k)
		}
		inner.Options[k] = strings.Join(v, string(os.PathListSeparator))
	}
	take := func(key string) (string, bool) {
		v, ok := inner.Options[key]
		delete(inner.Options, key)
		return v, ok
	}
	if dirs, ok := take("dir"); ok {
		if o.Dirs, err = parseDirs(dirs); err != nil {
			return o, inner, err
		}
		inner.URI = o.Dirs[0].Guest
	}
	if uri, ok := take("uri"); ok {
		inner.URI = uri
	}
	if text, ok := take("memory"); ok {
		if o.Memory, err = parseBytes(text); err != nil {
			return o, inner, fmt.Errorf("memory: %w", err)
		}
	}
	switch dir, ok := take("cache"); {
	case dir == "none":
	case ok:
		o.CacheDir = dir
	default:
		if user, err := os.UserCacheDir(); err == nil {
			o.CacheDir = filepath.Join(user, "penstock", "wasm")
		}
	}
	if text, ok := take("clock"); ok {
		if o.Clock, err = strconv.ParseBool(text); err != nil {
			return o, inner, fmt.Errorf("clock must be true or false (got %q)", text)
		}
	}
	if text, ok := take("stall"); ok {
		if o.StallTimeout, err = time.ParseDuration(text); err != nil || o.StallTimeout <= 0 {
			return o, inner, fmt.Errorf("stall must be a positive duration, as in 30s (got %q)", text)
		}
	}
	return o, inner, nil
}

// parseDirs parses a list of PATH or PATH=/name.
func parseDirs(list string) ([]Dir, error) {
	var dirs []Dir
	for i, d := range filepath.SplitList(list) {
		host, guest := d, "/data"
		if at := strings.LastIndex(d, "=/"); at >= 0 {
			host, guest = d[:at], d[at+1:]
		} else if i > 0 {
			guest = fmt.Sprintf("/data%d", i+1)
		}
		if host == "" {
			return nil, fmt.Errorf("dir: a directory without a name")
		}
		dirs = append(dirs, Dir{Host: host, Guest: guest})
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("dir: no directory is named")
	}
	return dirs, nil
}

var byteUnits = map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// parseBytes parses a size, as in 256MiB.
func parseBytes(text string) (int64, error) {
	digits := strings.TrimRight(text, "BKMGi")
	unit, ok := byteUnits[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 0 || n > maxMemory/unit {
		return 0, fmt.Errorf("%q is not a size up to 4GiB: write a number and one of %s", text,
			strings.Join(slices.DeleteFunc(slices.Sorted(maps.Keys(byteUnits)), func(u string) bool { return u == "" }), ", "))
	}
	return n * unit, nil
}
