package postgres_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// keysSQL creates foreign keys between columns whose values are equal although their texts
// differ. The extension is not in the search path of the source.
const keysSQL = `CREATE SCHEMA extensions; CREATE EXTENSION citext SCHEMA extensions;
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN handle AS extensions.citext CHECK (VALUE OPERATOR(extensions.<>) 'nobody');
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE people (name extensions.citext PRIMARY KEY); INSERT INTO people VALUES ('mark'), ('Ann'), ('zoë');
CREATE TABLE posts (id int PRIMARY KEY, author extensions.citext REFERENCES people, by handle REFERENCES people);
INSERT INTO posts VALUES (1, 'Mark', 'MARK'), (2, 'MARK', 'ann'), (3, 'ann', NULL), (4, NULL, 'Mark');
CREATE TABLE padded (k char(5) PRIMARY KEY); INSERT INTO padded VALUES ('ab'), ('abc');
CREATE TABLE unpadded (id int PRIMARY KEY, k varchar(10) REFERENCES padded); INSERT INTO unpadded VALUES (1, 'ab'), (2, 'ab   '), (3, 'abc');
CREATE TABLE parted (id int PRIMARY KEY, k varchar(10)) PARTITION BY LIST (id);
CREATE TABLE parted_1 (k varchar(10) REFERENCES padded, id int NOT NULL); ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES IN (1, 2, 3);
INSERT INTO parted VALUES (1, 'ab'), (2, 'ab   '), (3, 'abc');
CREATE TABLE plain (k varchar(10) PRIMARY KEY); INSERT INTO plain VALUES ('ab'), ('abc');
CREATE TABLE filled (id int PRIMARY KEY, k char(5) REFERENCES plain); INSERT INTO filled VALUES (1, 'ab'), (2, 'abc');
CREATE TABLE amounts (n numeric PRIMARY KEY); INSERT INTO amounts VALUES (1.0), (2.50), ('NaN');
CREATE TABLE refers (id int PRIMARY KEY, n numeric REFERENCES amounts); INSERT INTO refers VALUES (1, 1), (2, 1.000), (3, 2.5), (4, 'NaN');
CREATE TABLE whole (id int PRIMARY KEY, n int REFERENCES amounts); INSERT INTO whole VALUES (1, 1);
CREATE TABLE floats (f float8 PRIMARY KEY); INSERT INTO floats VALUES (0.1), (1), (9007199254740992), ('NaN');
CREATE TABLE exact (id int PRIMARY KEY, n numeric(20,4) REFERENCES floats, i int8 REFERENCES floats); INSERT INTO exact VALUES (1, 0.1, 9007199254740993), (2, 1, 1);
CREATE TABLE blinds (k text COLLATE blind PRIMARY KEY); INSERT INTO blinds VALUES ('mark'), ('Ann');
CREATE TABLE sees (id int PRIMARY KEY, k text COLLATE blind REFERENCES blinds, plain text REFERENCES blinds, c text COLLATE "C" REFERENCES blinds);
INSERT INTO sees VALUES (1, 'Mark', 'MARK', 'ann'), (2, 'ANN', 'ann', 'MARK');
CREATE TABLE nets (k inet PRIMARY KEY); INSERT INTO nets VALUES ('10.0.0.1'), ('10.1.0.0/16');
CREATE TABLE hosts (id int PRIMARY KEY, k cidr REFERENCES nets); INSERT INTO hosts VALUES (1, '10.0.0.1/32'), (2, '10.1.0.0/16');
CREATE TABLE docs (k jsonb PRIMARY KEY); INSERT INTO docs VALUES ('{"a": 1.0}'), ('[1]');
CREATE TABLE cites (id int PRIMARY KEY, k jsonb REFERENCES docs); INSERT INTO cites VALUES (1, '{"a": 1.00}'), (2, '[1.0]');
CREATE TABLE slots (k numrange PRIMARY KEY); INSERT INTO slots VALUES ('[1.0,2)'), ('empty');
CREATE TABLE takes (id int PRIMARY KEY, k numrange REFERENCES slots); INSERT INTO takes VALUES (1, '[1,2.00)'), (2, '(3,3)');
CREATE TABLE moods (k mood PRIMARY KEY); INSERT INTO moods VALUES ('happy'), ('sad');
CREATE TABLE feels (id int PRIMARY KEY, k mood REFERENCES moods); INSERT INTO feels VALUES (1, 'sad'), (2, 'happy');
CREATE TABLE prices (k money PRIMARY KEY); INSERT INTO prices VALUES (1), (2.5);
CREATE TABLE costs (id int PRIMARY KEY, k money REFERENCES prices); INSERT INTO costs VALUES (1, 2.50), (2, 1.00);
CREATE TABLE pairs (a int, b extensions.citext, c char(3), PRIMARY KEY (b, a, c)); INSERT INTO pairs VALUES (1, 'x', 'p'), (2, 'X', 'p'), (1, 'y', 'q');
CREATE TABLE uses (id int PRIMARY KEY, p int, q extensions.citext, r varchar, FOREIGN KEY (p, q, r) REFERENCES pairs (a, b, c));
INSERT INTO uses VALUES (1, 1, 'X', 'p  '), (2, 2, 'x', 'p'), (3, 1, 'Y', 'q'), (4, NULL, 'Y', 'q');`

