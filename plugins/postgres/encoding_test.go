package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// encodedDatabase creates a database with an encoding and returns its URI.
func encodedDatabase(t *testing.T, name, encoding, script string) string {
	t.Helper()
	server := pgtest.Start(t)
	if err := pgtest.Run(t.Context(), server.URI("postgres"), "CREATE DATABASE "+name+" ENCODING '"+encoding+"' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pgtest.Run(context.Background(), server.URI("postgres"), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	uri := server.URI(name)
	if err := pgtest.Run(t.Context(), uri, script); err != nil {
		t.Fatal(err)
	}
	return uri
}

// bytesSQL creates texts, names, labels and comments that are not valid UTF-8. The function
// raw returns the bytes of a text in hex.
const bytesSQL = `CREATE FUNCTION raw(hex text) RETURNS text LANGUAGE sql AS $$ SELECT convert_from(decode(hex, 'hex'), 'SQL_ASCII') $$;
CREATE TYPE pair AS (i int, s text);
CREATE TABLE good (id int PRIMARY KEY, s text); INSERT INTO good VALUES (1, 'caf' || raw('c3a9')), (2, 'x');
CREATE TABLE bad (id int PRIMARY KEY, s text, v varchar(9), a text[], p pair, j json);
INSERT INTO bad SELECT i, r, r, ARRAY['x', r], ROW(1, r)::pair, ('"' || r || '"')::json
  FROM generate_series(1, 4) i CROSS JOIN LATERAL (SELECT CASE i WHEN 3 THEN raw('636166e9') ELSE 'x' END) AS t(r);
CREATE VIEW mended AS SELECT id, convert_from(convert(convert_to(s::text, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'SQL_ASCII') AS s FROM bad;
CREATE TABLE named (id int PRIMARY KEY, e int);
DO $$ BEGIN
  EXECUTE 'CREATE TYPE mood AS ENUM (''sad'', ''' || raw('e9') || ''')';
  CREATE TABLE feels (id int PRIMARY KEY, m mood); EXECUTE 'INSERT INTO feels VALUES (1, ''sad''), (2, ''' || raw('e9') || ''')';
  EXECUTE 'COMMENT ON TABLE good IS ''' || raw('e9') || '''';
  EXECUTE 'COMMENT ON COLUMN good.s IS ''' || raw('e9') || '''';
  EXECUTE 'ALTER TABLE good ALTER s SET DEFAULT ''' || raw('e9') || '''';
  EXECUTE 'ALTER TABLE named RENAME e TO "' || raw('e9') || '"';
  EXECUTE 'CREATE TABLE "' || raw('e9') || '" (id int PRIMARY KEY)';
END $$;`

// TestUnknownEncoding reads a database that does not know the encoding of its text.
func TestUnknownEncoding(t *testing.T) {
	src, ses := open(t, encodedDatabase(t, "unknown_encoding", "SQL_ASCII", bytesSQL), sources.Limits{})
	catalog, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string][]string{
		"good": {"1|\"café\"", `2|"x"`}, "mended": {`1|"x"`, `2|"x"`, "3|\"café\"", `4|"x"`}, "named": nil,
	} {
		if diff := cmp.Diff(want, text(t, ses.Scan(t.Context(), &sources.Query{Table: table}))); diff != "" {
			t.Errorf("%s: %s", table, diff)
		}
	}
	for _, c := range []string{"s", "v", "a", "p", "j"} {
		got, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "bad", Columns: []string{"id", c}}))
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `row 3, column "`+c+`"`) || !strings.Contains(err.Error(), "convert_from(") {
			t.Errorf("%s: %q, %v", c, got, err)
		}
	}
	if _, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "feels"})); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `row 2, column "m"`) {
		t.Errorf("a label: %v", err)
	}
	if _, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: `\xe9`})); sources.KindOf(err) != sources.Denied || !strings.Contains(err.Error(), "its name is not valid UTF-8") {
		t.Errorf("a table: %v", err)
	}
	if named := catalog.Table("named"); named.Schema.NumFields() != 1 || named.Comment != `may not be read: the columns "\\xe9"` {
		t.Errorf("%v, %q", named.Schema, named.Comment)
	}
}

// TestTheContractOfUnknownEncoding checks the contract where the server does not know the
// encoding of its text.
func TestTheContractOfUnknownEncoding(t *testing.T) {
	uri := encodedDatabase(t, "unknown_contract", "SQL_ASCII", bytesSQL+"DROP TABLE bad CASCADE; DELETE FROM feels WHERE id = 2")
	src, _ := open(t, uri, sources.Limits{})
	if err := testkit.TestSource(t.Context(), src); err != nil {
		t.Error(err)
	}
}

// TestNoEquivalent reads characters that UTF-8 does not have.
func TestNoEquivalent(t *testing.T) {
	uri := encodedDatabase(t, "no_equivalent", "WIN1252", `CREATE TABLE n (id int PRIMARY KEY, s text, a text[], i int);
INSERT INTO n SELECT i, 'x', ARRAY[CASE i WHEN 3 THEN convert_from('\x81', 'WIN1252') END], 1 FROM generate_series(1, 9) i;`)
	_, ses := open(t, uri, sources.Limits{})
	for want, columns := range map[string][]string{`row 3, one of the columns "s", "a": `: nil, `row 3, column "a": `: {"id", "a"}} {
		_, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "n", Columns: columns}))
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "a view that replaces the character") {
			t.Errorf("%q: %v", columns, err)
		}
	}
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "n", Columns: []string{"s"}})); len(got) != 9 {
		t.Errorf("the other columns: %q", got)
	}
}
