package main

import (
	"context"
	"net/url"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/penstock-data/penstock/testkit/pgtest"
)

const postgresSQL = `CREATE TABLE kinds (id int PRIMARY KEY); INSERT INTO kinds SELECT generate_series(0, 2);
CREATE TABLE lines (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind_id int NOT NULL REFERENCES kinds, price numeric(8,2) NOT NULL, note text);
INSERT INTO lines (kind_id, price, note) SELECT i % 3, i / 100.0, repeat('n', 150) FROM generate_series(1, 60000) i;
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (x int, y text);
CREATE TABLE types (id int PRIMARY KEY, n numeric(38,9), at timestamptz, every interval, mood mood, tags text[], pair pair, net inet, doc jsonb);
INSERT INTO types VALUES (1, 12345678901234567890.123456789, '2024-02-29 12:00+02', '1 month 2 days', 'ok', '{a,NULL}', '(1,two)', '10.0.0.1', '{"a": 1}');
CREATE TABLE usr (id int PRIMARY KEY, name text); INSERT INTO usr VALUES (1, 'Ada'), (2, 'Bob');
CREATE SCHEMA before; CREATE TABLE before.usr (LIKE public.usr INCLUDING ALL); INSERT INTO before.usr TABLE usr;
CREATE TABLE before.inv (id int PRIMARY KEY, creator_id int REFERENCES before.usr, approver_id int); INSERT INTO before.inv VALUES (1, 1, 2);
CREATE TABLE inv (id int PRIMARY KEY, creator_id int REFERENCES usr, approver_id int REFERENCES usr); INSERT INTO inv VALUES (1, 1, 2);
CREATE TABLE parts (id int, usr_id int) PARTITION BY LIST (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 (usr_id int REFERENCES usr, id int); ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
ALTER TABLE parts_1 ADD FOREIGN KEY (usr_id) REFERENCES usr; INSERT INTO parts VALUES (1, 2), (2, 1);
CREATE TABLE special (id int PRIMARY KEY, d date); INSERT INTO special VALUES (1, 'infinity');
CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, since date, note text);
INSERT INTO accounts SELECT i, 100, CASE WHEN i = 50000 THEN date 'infinity' ELSE date '2024-01-01' END, repeat('n', 150) FROM generate_series(1, 60000) i;
CREATE TABLE keyless AS TABLE accounts; CREATE TABLE changes (n int); INSERT INTO changes VALUES (1);
CREATE ROLE penstock_reader LOGIN PASSWORD 'reads'; GRANT SELECT ON kinds TO penstock_reader; GRANT SELECT (id) ON usr TO penstock_reader;
ANALYZE;`

// TestPostgresScripts runs the scripts that need a server. It starts one, whose
// address is $PG for its owner, and $PG_READER for a role that may read little.
func TestPostgresScripts(t *testing.T) {
	uri := pgtest.Start(t).Database(t, postgresSQL)
	t.Cleanup(func() {
		if err := pgtest.Run(context.Background(), uri, "DROP OWNED BY penstock_reader; DROP ROLE penstock_reader;"); err != nil {
			t.Error(err)
		}
	})
	reader, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	reader.User = url.UserPassword("penstock_reader", "reads")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/postgres",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode, "tokenof": tokenOf, "digestof": digestOf, "sql": func(ts *testscript.TestScript, _ bool, args []string) {
			ts.Check(pgtest.Run(t.Context(), uri, args[0]))
		}},
		Setup: func(e *testscript.Env) error {
			e.Setenv("PG", uri)
			e.Setenv("PG_READER", reader.String())
			return nil
		},
	})
}
