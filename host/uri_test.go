package host

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

func TestURIs(t *testing.T) {
	for _, c := range []struct {
		uri, name string
		want      sources.Config
	}{
		{"csv:shop", "csv", sources.Config{URI: "shop"}},
		{"csv:/a dir/100%.csv", "csv", sources.Config{URI: "/a dir/100%.csv"}},
		{`csv:C:\data`, "csv", sources.Config{URI: `C:\data`}},
		{"csv:", "csv", sources.Config{}},
		{"csv:shop?header=false&delimiter=%26", "csv", sources.Config{URI: "shop", Options: map[string]string{"header": "false", "delimiter": "&"}}},
		{"csv:shop?null=x&null=-", "csv", sources.Config{URI: "shop", Options: map[string]string{"null": "x\n-"}}},
		{"csv:shop?delimiter=;&heder=x", "csv", sources.Config{URI: "shop", Options: map[string]string{"delimiter": ";", "heder": "x"}}},
		{"csv:shop?", "csv", sources.Config{URI: "shop"}},
		{"postgres://u:p@h/db?sslmode=disable", "postgres", sources.Config{URI: "postgres://u:p@h/db?sslmode=disable"}},
		{"my-source_2:x", "my-source_2", sources.Config{URI: "x"}},
	} {
		name, got, err := ParseURI(c.uri)
		if err != nil {
			t.Errorf("%s: %v", c.uri, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" || name != c.name {
			t.Errorf("%s is of %q (-want +got):\n%s", c.uri, name, diff)
		}
	}
	for uri, part := range map[string]string{
		"data/shop":          "write SOURCE:WHERE, as in csv:data/shop",
		"":                   "names no source",
		":x":                 "not the name of a source",
		"./a:b":              "not the name of a source",
		"csv:x?a=%zz&pw=abc": "malformed",
	} {
		_, _, err := ParseURI(uri)
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "abc") {
			t.Errorf("%q: %v does not say %q", uri, err, part)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("csv:shop?header=false")
	f.Add("postgres://u@h/db")
	f.Fuzz(func(t *testing.T, uri string) {
		name, c, err := ParseURI(uri)
		if err == nil && (!isName(name) || !strings.HasPrefix(uri, name+":") || !strings.Contains(uri, c.URI)) {
			t.Errorf("%q is of %q with %q", uri, name, c.URI)
		}
	})
}
