package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// TestMixedConnections: a connection keeps the settings that its role had when it was opened. If
// those of a source differ, its tables have no version by which a cache could keep their rows.
func TestMixedConnections(t *testing.T) {
	admin := pgtest.Start(t).Database(t, "CREATE TABLE a (id int PRIMARY KEY); CREATE ROLE mixed LOGIN PASSWORD 'secret'; GRANT SELECT ON a TO mixed")
	t.Cleanup(func() {
		if err := pgtest.Run(context.Background(), admin, "DROP OWNED BY mixed; DROP ROLE mixed"); err != nil {
			t.Error(err)
		}
	})
	uri, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	uri.User = url.UserPassword("mixed", "secret")
	source, err := postgres.Open(t.Context(), sources.Config{URI: uri.String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the sessions
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
	version := func(s sources.Session) string {
		t.Helper()
		plan, err := s.Plan(t.Context(), &sources.Query{Table: "a"})
		if err != nil {
			t.Fatal(err)
		}
		return plan.Version
	}
	begin := func() sources.Session {
		t.Helper()
		s, err := source.Begin(t.Context(), sources.Env{MaxScans: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	first := begin()
	second := begin() // on a connection of its own
	if a, b := version(first), version(second); a != "" || b != "" {
		t.Errorf("connections with the same settings have the versions %q and %q", a, b)
	}
	if err := pgtest.Run(t.Context(), admin, "ALTER ROLE mixed SET app.tenant = 'secret tenant'"); err != nil {
		t.Fatal(err)
	}
	third := begin()
	for _, s := range []sources.Session{first, second, third} {
		if a, b := version(s), version(s); a == b || a == "" {
			t.Errorf("after ALTER ROLE SET the versions are %q and %q", a, b)
		}
	}
	catalog, err := source.Catalog(t.Context())
	if err != nil || catalog.Identity == "" || strings.Contains(catalog.Identity, "secret") || strings.Contains(catalog.Identity, "mixed") {
		t.Errorf("the identity is %q, %v", catalog.Identity, err)
	}
}