// TestForeignKeysHoldAsOnTheServer looks up every foreign key in both directions, and
// compares with the server's own join.
func TestForeignKeysHoldAsOnTheServer(t *testing.T) {
	uri := pgtest.Start(t).Database(t, keysSQL)
	src, ses := open(t, uri, sources.Limits{Rows: 2})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := asAdmin(t, uri)
	a.exec("SET search_path = public, extensions")
	for _, k := range []struct {
		table, target     string
		columns, targeted []string
		ordinals          bool
	}{
		{"posts", "people", []string{"author"}, []string{"name"}, true}, {"posts", "people", []string{"by"}, []string{"name"}, true},
		{"unpadded", "padded", []string{"k"}, []string{"k"}, true}, {"parted", "padded", []string{"k"}, []string{"k"}, true}, {"filled", "plain", []string{"k"}, []string{"k"}, true},
		{"refers", "amounts", []string{"n"}, []string{"n"}, false},
		{"exact", "floats", []string{"n"}, []string{"f"}, true}, {"exact", "floats", []string{"i"}, []string{"f"}, true},
		{"sees", "blinds", []string{"k"}, []string{"k"}, true}, {"sees", "blinds", []string{"plain"}, []string{"k"}, true}, {"sees", "blinds", []string{"c"}, []string{"k"}, true},
		{"hosts", "nets", []string{"k"}, []string{"k"}, true}, {"cites", "docs", []string{"k"}, []string{"k"}, true}, {"takes", "slots", []string{"k"}, []string{"k"}, true},
		{"costs", "prices", []string{"k"}, []string{"k"}, true}, {"feels", "moods", []string{"k"}, []string{"k"}, false},
		{"uses", "pairs", []string{"p", "q", "r"}, []string{"a", "b", "c"}, true},
	} {
		for _, forward := range []bool{true, false} {
			from, to, asking, keys := c.Table(k.table), c.Table(k.target), k.columns, k.targeted
			if !forward {
				from, to, asking, keys = to, from, keys, asking
			}
			what := fmt.Sprintf("%s.%v -> %s.%v", from.Name, asking, to.Name, keys)
			l := to.Lookup(keys)
			if l == nil { // in the order of the primary key
				order := slices.Clone(keys)
				slices.SortFunc(order, func(x, y string) int { return slices.Index(to.Key, x) - slices.Index(to.Key, y) })
				sorted := make([]string, len(asking))
				for i, name := range order {
					sorted[i] = asking[slices.Index(keys, name)]
				}
				keys, asking = order, sorted
				if l = to.Lookup(keys); l == nil {
					t.Errorf("%s: there is no look-up", what)
					continue
				}
			}
			if l.Ordinals != k.ordinals {
				t.Errorf("%s: ordinals is %t", what, l.Ordinals)
			}
			if !l.Ordinals {
				continue
			}
			got := lookUpAll(t, ses, from, asking, to, keys)
			on := ""
			for i := range asking { // the referenced column's collation applies
				if on += fmt.Sprintf(" AND f.%s = t.%s", asking[i], keys[i]); to.Name == "blinds" || from.Name == "blinds" {
					on += " COLLATE blind"
				}
			}
			var want []string
			rows, err := a.conn.Query(t.Context(), fmt.Sprintf("SELECT ctid_f || ' ' || ctid_t FROM (SELECT f.ctid::text AS ctid_f, t.ctid::text AS ctid_t FROM %s f JOIN %s t ON true%s) s ORDER BY 1", from.Name, to.Name, on))
			if err != nil {
				t.Fatal(err)
			}
			for rows.Next() {
				var s string
				if err := rows.Scan(&s); err != nil {
					t.Fatal(err)
				}
				want = append(want, s)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
				t.Errorf("%s (-server +source):\n%s", what, diff)
			}
		}
	}
}

