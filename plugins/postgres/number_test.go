package postgres_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

const numbersSQL = `CREATE DOMAIN amount AS numeric;
CREATE TABLE numbers (id int PRIMARY KEY, n numeric, d amount, a numeric[], p numeric(6,2));
INSERT INTO numbers VALUES (1, 9.50, 1.5, '{1.50}', 1), (2, 100, 1.50, '{2}', 2), (3, 25, 2, NULL, 3), (4, 1000.00, 10, NULL, 4), (5, 1.5000000000000000, 3, NULL, 5);
CREATE TABLE edges (id int PRIMARY KEY, n numeric);
INSERT INTO edges VALUES (1, 'NaN'), (2, 'Infinity'), (3, '-Infinity'), (4, 0), (5, '-1e131071'), (6, 1e131071), (7, 1e-16383), (8, '-1e-16383'), (9, NULL);`

// TestBareNumericsAreNumbers orders and compares numerics without a declared precision,
// which are text exactly as the server writes them.
func TestBareNumericsAreNumbers(t *testing.T) {
	_, ses := open(t, pgtest.Start(t).Database(t, numbersSQL), sources.Limits{})
	got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "numbers", Columns: []string{"n"}, OrderBy: []sources.Sort{{Column: "n", Desc: true}}, Limit: 2}))
	if diff := cmp.Diff([]string{`"1000.00"`, `"100"`}, got); diff != "" {
		t.Error(diff)
	}
	number := func(s string) sources.Value {
		n, ok := sources.ParseNumber(s)
		if !ok {
			t.Fatalf("%q is not a number", s)
		}
		return n
	}
	got = text(t, ses.Scan(t.Context(), &sources.Query{Table: "numbers", Columns: []string{"id"}, Where: sources.Comparison{Column: "n", Op: sources.OpEq, Value: number("1.5")}}))
	if diff := cmp.Diff([]string{"5"}, got); diff != "" {
		t.Error(diff)
	}
	// Numbers that no numeric can hold have their place in the order too.
	rows := map[int64]sources.Value{1: number("NaN"), 2: number("Infinity"), 3: number("-Infinity"), 4: number("0"), 5: number("-1e131071"), 6: number("1e131071"), 7: number("1e-16383"), 8: number("-1e-16383")}
	for _, literal := range []string{"NaN", "Infinity", "-Infinity", "0", "1e131071", "1e131072", "-1e131072", "1e-16383", "1e-16384", "-1e-16384", "1e-20000"} {
		for op := sources.OpEq; op <= sources.OpGe; op++ {
			var want []string
			for id := int64(1); id <= 8; id++ {
				if op.Holds(sources.Compare(rows[id], number(literal))) {
					want = append(want, string('0'+rune(id)))
				}
			}
			where := sources.Comparison{Column: "n", Op: op, Value: number(literal)}
			got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "edges", Columns: []string{"id"}, Where: where, OrderBy: []sources.Sort{{Column: "id"}}}))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("n %s %s (-Compare +source): %s", op, literal, diff)
			}
		}
	}
}

func TestNumericOfColumns(t *testing.T) {
	uri := pgtest.Start(t).Database(t, numbersSQL)
	types := func(options map[string]string) map[string]string {
		src, _ := openWith(t, uri, options, sources.Limits{})
		c, err := src.Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, f := range c.Table("numbers").Schema.Fields()[1:] {
			out[f.Name] = f.Type.String() + " " + string(sources.MeaningOf(f).Order)
		}
		return out
	}
	if diff := cmp.Diff(map[string]string{
		"n": "decimal(20, 2) ", "d": "utf8 number", "a": "list<item: decimal(5, 2), nullable> source", "p": "decimal(6, 2) ",
	}, types(map[string]string{"numeric.numbers.n": "20,2", "numeric.numbers.a": "5,2"})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{
		"n": "utf8 number", "d": "decimal(9, 1) ", "a": "list<item: decimal(9, 1), nullable> source", "p": "decimal(6, 2) ",
	}, types(map[string]string{"numeric": "9,1", "numeric.numbers.n": "text"})); diff != "" {
		t.Error(diff)
	}
	// A value that does not fit is refused.
	_, ses := openWith(t, uri, map[string]string{"numeric.numbers.n": "5,2"}, sources.Limits{})
	if _, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "numbers", Columns: []string{"n"}})); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `column "n": out of the range`) {
		t.Errorf("a value that does not fit gives %v", err)
	}
	for option, want := range map[string]string{"numeric.numbers.nn": `the nearest is "numbers.n"`, "numeric.numbers.p": "without a declared precision", "numeric.numbers.id": "without a declared precision"} {
		src, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: map[string]string{option: "5,2"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Catalog(t.Context()); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", option, err)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKeysThatTheTypeCannotHold looks up keys of another source.
func TestKeysThatTheTypeCannotHold(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE nets (k inet PRIMARY KEY); INSERT INTO nets VALUES ('10.0.0.1'), ('::1');
CREATE TABLE docs (k jsonb PRIMARY KEY); INSERT INTO docs VALUES ('1.0'), ('[]'); CREATE TABLE names (k regclass PRIMARY KEY); INSERT INTO names VALUES ('nets'), ('docs');`)
	for _, mode := range []string{"strict", "renew", "none"} {
		_, ses := openWith(t, uri, map[string]string{"snapshot": mode}, sources.Limits{})
		for table, keys := range map[string][]string{"nets": {"no", "10.0.0.1/32", "", "::1", "x\x00y", "10.0.0.1"}, "docs": {"{", "1.00", "nul", "[ ]", "", "1"}, "names": {"missing", "nets", "a.b", "docs", "a.b.c.d", "public.nets"}} {
			values := make([]sources.Value, len(keys))
			for i, k := range keys {
				values[i] = sources.Text(k)
			}
			record := keysOf(arrow.Field{Name: "k", Type: arrow.BinaryTypes.String}, values)
			for range 2 {
				got, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: table, Keys: &sources.Keys{Columns: []string{"k"}, Values: record}}))
				for i := range got {
					_, got[i], _ = strings.Cut(got[i], "|")
				}
				if !slices.Equal(got, []string{"1", "3", "5"}) || err != nil {
					t.Errorf("snapshot=%s, %s: the keys with rows are %q, %v", mode, table, got, err)
				}
			}
			record.Release()
		}
	}
}
