package host

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// ParseURI splits a URI into the name of its source and the source's
// configuration. In "csv:shop?header=false" the name is a prefix; the text up to
// the first question mark is taken literally, so paths need no escapes, and the
// rest are the options, in which a semicolon is an ordinary character. In "postgres://host/db?sslmode=require" the name is the
// scheme of a URL, which the source receives whole.
//
// The values of an option that occurs several times are joined by newlines.
//
// Errors contain at most the name: the rest of a URI may be secret.
func ParseURI(uri string) (name string, c sources.Config, err error) {
	name, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return "", c, fmt.Errorf("%q names no source: write SOURCE:WHERE, as in csv:%s", uri, uri)
	}
	if !isName(name) {
		return "", c, fmt.Errorf("%q is not the name of a source: write SOURCE:WHERE, as in csv:DIR", name)
	}
	if strings.HasPrefix(rest, "//") {
		return name, sources.Config{URI: uri}, nil
	}
	rest, query, _ := strings.Cut(rest, "?")
	c.URI = rest
	values, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B")) // which separates nothing
	if err != nil {
		return "", c, fmt.Errorf("the options after the ? of the %s URI are malformed: write ?key=value&key=value, with %%26 for & and %%25 for %%", name)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if c.Options == nil {
			c.Options = map[string]string{}
		}
		c.Options[key] = strings.Join(values[key], "\n")
	}
	return name, c, nil
}

// isName reports whether s can be the name of a source: a letter followed by
// letters, digits, - and _. No path or URL is a valid name.
func isName(s string) bool {
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		other := '0' <= r && r <= '9' || r == '-' || r == '_'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}
