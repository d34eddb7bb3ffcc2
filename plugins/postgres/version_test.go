package postgres_test

import (
	"strings"
	"testing"

	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// TestVersion checks that the version is the same until there is a write, and the same
// within a session.
func TestVersion(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `
		CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int);
		CREATE TABLE changes (name text, at int); INSERT INTO changes VALUES ('a', 1), ('b', 5)`)
	version := func(s sources.Session, table string) string {
		t.Helper()
		plan, err := s.Plan(t.Context(), &sources.Query{Table: table})
		if err != nil {
			t.Fatal(err)
		}
		return plan.Version
	}
	write := func(sql string) {
		t.Helper()
		if err := pgtest.Run(t.Context(), uri, sql); err != nil {
			t.Fatal(err)
		}
	}
	fresh := func(option, table string) string {
		t.Helper()
		src, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: map[string]string{"version": option}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = src.Close() }()
		s, err := src.Begin(t.Context(), sources.Env{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		return version(s, table)
	}
	_, none := open(t, uri, sources.Limits{})
	if v := version(none, "a"); v != "" {
		t.Errorf("without the option the version is %q", v)
	}
	_, old := openWith(t, uri, map[string]string{"version": "snapshot"}, sources.Limits{})
	before := version(old, "a")
	write("INSERT INTO a VALUES (1)")
	if v := version(old, "a"); v != before {
		t.Errorf("the session's version was %q and is %q", before, v)
	}
	if v := fresh("snapshot", "a"); v == before || v == "" {
		t.Errorf("after a write the version is %q", v)
	}
	// Other tests may write to the server in between, but not every time.
	same := false
	for range 200 {
		if same = fresh("snapshot", "a") == fresh("snapshot", "b"); same {
			break
		}
	}
	if !same {
		t.Error("nothing was written, and the version is another every time")
	}

	own := "SELECT max(at) FROM changes WHERE name = $1"
	if a, b := fresh(own, "a"), fresh(own, "b"); a != "1" || b != "5" {
		t.Errorf("the versions are %q and %q", a, b)
	}
	write("UPDATE changes SET at = 2 WHERE name = 'a'")
	if a, b := fresh(own, "a"), fresh(own, "b"); a != "2" || b != "5" {
		t.Errorf("the versions are %q and %q", a, b)
	}
	if v := fresh("SELECT 'all'", "a"); v != "all" {
		t.Errorf("the version is %q", v)
	}

	for option, want := range map[string]string{
		"SELECT max(at) FROM changes WHERE name = $1 AND at > 99": "must return one value",
		"SELECT 1, 2":      "must return one value",
		"SELECT nothing":   "nothing",
		"SELECT at FROM a": "at",
	} {
		_, s := openWith(t, uri, map[string]string{"version": option}, sources.Limits{})
		if _, err := s.Plan(t.Context(), &sources.Query{Table: "a"}); err == nil || !strings.HasPrefix(err.Error(), "plan a: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", option, err)
		}
		if rows := text(t, s.Scan(t.Context(), &sources.Query{Table: "a"})); len(rows) != 1 {
			t.Errorf("%s: after the fault %q", option, rows)
		}
	}
	if _, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: map[string]string{"version": "always"}}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("an odd version: %v", err)
	}
}

// TestState checks that the state of a table is the same in two sessions only if nothing
// was written in between, and if all of its rows are in this database.
func TestState(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `
		CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE other (id int); CREATE VIEW v AS TABLE a; CREATE MATERIALIZED VIEW m AS TABLE a;
		CREATE TABLE guarded (id int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
		CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1);
		CREATE TABLE far (id int) PARTITION BY LIST (id);
		CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
		CREATE FOREIGN TABLE far_1 PARTITION OF far FOR VALUES IN (1) SERVER files OPTIONS (program 'echo 1');
		CREATE TABLE parent (id int); CREATE FOREIGN TABLE child () INHERITS (parent) SERVER files OPTIONS (program 'echo 1');
		CREATE FOREIGN TABLE remote (id int) SERVER files OPTIONS (program 'echo 1')`)
	elsewhere := []string{"v", "guarded", "far", "parent", "remote"}
	states := func(options map[string]string) map[string]string {
		t.Helper()
		src, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: options})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = src.Close() }()
		s, err := src.Begin(t.Context(), sources.Env{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		got := map[string]string{}
		for _, table := range append([]string{"a", "m", "p"}, elsewhere...) {
			plan, err := s.Plan(t.Context(), &sources.Query{Table: table})
			if err != nil {
				t.Fatal(err)
			}
			if plan.State == "" {
				t.Errorf("%s has no state", table)
			}
			got[table] = plan.State
		}
		return got
	}
	write := func(sql string) {
		t.Helper()
		if err := pgtest.Run(t.Context(), uri, sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, option := range []map[string]string{nil, {"snapshot": "none"}, {"version": "snapshot"}} {
		// Other tests may write to the server in between, but not every time.
		same := false
		for range 200 {
			first, second := states(option), states(option)
			for _, table := range elsewhere {
				if first[table] == second[table] && option["version"] == "" {
					t.Errorf("%v: %s has the same state %q in two sessions", option, table, second[table])
				}
			}
			same = first["a"] == second["a"] && first["m"] == second["m"] && first["p"] == second["p"]
			if same {
				break
			}
		}
		if !same {
			t.Errorf("%v: nothing was written, and the state is another every time", option)
		}
		before := states(option)
		write("INSERT INTO other VALUES (1)")
		for table, state := range states(option) {
			if state == before[table] {
				t.Errorf("%v: after a write, %s still has the state %q", option, table, state)
			}
		}
	}
	chosen := map[string]string{"version": "SELECT count(*) FROM a"}
	before := states(chosen)
	write("INSERT INTO other VALUES (2)")
	if after := states(chosen); after["a"] != before["a"] || after["v"] != before["v"] {
		t.Errorf("the state is %q, and was %q, although the chosen version is the same", after["a"], before["a"])
	}
	write("INSERT INTO a VALUES (2)")
	if after := states(chosen); after["a"] == before["a"] {
		t.Errorf("the state is %q after a write that the chosen version tells", after["a"])
	}
}
