package postgres_test

import (
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

func script(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// hostileSettings holds settings of a database or a role that must not change results.
const hostileSettings = `DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Kolkata''', current_database());
  EXECUTE format('ALTER DATABASE %I SET DateStyle = ''SQL, DMY''', current_database());
  EXECUTE format('ALTER DATABASE %I SET IntervalStyle = ''sql_standard''', current_database());
  EXECUTE format('ALTER DATABASE %I SET bytea_output = ''escape''', current_database());
  EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -10', current_database());
  EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off', current_database());
  EXECUTE format('ALTER DATABASE %I SET quote_all_identifiers = on', current_database());
  EXECUTE format('ALTER DATABASE %I SET xmloption = document', current_database());
  EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database());
  EXECUTE format('ALTER DATABASE %I SET search_path = odd', current_database());
  EXECUTE format('ALTER DATABASE %I SET client_encoding = ''LATIN1''', current_database());
  EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database());
END $$;`

// serverText returns a table as psql shows it, with nil for NULL.
func serverText(t *testing.T, uri, table, order string) (names []string, rows [][]*string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	results, err := conn.PgConn().Exec(t.Context(), `SET client_encoding = 'UTF8'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';
		SET bytea_output = 'hex'; SET extra_float_digits = 1; SET quote_all_identifiers = off; SET search_path = pg_catalog, public; SELECT * FROM `+table+" ORDER BY "+order).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	last := results[len(results)-1]
	for _, f := range last.FieldDescriptions {
		names = append(names, f.Name)
	}
	for _, raw := range last.Rows {
		var row []*string
		for _, v := range raw {
			if v == nil {
				row = append(row, nil)
				continue
			}
			s := string(v)
			row = append(row, &s)
		}
		rows = append(rows, row)
	}
	return names, rows
}

// compareWithServer reads a table and compares every value with the server's text for it.
func compareWithServer(t *testing.T, uri string, ses sources.Session, table string) {
	t.Helper()
	names, want := serverText(t, uri, table, "id")
	at := 0
	for b, err := range ses.Scan(t.Context(), &sources.Query{Table: table, OrderBy: []sources.Sort{{Column: "id"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.Record.NumRows()) {
			for j, name := range names {
				got := pgText(t, b.Record.Column(j), i)
				if diff := cmp.Diff(want[at][j], got); diff != "" {
					t.Errorf("row %d, column %s (%s): %s", at, name, b.Record.Column(j).DataType(), diff)
				}
			}
			at++
		}
	}
	if at != len(want) {
		t.Errorf("%d rows, want %d", at, len(want))
	}
}

func TestEveryTypeIsExact(t *testing.T) {
	uri := pgtest.Start(t).Database(t, script(t, "types.sql"), hostileSettings)
	src, ses := open(t, uri, sources.Limits{Rows: 2})
	compareWithServer(t, uri, ses, "plain")
	compareWithServer(t, uri, ses, "nested")
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Some of the types.
	for name, want := range map[string]string{
		"plain.n38": "decimal(38, 10)", "plain.n76": "decimal256(76, 30)", "plain.n_none": "utf8 numeric", "plain.n_neg": "utf8 numeric", "plain.n_over": "decimal(5, 5)", "plain.n_huge": "utf8 numeric",
		"plain.de": "decimal(10, 2)", "plain.md": "dictionary<values=utf8, indices=int16, ordered=false>", "plain.ot": "dictionary<values=utf8, indices=int16, ordered=false>",
		"plain.net": "utf8 inet", "plain.hs": "utf8 hstore", "plain.iv": "month_day_nano_interval", "plain.r4": "utf8 int4range", "plain.tz": "utf8 time with time zone",
		"plain.u": "fixed_size_binary[16] arrow.uuid", "plain.jb": "utf8 arrow.json", "plain.ci": "utf8",
		"nested.am": "list<item: utf8, nullable>", "nested.mx": "utf8 mixed", "nested.ai": "utf8 inet[]",
		"nested.c": "struct<x: int32 nullable, Y: float64 nullable, note: utf8 nullable>",
	} {
		table, column, _ := strings.Cut(name, ".")
		f := c.Table(table).Schema.Field(c.Table(table).Column(column))
		got := f.Type.String()
		if ext, ok := f.Metadata.GetValue("ARROW:extension:name"); ok {
			if ext == "arrow.opaque" {
				opaque, _ := f.Metadata.GetValue("ARROW:extension:metadata")
				_, ext, _ = strings.Cut(opaque, `"type_name":"`)
				ext, _, _ = strings.Cut(ext, `"`)
			}
			got += " " + ext
		}
		if got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

const specialSQL = `CREATE TABLE special (id int PRIMARY KEY, d date NOT NULL, ts timestamp, tz timestamptz, n numeric(5,2), ti time, a int[], u numeric, c c.pair);
INSERT INTO special VALUES (1, 'infinity', '-infinity', 'infinity', 'NaN', '24:00:00', '{{1,2},{3,4}}', 'Infinity', '(infinity,1)'),
  (2, '2020-01-01', '294276-12-31 23:59:59', '294247-01-10 04:00:54.775808+00', 1.5, '12:00', '[0:1]={5,6}', 0.123, '(2020-01-01,2)'),
  (3, '-infinity', '2020-01-01', '-infinity', NULL, NULL, '{1,NULL}', 12345678901234567890, NULL);`

func TestSpecialValues(t *testing.T) {
	uri := pgtest.Start(t).Database(t, "CREATE SCHEMA c; CREATE TYPE c.pair AS (d date, i int);"+specialSQL)
	t.Run("error", func(t *testing.T) {
		_, ses := open(t, uri, sources.Limits{})
		for column, row := range map[string]string{"d": "row 1", "ts": "row 1", "tz": "row 1", "n": "row 1", "ti": "row 1", "a": "row 1", "c": `row 1, column "c": field "d"`} {
			_, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "special", Columns: []string{column}}))
			if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), row) || !strings.Contains(err.Error(), "special=null") {
				t.Errorf("%s: %v", column, err)
			}
		}
		// The session can be used after errors.
		if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "special", Columns: []string{}})); len(got) != 3 {
			t.Errorf("%d rows, want 3", len(got))
		}
	})
	t.Run("null", func(t *testing.T) {
		src, ses := openWith(t, uri, map[string]string{"special": "null", "numeric": "20,3"}, sources.Limits{})
		got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "special"}))
		want := []string{
			`1|NULL|NULL|NULL|NULL|NULL|NULL|NULL|"{\"d\":null,\"i\":1}"`,
			`2|2020-01-01|NULL|NULL|1.50|43200000000|NULL|0.123|"{\"d\":\"2020-01-01\",\"i\":2}"`,
			`3|NULL|2020-01-01T00:00:00Z|NULL|NULL|NULL|"[1,null]"|NULL|NULL`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		// Values that are read as NULL are NULL in conditions too.
		c, err := src.Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range c.Table("special").Schema.Fields() {
			ops := c.Table("special").Filters[f.Name]
			if f.Name == "a" || f.Name == "c" {
				if ops != 0 {
					t.Errorf("%s takes conditions that know nothing of special values", f.Name)
				}
				continue
			}
			nulls := 0
			for _, line := range got {
				if strings.Split(line, "|")[c.Table("special").Column(f.Name)] == "NULL" {
					nulls++
				}
			}
			n := len(text(t, ses.Scan(t.Context(), &sources.Query{Table: "special", Where: sources.IsNull{Column: f.Name}})))
			if n != nulls {
				t.Errorf("%s is NULL in %d rows, the condition finds %d", f.Name, nulls, n)
			}
		}
		first := text(t, ses.Scan(t.Context(), &sources.Query{Table: "special", Columns: []string{"id"}, OrderBy: []sources.Sort{{Column: "d", NullsFirst: true}}, Limit: 2}))
		if diff := cmp.Diff([]string{"1", "3"}, first); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("text", func(t *testing.T) {
		_, ses := openWith(t, uri, map[string]string{"special": "text"}, sources.Limits{})
		compareWithServer(t, uri, ses, "special")
	})
	t.Run("a declared decimal refuses to round", func(t *testing.T) {
		_, ses := openWith(t, uri, map[string]string{"numeric": "38,2"}, sources.Limits{})
		_, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "special", Columns: []string{"u"}, Where: sources.Comparison{Column: "id", Op: sources.OpEq, Value: sources.Value{Type: arrow.PrimitiveTypes.Int32, V: int64(2)}}}))
		if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `row 1, column "u": out of the range`) {
			t.Errorf("%v", err)
		}
	})
}
