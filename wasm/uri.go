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

// OpenURI opens a module by its configuration alone: it is the [sources.Open]
// to serve from a process of its own, and for the scheme wasm of URIs. The URI is
// the module's file, and may have a query, which is read into the options; these
// are the runner's:
//
//	dir        a directory that the module can read, as /data. More than one is
//	           written PATH=/name, separated by the system's list separator
//	uri        the source's own URI; else the module's path of the first dir
//	memory     the cap on the module's memory, as in 256MiB
//	cache      where compiled modules are kept; "none" for nowhere, else the
//	           user's cache directory
//	clock      true gives the module the real time
//	stall      how long a call may wait for the module, as in 30s
//
// All others are the source's own. What the module writes to standard error goes
// to the default logger.
func OpenURI(ctx context.Context, c sources.Config) (sources.Source, error) {
	o, inner, err := parseConfig(c)
	if err != nil {
		return nil, &sources.Error{Op: "open", Kind: sources.Invalid, Err: err}
	}
	o.Logger = slog.Default()
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
		return o, inner, fmt.Errorf("the URI names no module; write wasm:FILE.wasm?dir=DIRECTORY")
	}
	given, err := url.ParseQuery(query)
	if err != nil {
		// The query may hold a secret, and so may what the parser says of it.
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
			return o, inner, fmt.Errorf("clock: %q is neither true nor false", text)
		}
	}
	if text, ok := take("stall"); ok {
		if o.Stall, err = time.ParseDuration(text); err != nil || o.Stall <= 0 {
			return o, inner, fmt.Errorf("stall: %q is not a time, as in 30s", text)
		}
	}
	return o, inner, nil
}

// parseDirs reads PATH or PATH=/name, any number of them.
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

// parseBytes reads a size as in 256MiB.
func parseBytes(text string) (int64, error) {
	digits := strings.TrimRight(text, "BKMGi")
	unit, ok := byteUnits[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 0 || n > maxMemory/unit {
		return 0, fmt.Errorf("%q is not a size up to 4GiB; write a number and one of %s", text,
			strings.Join(slices.DeleteFunc(slices.Sorted(maps.Keys(byteUnits)), func(u string) bool { return u == "" }), ", "))
	}
	return n * unit, nil
}
