package main

import (
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
CREATE TABLE special (id int PRIMARY KEY, d date); INSERT INTO special VALUES (1, 'infinity');
ANALYZE;`

// TestPostgresScripts runs the scripts that need a server. It starts one, whose
// address is $PG.
func TestPostgresScripts(t *testing.T) {
	uri := pgtest.Start(t).Database(t, postgresSQL)
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/postgres",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode},
		Setup: func(e *testscript.Env) error {
			e.Setenv("PG", uri)
			return nil
		},
	})
}
