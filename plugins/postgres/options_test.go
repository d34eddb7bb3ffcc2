package postgres

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-data/penstock/sources"
)

func TestOptionsInTheURI(t *testing.T) {
	for _, c := range []struct {
		name    string
		given   sources.Config
		want    sources.Config
		refused string
	}{
		{
			name:  "ours leave the URI, the server's stay",
			given: sources.Config{URI: "postgres://u@h/db?schema=sales&sslmode=disable"},
			want:  sources.Config{URI: "postgres://u@h/db?sslmode=disable", Options: map[string]string{"schema": "sales"}},
		},
		{
			name:  "options of columns",
			given: sources.Config{URI: "postgres://u@h/db?numeric.orders.total=20,2&sslmode=disable"},
			want:  sources.Config{URI: "postgres://u@h/db?sslmode=disable", Options: map[string]string{"numeric.orders.total": "20,2"}},
		},
		{
			name:  "a space in a parameter of the server stays a space",
			given: sources.Config{URI: "postgres://u@h/db?options=-c%20statement_timeout%3D5s&schema=a+b&sslmode=disable"},
			want:  sources.Config{URI: "postgres://u@h/db?options=-c%20statement_timeout%3D5s&sslmode=disable", Options: map[string]string{"schema": "a b"}},
		},
		{
			name:  "the parameters of the server are as in libpq, but need fewer escapes",
			given: sources.Config{URI: "postgres://u@h/db?sslrootcert=/a+b c;d%2Bé&options=-c a=b -c b=c&&host=x&host=y"},
			want:  sources.Config{URI: "postgres://u@h/db?sslrootcert=%2Fa%2Bb%20c%3Bd%2B%C3%A9&options=-c%20a%3Db%20-c%20b%3Dc&host=x&host=y"},
		},
		{
			name:  "what pgx refuses is left to it",
			given: sources.Config{URI: "postgres://u@h/db?sslmode&options=%zz&schema=a"},
			want:  sources.Config{URI: "postgres://u@h/db?sslmode&options=%zz", Options: map[string]string{"schema": "a"}},
		},
		{
			name:  "a semicolon separates nothing",
			given: sources.Config{URI: "postgres://u@h/db?schemas=a;b"},
			want:  sources.Config{URI: "postgres://u@h/db", Options: map[string]string{"schemas": "a;b"}},
		},
		{
			name:  "relations may be repeated",
			given: sources.Config{URI: "postgres://u@h/db?relation=a.b->c.d&relation=e.f->g.h"},
			want:  sources.Config{URI: "postgres://u@h/db", Options: map[string]string{"relation": "a.b->c.d\ne.f->g.h"}},
		},
		{
			name:    "a lone percent sign",
			given:   sources.Config{URI: "postgres://u@h/db?schema=100%"},
			refused: `option "schema": the value is not percent-encoded: write %25 for a percent sign`,
		},
		{
			name:    "twice in the URI",
			given:   sources.Config{URI: "postgres://u@h/db?schema=a&schema=b"},
			refused: `option "schema": set twice`,
		},
		{
			name:  "none are there",
			given: sources.Config{URI: "postgres://u@h/db", Options: map[string]string{"schema": "sales"}},
			want:  sources.Config{URI: "postgres://u@h/db", Options: map[string]string{"schema": "sales"}},
		},
		{
			name:    "both ways at once",
			given:   sources.Config{URI: "postgres://u@h/db?schema=a", Options: map[string]string{"schema": "b"}},
			refused: `option "schema": set twice`,
		},
		{
			name:  "words and values are not a URL",
			given: sources.Config{URI: "host=h password=a?schema=b"},
			want:  sources.Config{URI: "host=h password=a?schema=b"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := fromQuery(c.given)
			if c.refused != "" {
				if err == nil || err.Error() != c.refused {
					t.Fatalf("the error is %v, want %s", err, c.refused)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

// FuzzOptions checks that any option is an error or gives options within their limits.
func FuzzOptions(f *testing.F) {
	for _, key := range append([]string{"numeric.t.c", "conections"}, optionNames...) {
		for _, value := range []string{"", "5s", "10", "strict", "null", "38,9", "text", "a.b->c.d", "a,b", "xmin"} {
			f.Add(key, value)
		}
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		o, err := parseOptions(map[string]string{key: value})
		if err != nil {
			if !strings.Contains(err.Error(), "option ") {
				t.Errorf("the error does not say that it is about an option: %v", err)
			}
			return
		}
		for _, d := range []*time.Duration{o.statementTimeout, o.lockTimeout, &o.snapshotLimit} {
			if d != nil && (*d < 0 || *d > 0 && *d < time.Millisecond) {
				t.Errorf("%q=%q: the timeout %s", key, value, *d)
			}
		}
		for _, d := range append(slices.Collect(maps.Values(o.numericOf)), o.numeric) {
			if d.scale < 0 || d.scale > d.precision || d.precision > 76 {
				t.Errorf("%q=%q: the decimal %+v", key, value, d)
			}
		}
		if o.connections < 2 || o.schema == "" || slices.Contains(o.schemas, "") {
			t.Errorf("%q=%q: %+v", key, value, o)
		}
	})
}

// FuzzURI checks that a URI keeps its parameters: each is one of ours or goes to the server.
func FuzzURI(f *testing.F) {
	for _, uri := range []string{"postgres://u@h/db?schema=sales&sslmode=disable", "postgres://u@h/db?options=-c%20a%3Db&&host=x&host=y", "postgres://u@h/db?sslmode&options=%zz&schema=a", "postgres://u:p%40@h/db?numeric.t.c=20,2"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		first, err := fromQuery(sources.Config{URI: uri})
		if err != nil {
			return
		}
		second, err := fromQuery(first)
		if err != nil {
			t.Fatalf("%q became %q: %v", uri, first.URI, err)
		}
		if diff := cmp.Diff(first, second, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: splitting again changes it (-first +second):\n%s", uri, diff)
		}
	})
}
