package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// open opens a source and a session, and checks at the end of the test that all memory is
// freed.
func open(t *testing.T, uri string, page sources.Limits) (sources.Source, sources.Session) {
	t.Helper()
	return openWith(t, uri, nil, page)
}

func openWith(t *testing.T, uri string, options map[string]string, page sources.Limits) (sources.Source, sources.Session) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	src, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	ses, err := src.Begin(t.Context(), sources.Env{Mem: mem, Page: page})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ses.Close(); err != nil {
			t.Error(err)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		mem.AssertSize(t, 0)
		goleak.VerifyNone(t, ignore)
	})
	return src, ses
}

// text returns the rows of a scan, one per line.
func text(t *testing.T, batches sources.Batches) []string {
	t.Helper()
	out, err := rowsOf(batches)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rowsOf returns the rows before an error, and the error.
func rowsOf(batches sources.Batches) (out []string, err error) {
	for b, err := range batches {
		if err != nil {
			return out, err
		}
		out = append(out, lines(b.Record)...)
	}
	return out, nil
}

func lines(r arrow.RecordBatch) []string {
	var out []string
	for i := range int(r.NumRows()) {
		parts := make([]string, r.NumCols())
		for j := range parts {
			parts[j] = sources.ValueAt(r.Column(j), i).String()
		}
		out = append(out, strings.Join(parts, "|"))
	}
	return out
}

const typesSQL = `
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN price AS numeric(10,2);
CREATE TABLE types (id int PRIMARY KEY, b bool, i2 int2, i8 int8, f8 float8, n numeric(38,10), w numeric(60,5), u numeric, p price,
  c char(4), by bytea, d date, ts timestamp, tz timestamptz, ti time, uu uuid, j jsonb, m mood, a int[], ne numeric(5,-2));
INSERT INTO types VALUES
 (1, true, -32768, 9223372036854775807, 1e300, -1234567890123456789012345678.0123456789, 1234567890123456789012345678901234567890123456789012345.00001, 1e-20, 0.05,
  'ab', '\x00ff', '0001-01-01', '1969-12-31 23:59:59.999999', '2024-02-29 12:00:00+02', '23:59:59.999999', '00112233-4455-6677-8899-aabbccddeeff', '{"a": 1}', 'ok', '{1,NULL}', 12300);
INSERT INTO types (id) VALUES (2);`

func TestTypes(t *testing.T) {
	_, ses := open(t, pgtest.Start(t).Database(t, typesSQL), sources.Limits{})
	got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "types"}))
	want := []string{
		`1|true|-32768|9223372036854775807|1e+300|-1234567890123456789012345678.0123456789|1234567890123456789012345678901234567890123456789012345.00001|"0.00000000000000000001"|0.05|"ab  "|0x00ff|0001-01-01|1969-12-31T23:59:59.999999Z|2024-02-29T10:00:00Z|86399999999|0x00112233445566778899aabbccddeeff|"{\"a\": 1}"|"ok"|"[1,null]"|"12300"`,
		"2" + strings.Repeat("|NULL", 19),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

const pushSQL = `CREATE TABLE rows (id int PRIMARY KEY, f float8, s text, n numeric(6,2));
INSERT INTO rows SELECT i, CASE WHEN i % 7 = 0 THEN NULL WHEN i % 11 = 0 THEN float8 'NaN' ELSE i % 5 END,
  (ARRAY['', 'a', 'B', 'é', 'a%b', 'a\b', 'ab', NULL])[i % 8 + 1], (i % 13) / 4.0 FROM generate_series(1, 300) i;`

func TestPushDownMeansEval(t *testing.T) {
	src, ses := open(t, pgtest.Start(t).Database(t, pushSQL), sources.Limits{})
	catalog, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	numeric := catalog.Table("rows").Schema.Field(3).Type
	quarter, ok := sources.Convert(sources.Float(1.25), numeric)
	if !ok {
		t.Fatal("1.25 does not convert")
	}
	var leaves []sources.Predicate
	for op := sources.OpEq; op <= sources.OpGe; op++ {
		for _, s := range []string{"", "a", "a\x00", "é", "'; DROP TABLE rows --"} {
			leaves = append(leaves, sources.Comparison{Column: "s", Op: op, Value: sources.Text(s)})
		}
		leaves = append(leaves, sources.Comparison{Column: "f", Op: op, Value: sources.Float(3)}, sources.Comparison{Column: "n", Op: op, Value: quarter})
	}
	for _, pattern := range []string{"a%", "_", `a\%b`, `a\\b`, `a\`, `%\`, "", "%"} {
		leaves = append(leaves, sources.Like{Column: "s", Pattern: pattern})
	}
	for _, prefix := range []string{"", "a", "\xc3", "a\x00"} {
		leaves = append(leaves, sources.HasPrefix{Column: "s", Prefix: prefix})
	}
	leaves = append(leaves, sources.In{Column: "s"}, sources.In{Column: "s", Values: []sources.Value{sources.Text("a"), sources.Null(arrow.BinaryTypes.String)}},
		sources.In{Column: "n", Values: []sources.Value{quarter}}, sources.IsNull{Column: "f"}, sources.IsNull{Column: "f", Not: true}, sources.And{}, sources.Or{})
	var all []map[string]sources.Value
	for b, err := range ses.Scan(t.Context(), &sources.Query{Table: "rows"}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.Record.NumRows()) {
			row := map[string]sources.Value{}
			for j, f := range b.Record.Schema().Fields() {
				row[f.Name] = sources.ValueAt(b.Record.Column(j), i)
			}
			all = append(all, row)
		}
	}
	for i, leaf := range leaves {
		for _, p := range []sources.Predicate{leaf, sources.Not{Predicate: leaf}, sources.Or{leaf, sources.Not{Predicate: leaves[(i*7+3)%len(leaves)]}}} {
			var want []string
			for _, row := range all {
				if sources.Eval(p, func(c string) sources.Value { return row[c] }) == sources.True {
					want = append(want, row["id"].String())
				}
			}
			got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "rows", Columns: []string{"id"}, Where: p}))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", p, diff)
			}
		}
	}
}

// TestResumeAfterEveryPage resumes scans with an order, scans in physical order, and scans
// with a condition that uses an index. The server changes its plan in between.
func TestResumeAfterEveryPage(t *testing.T) {
	uri := pgtest.Start(t).Database(t, pushSQL+`CREATE TABLE bare AS SELECT * FROM rows; CREATE INDEX ON bare (id); ANALYZE;`)
	a := asAdmin(t, uri)
	_, ses := open(t, uri, sources.Limits{Rows: 37})
	id := func(op sources.Op, n int64) sources.Predicate {
		return sources.Comparison{Column: "id", Op: op, Value: sources.Value{Type: arrow.PrimitiveTypes.Int32, V: n}}
	}
	for _, table := range []string{"rows", "bare"} {
		for _, where := range []sources.Predicate{nil, sources.IsNull{Column: "f", Not: true}, id(sources.OpLe, 2), id(sources.OpGt, 30)} {
			for _, order := range [][]sources.Sort{nil, {{Column: "s", Desc: true}}, {{Column: "f", NullsFirst: true}, {Column: "s"}}, {{Column: "n"}, {Column: "id", Desc: true}}} {
				q := sources.Query{Table: table, Where: where, OrderBy: order}
				whole := text(t, ses.Scan(t.Context(), &q))
				var got []string
				for pages := 0; ; pages++ {
					var page sources.Batch
					for b, err := range ses.Scan(t.Context(), &q) {
						if err != nil {
							t.Fatal(err)
						}
						got, page.Cursor = append(got, lines(b.Record)...), b.Cursor
						break
					}
					if len(got) >= len(whole) || page.Cursor == nil {
						break
					}
					q.After = page.Cursor
					if where != nil && pages == 1 { // what the server believes of the table is no part of the snapshot
						a.exec("UPDATE pg_class SET reltuples = 1e8, relpages = 1000000 WHERE relname = '" + table + "'")
					}
				}
				a.exec("UPDATE pg_class SET reltuples = 300, relpages = 3 WHERE relname = '" + table + "'")
				if diff := cmp.Diff(whole, got); diff != "" {
					t.Errorf("%s where %v, order %v: %d rows: %s", table, where, order, len(whole), diff)
				}
			}
		}
	}
}

func TestKeys(t *testing.T) {
	_, ses := open(t, pgtest.Start(t).Database(t, pushSQL+`CREATE TABLE pairs (a int, b text, PRIMARY KEY (a, b)); INSERT INTO pairs VALUES (1,'x'),(1,'y'),(2,'x');`), sources.Limits{})
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int32}, {Name: "b", Type: arrow.BinaryTypes.String}}, nil))
	defer b.Release()
	b.Field(0).(*array.Int32Builder).AppendValues([]int32{1, 1, 2}, []bool{true, true, false})
	b.Field(1).(*array.StringBuilder).AppendValues([]string{"y", "y", "x"}, nil)
	keys := b.NewRecordBatch()
	defer keys.Release()
	q := &sources.Query{Table: "pairs", Keys: &sources.Keys{Columns: []string{"a", "b"}, Values: keys}}
	if diff := cmp.Diff([]string{`1|"y"`}, text(t, ses.Scan(t.Context(), q))); diff != "" {
		t.Error(diff)
	}
	one := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int32}}, nil), keys.Columns()[:1], 3)
	defer one.Release()
	q.Keys = &sources.Keys{Columns: []string{"a"}, Values: one, LimitPerKey: 1}
	if diff := cmp.Diff([]string{`1|"x"`}, text(t, ses.Scan(t.Context(), q))); diff != "" {
		t.Error(diff)
	}
}

func TestSnapshotAndCancel(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE big (id int PRIMARY KEY, s text); INSERT INTO big SELECT i, repeat('x', 100) FROM generate_series(1, 200000) i`)
	_, ses := open(t, uri, sources.Limits{Rows: 100})
	if err := pgtest.Run(t.Context(), uri, "DELETE FROM big WHERE id > 10"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range ses.Scan(ctx, &sources.Query{Table: "big"}) {
		last = err
		cancel()
	}
	if sources.KindOf(last) != sources.Canceled {
		t.Errorf("the scan ended with %v", last)
	}
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	// Another backend may be active that is opened in the background.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var active int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name = 'penstock' AND query LIKE '%big%'").Scan(&active)
		if err == nil && active == 0 {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d active backends, %v", active, err)
		}
	}
	// The snapshot outlives the canceled scan.
	if n := len(text(t, ses.Scan(t.Context(), &sources.Query{Table: "big"}))); n != 200000 {
		t.Errorf("%d rows in the snapshot", n)
	}
	if _, err := conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'penstock' AND datname = current_database()"); err != nil {
		t.Fatal(err)
	}
	for _, err := range ses.Scan(t.Context(), &sources.Query{Table: "big"}) {
		if sources.KindOf(err) != sources.Unavailable {
			t.Errorf("a terminated backend gives %v", err)
		}
	}
}

func TestOpenTellsNoSecret(t *testing.T) {
	uri := pgtest.Start(t).URI("postgres")
	before, after, _ := strings.Cut(uri, "@")
	for bad, kind := range map[string]sources.Kind{
		before + "s3cret@" + after:                                sources.Denied,
		"postgres://someone:s3cret@127.0.0.1:1/x?sslmode=disable": sources.Unavailable,
		"postgres://someone:s3cret:/@@x:y":                        sources.Invalid,
	} {
		_, err := postgres.Open(t.Context(), sources.Config{URI: bad})
		if sources.KindOf(err) != kind || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "someone") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	_, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: map[string]string{"shema": "x"}})
	if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), `"schema"`) {
		t.Error(err)
	}
}