// lookUpAll looks up the keys of all rows of a table in another one, and returns the places
// of both rows, as the server writes them: all rows are in the first block.
func lookUpAll(t *testing.T, ses sources.Session, from *sources.Table, asking []string, to *sources.Table, keys []string) []string {
	t.Helper()
	var values [][]sources.Value
	fields := make([]arrow.Field, len(asking))
	for i, name := range asking {
		fields[i] = from.Schema.Field(from.Column(name))
		fields[i].Type, fields[i].Nullable = sources.ValueType(fields[i].Type), true
	}
	read := func(table *sources.Table, visit func(record arrow.RecordBatch, row int)) {
		for b, err := range ses.Scan(t.Context(), &sources.Query{Table: table.Name}) { // in physical order
			if err != nil {
				t.Fatal(err)
			}
			for row := range int(b.Record.NumRows()) {
				visit(b.Record, row)
			}
		}
	}
	read(from, func(r arrow.RecordBatch, row int) {
		key := make([]sources.Value, len(asking))
		for i, name := range asking {
			key[i] = sources.ValueAt(r.Column(from.Column(name)), row)
		}
		values = append(values, key)
	})
	places := map[string]int{}
	read(to, func(r arrow.RecordBatch, row int) { places[lines(r)[row]] = len(places) + 1 })
	record := keyRecord(fields, func(row, column int) sources.Value { return values[row][column] }, len(values))
	defer record.Release()
	var got []string
	q := &sources.Query{Table: to.Name, Keys: &sources.Keys{Columns: keys, Values: record, From: &sources.KeyOrigin{Table: from.Name, Columns: asking}}}
	for b, err := range ses.Scan(t.Context(), q) {
		if err != nil {
			t.Errorf("%s.%v -> %s.%v: %v", from.Name, asking, to.Name, keys, err)
			return nil
		}
		for row := range int(b.Record.NumRows()) {
			n := int(b.Record.NumCols()) - 1
			columns := make([]arrow.Array, n)
			for i := range columns {
				columns[i] = b.Record.Column(i)
			}
			line := ""
			for i, c := range columns {
				if i > 0 {
					line += "|"
				}
				line += sources.ValueAt(c, row).String()
			}
			got = append(got, fmt.Sprintf("(0,%d) (0,%d)", sources.ValueAt(b.Record.Column(n), row).V.(int64)+1, places[line]))
		}
	}
	slices.Sort(got)
	return got
}

// TestNaNIsAKey: a decimal column can have NaN on the server, so only the server can tell
// which of its rows have a number of any size.
func TestNaNIsAKey(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE pn (k numeric PRIMARY KEY); INSERT INTO pn VALUES ('NaN'), (1.0);
		CREATE TABLE cn (id int PRIMARY KEY, k numeric(10,1) REFERENCES pn); INSERT INTO cn VALUES (1, 1), (2, 'NaN'), (3, 'NaN')`)
	src, ses := open(t, uri, sources.Limits{})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.AppendValues([]string{"1", "NaN", "7"}, nil)
	keys := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{c.Table("pn").Schema.Field(0)}, nil), []arrow.Array{b.NewArray()}, 3)
	defer keys.Release()
	got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "cn", Columns: []string{"id"}, Keys: &sources.Keys{
		Columns: []string{"k"}, Values: keys, From: &sources.KeyOrigin{Table: "pn", Columns: []string{"k"}},
	}}))
	if diff := cmp.Diff([]string{"1|0", "2|1", "3|1"}, got); diff != "" {
		t.Error(diff)
	}
}
