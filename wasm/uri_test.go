package wasm

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-data/penstock/sources"
)

func TestParseConfig(t *testing.T) {
	separator := string(os.PathListSeparator)
	for name, c := range map[string]struct {
		in    sources.Config
		want  Options
		inner sources.Config
	}{
		"a query": {
			sources.Config{URI: "wasm:some/csv.wasm?dir=/my%20data&memory=64MiB&cache=none&delimiter=%3B"},
			Options{Path: "some/csv.wasm", Dirs: []Dir{{"/my data", "/data"}}, Memory: 64 << 20},
			sources.Config{URI: "/data", Options: map[string]string{"delimiter": ";"}},
		},
		"options": {
			sources.Config{URI: "csv.wasm", Options: map[string]string{"dir": "a" + separator + "b=/there", "uri": "/data/x.csv", "clock": "true", "stall": "3s", "cache": "/c", "header": "none"}},
			Options{Path: "csv.wasm", Dirs: []Dir{{"a", "/data"}, {"b", "/there"}}, Clock: true, StallTimeout: 3 * time.Second, CacheDir: "/c"},
			sources.Config{URI: "/data/x.csv", Options: map[string]string{"header": "none"}},
		},
		"twice the same": {
			sources.Config{URI: "csv.wasm?dir=a&dir=b&cache=none"},
			Options{Path: "csv.wasm", Dirs: []Dir{{"a", "/data"}, {"b", "/data2"}}},
			sources.Config{URI: "/data"},
		},
	} {
		before := cmp.Diff(nil, c.in.Options)
		o, inner, err := parseConfig(c.in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, o); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if diff := cmp.Diff(c.inner, inner, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if after := cmp.Diff(nil, c.in.Options); after != before {
			t.Errorf("%s: the caller's options were changed", name)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for uri, text := range map[string]string{
		"":                           "names no module",
		"wasm:?dir=x":                "names no module",
		"x.wasm?dir=":                "no directory",
		"x.wasm?dir==/data":          "without a name",
		"x.wasm?memory=lots":         "not a size",
		"x.wasm?memory=99GiB":        "not a size",
		"x.wasm?memory=1iB":          "not a size",
		"x.wasm?clock=perhaps":       "clock",
		"x.wasm?stall=0s":            "stall",
		"x.wasm?a=1&a=2":             `"a" is given twice`,
		"x.wasm?password=%zzhunter2": "malformed",
	} {
		_, _, err := parseConfig(sources.Config{URI: uri})
		if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", uri, err, text)
		}
	}
	if _, err := OpenURI(t.Context(), sources.Config{}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("no URI: %v", err)
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "7": 7, "7B": 7, "2KiB": 2048, "4GiB": 4 << 30} {
		if got, err := parseBytes(text); got != want || err != nil {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

// FuzzConfig checks that any configuration is an error without what the URI's query says, or
// gives options that make sense.
func FuzzConfig(f *testing.F) {
	f.Add("a.wasm?dir=/d&uri=/data&memory=256MiB&clock=true&stall=30s&cache=none", "dir", "/x=/y")
	f.Add("wasm:a.wasm", "memory", "1.5 GiB")
	f.Add("a.wasm?%zz=secret", "stall", "-1s")
	f.Fuzz(func(t *testing.T, uri, key, value string) {
		o, inner, err := parseConfig(sources.Config{URI: uri, Options: map[string]string{key: value}})
		if err != nil {
			return
		}
		if o.Path == "" || o.Memory < 0 || o.StallTimeout < 0 {
			t.Errorf("%q: %+v", uri, o)
		}
		for _, d := range o.Dirs {
			if d.Host == "" || !strings.HasPrefix(d.Guest, "/") {
				t.Errorf("%q: the directory %+v", uri, d)
			}
		}
		for _, key := range []string{"dir", "uri", "memory", "cache", "clock", "stall"} {
			if _, passed := inner.Options[key]; passed {
				t.Errorf("%q: the module gets the option %q", uri, key)
			}
		}
	})
}
