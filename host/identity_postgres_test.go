package host_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-data/penstock/testkit/pgtest"
)

// tenancy has a view that tells who asks and a setting, and a table with row-level security.
const tenancy = `
CREATE TABLE everyone (id int PRIMARY KEY, tenant text, owner text);
INSERT INTO everyone VALUES (1, 'one', '%[1]s_a'), (2, 'two', '%[1]s_b'), (3, '%[1]s_group', 'nobody');
ALTER TABLE everyone ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON everyone USING (owner = current_user OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = tenant AND pg_has_role(r.oid, 'MEMBER')));
CREATE FUNCTION tenant() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting('app.tenant', true) $$;
CREATE VIEW me AS SELECT current_user::text AS who, tenant() AS tenant, current_setting('enable_hashjoin') AS hashjoin;
CREATE ROLE %[1]s_a LOGIN PASSWORD 'x'; CREATE ROLE %[1]s_b LOGIN PASSWORD 'x'; CREATE ROLE %[1]s_group;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO public;`

// TestPostgresChanges lists ways to change what a database answers without a write to the table,
// and some that change nothing.
func TestPostgresChanges(t *testing.T) {
	server := pgtest.Start(t)
	for i, c := range []struct {
		name  string
		table string // me or everyone
		uri   func(db, service string) string
		sql   string // that changes the answer; %[1]s is the prefix of roles, %[2]s the database
		env   map[string]string
		role  string // of the service file, after the change
		same  bool
	}{
		{name: "role of a service file", table: "everyone", role: "b", uri: func(string, string) string { return "postgres://?service=shop" }},
		{name: "role of a service file named by the environment", table: "me", role: "b", uri: func(string, string) string { return "postgres://" }},
		{name: "service file written again", table: "me", role: "a", same: true, uri: func(string, string) string { return "postgres://?service=shop" }},
		{name: "PGUSER", table: "everyone", env: map[string]string{"PGUSER": "b"}},
		{name: "PGOPTIONS", table: "me", env: map[string]string{"PGOPTIONS": "-c app.tenant=two"}},
		{name: "PGAPPNAME", table: "me", env: map[string]string{"PGAPPNAME": "other"}, same: true},
		{name: "another variable", table: "me", env: map[string]string{"PENSTOCK_TEST": "other"}, same: true},
		{name: "ALTER ROLE SET", table: "me", sql: "ALTER ROLE %[1]s_a SET app.tenant = 'two'"},
		{name: "ALTER ROLE SET of a setting of the server", table: "me", sql: "ALTER ROLE %[1]s_a SET enable_hashjoin = off"},
		{name: "ALTER ROLE IN DATABASE SET", table: "me", sql: "ALTER ROLE %[1]s_a IN DATABASE %[2]s SET app.tenant = 'two'"},
		{name: "ALTER DATABASE SET", table: "me", sql: "ALTER DATABASE %[2]s SET app.tenant = 'two'"},
		{name: "ALTER ROLE SET of another role", table: "me", sql: "ALTER ROLE %[1]s_b SET app.tenant = 'two'", same: true},
		{name: "GRANT role", table: "everyone", sql: "GRANT %[1]s_group TO %[1]s_a"},
		{name: "BYPASSRLS", table: "everyone", sql: "ALTER ROLE %[1]s_a BYPASSRLS"},
		{name: "no more row-level security", table: "everyone", sql: "ALTER TABLE everyone DISABLE ROW LEVEL SECURITY"},
		{name: "another policy", table: "everyone", sql: "ALTER POLICY own ON everyone USING (true)"},
		{name: "another view", table: "me", sql: "CREATE OR REPLACE VIEW me AS SELECT 'x'::name::text AS who, '' AS tenant, 'y' AS hashjoin"},
		{name: "another function", table: "me", sql: "CREATE OR REPLACE FUNCTION tenant() RETURNS text STABLE LANGUAGE sql AS $$ SELECT 'other' $$"},
		{name: "another owner of a view", table: "owned", sql: "ALTER VIEW owned OWNER TO postgres"},
		{name: "a vacuum", table: "everyone", sql: "VACUUM ANALYZE everyone", same: true},
		{name: "another table", table: "everyone", sql: "CREATE TABLE more (id int)", same: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := fmt.Sprintf("identity_%d", i)
			script := fmt.Sprintf(tenancy, prefix)
			if c.table == "owned" {
				script += fmt.Sprintf("\nCREATE VIEW owned AS SELECT id FROM everyone; ALTER VIEW owned OWNER TO %[1]s_a; GRANT SELECT ON owned TO public;", prefix)
			}
			admin := server.Database(t, script)
			t.Cleanup(func() {
				drop := fmt.Sprintf("ALTER VIEW IF EXISTS owned OWNER TO postgres; DROP ROLE %[1]s_a; DROP ROLE %[1]s_b; DROP ROLE %[1]s_group", prefix)
				for _, role := range []string{"a", "b"} {
					drop = fmt.Sprintf("DROP OWNED BY %s_%s; ", prefix, role) + drop
				}
				if err := pgtest.Run(context.Background(), admin, drop); err != nil {
					t.Error(err)
				}
			})
			at, err := url.Parse(admin)
			if err != nil {
				t.Fatal(err)
			}
			db := strings.TrimPrefix(at.Path, "/")
			service := filepath.Join(t.TempDir(), "services")
			write := func(role string) {
				text := fmt.Sprintf("[shop]\nhost=%s\nport=%s\ndbname=%s\nuser=%s_%s\npassword=x\nsslmode=disable\n", at.Hostname(), at.Port(), db, prefix, role)
				if err := os.WriteFile(service, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("a")
			t.Setenv("PGSERVICEFILE", service)
			t.Setenv("PGUSER", prefix+"_a")
			t.Setenv("PGPASSWORD", "x")
			uri := fmt.Sprintf("postgres://%s/%s?sslmode=disable", at.Host, db)
			if c.uri != nil {
				uri = c.uri(db, service)
				t.Setenv("PGUSER", "")
			}
			if uri == "postgres://" {
				t.Setenv("PGSERVICE", "shop")
			}
			q := question{uri: func() string { return uri }, table: c.table}
			checkChange(t, q, true, !c.same, func() {
				for key, value := range c.env {
					if key == "PGUSER" {
						value = prefix + "_" + value
					}
					t.Setenv(key, value)
				}
				if c.role != "" {
					write(c.role)
				}
				if c.sql != "" {
					sql := strings.NewReplacer("%[1]s", prefix, "%[2]s", db).Replace(c.sql)
					if err := pgtest.Run(t.Context(), admin, sql); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}
