package postgres_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// TestErrorsInMidScan checks that rows before an error are yielded, and that the session
// can be used after it.
func TestErrorsInMidScan(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE n (i int PRIMARY KEY); INSERT INTO n SELECT generate_series(1, 1000);
CREATE VIEW divides AS SELECT i, 1 / (i - 800) AS q FROM n;
CREATE FUNCTION refuses(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF i = 900 THEN RAISE EXCEPTION 'no % here', i; END IF; RETURN i; END $$;
CREATE VIEW raises AS SELECT refuses(i) AS i FROM n;
CREATE FUNCTION writes(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO n VALUES (0); RETURN i; END $$;
CREATE VIEW written AS SELECT writes(i) AS i FROM n;
CREATE FUNCTION sets(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('TimeZone', 'Asia/Tokyo', false); PERFORM set_config('DateStyle', 'SQL', false); RETURN i; END $$;
CREATE VIEW changes AS SELECT sets(i) AS i, ('2020-01-01 00:00+00'::timestamptz + i * interval '1 day')::text AS s FROM n WHERE i < 3;
CREATE MATERIALIZED VIEW unready AS SELECT i FROM n WITH NO DATA;
CREATE TABLE ranges (r tstzrange); INSERT INTO ranges VALUES ('[2020-01-01 00:00+00,)');`)
	_, ses := open(t, uri, sources.Limits{Rows: 100})
	for _, c := range []struct {
		view  string
		rows  int
		kind  sources.Kind
		words string
	}{
		{"divides", 700, sources.Invalid, "division by zero (SQLSTATE 22012)"},
		{"raises", 800, sources.Invalid, "no 900 here (SQLSTATE P0001)"},
		{"unready", 0, sources.Invalid, "Use the REFRESH MATERIALIZED VIEW command"},
		{"written", 0, sources.Invalid, "cannot execute INSERT in a read-only transaction"},
	} {
		got, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: c.view}))
		if len(got) < c.rows || sources.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %d rows, then %v", c.view, len(got), err)
		}
		if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "n"})); len(got) != 1000 {
			t.Errorf("after %s: %d rows", c.view, len(got))
		}
	}
	// Settings that a view changes do not outlive its scan.
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "changes"})); len(got) != 2 {
		t.Fatalf("%q", got)
	}
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "ranges"})); !slices.Equal(got, []string{`"[\"2020-01-01 00:00:00+00\",)"`}) {
		t.Errorf("%q", got)
	}
}

// TestSlowViewIsCanceled: a scan that waits for its first row ends soon after its
// context, on the server too.
func TestSlowViewIsCanceled(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE VIEW slow AS SELECT pg_sleep(600)::text AS s; CREATE TABLE n (i int); INSERT INTO n VALUES (1);`)
	a := asAdmin(t, uri)
	_, ses := open(t, uri, sources.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error)
	go func() {
		_, err := rowsOf(ses.Scan(ctx, &sources.Query{Table: "slow"}))
		end <- err
	}()
	a.await(1, "state = 'active'")
	cancel()
	if err := <-end; sources.KindOf(err) != sources.Canceled {
		t.Errorf("%v", err)
	}
	if n := a.count("state = 'active'"); n != 0 {
		t.Errorf("%d backends are active", n)
	}
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "n"})); len(got) != 1 {
		t.Errorf("after the cancel: %q", got)
	}
}

// TestTimeouts checks that errors of timeouts name the options.
func TestTimeouts(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE VIEW slow AS SELECT pg_sleep(600)::text AS s; CREATE TABLE locked (i int PRIMARY KEY);`)
	a := asAdmin(t, uri)
	_, ses := openWith(t, uri, map[string]string{"statement_timeout": "2s", "lock_timeout": "20ms"}, sources.Limits{})
	if _, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "slow"})); sources.KindOf(err) != sources.Exhausted || !strings.Contains(err.Error(), "statement_timeout is 2s, set by the option statement_timeout") {
		t.Errorf("%v", err)
	}
	a.exec("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
	if _, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "locked"})); sources.KindOf(err) != sources.Unavailable || !strings.Contains(err.Error(), "raise the option lock_timeout") {
		t.Errorf("%v", err)
	}
	a.exec("ROLLBACK")
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "locked"})); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// TestOutdatedCatalog checks the errors for tables that have changed since the catalog was
// read.
func TestOutdatedCatalog(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE pair AS (a int, b int);
CREATE TABLE gone (i int PRIMARY KEY); CREATE TABLE c (i int PRIMARY KEY, dropped int, typed int, m mood, p pair, renewed int); INSERT INTO c VALUES (1, 2, 3, 'sad', (1, 2));`)
	a := asAdmin(t, uri)
	src, err := postgres.Open(t.Context(), sources.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := src.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.exec(`DROP TABLE gone; ALTER TABLE c DROP COLUMN dropped; ALTER TABLE c ALTER typed TYPE bigint; ALTER TYPE mood ADD VALUE 'happy'`)
	a.exec(`UPDATE c SET m = 'happy'; ALTER TYPE pair ADD ATTRIBUTE c int CASCADE`)
	ses, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ses.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct {
		table, column string
		kind          sources.Kind
	}{{"gone", "i", sources.NotFound}, {"c", "dropped", sources.NotFound}, {"c", "typed", sources.Invalid}, {"c", "m", sources.Invalid}, {"c", "p", sources.Invalid}} {
		_, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: c.table, Columns: []string{c.column}}))
		if sources.KindOf(err) != c.kind || !strings.Contains(err.Error(), "since the catalog was read") {
			t.Errorf("%s.%s: %v", c.table, c.column, err)
		}
	}
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "c", Columns: []string{"i"}})); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// TestLargeRows checks that a row which does not fit in memory is an error before it is
// read, and that the snapshot survives.
func TestLargeRows(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE large (id int PRIMARY KEY, s text, b bytea[]); INSERT INTO large VALUES (1, 'x', NULL), (2, repeat('y', 5000000), ARRAY['\\x00'::bytea]);`)
	src, err := postgres.Open(t.Context(), sources.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	for limit, fits := range map[int64]bool{8 << 20: false, 64 << 20: true} {
		stream, err := core.Open(t.Context(), src, core.Query{Table: "large"}, core.Options{Memory: limit}, core.Resources{})
		if err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range stream.Chunks() {
			last = err
		}
		if r := stream.Receipt(); fits != r.Complete || fits != (last == nil) || r.PeakBytes > limit {
			t.Errorf("in %d bytes: %v, %+v", limit, last, r)
		}
		if !fits && (sources.KindOf(last) != sources.Exhausted || !strings.Contains(last.Error(), "a row of 4.8 MiB")) {
			t.Errorf("%v", last)
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
}
