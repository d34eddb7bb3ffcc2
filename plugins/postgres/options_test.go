package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"

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
