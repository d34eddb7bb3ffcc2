package postgres_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// plansSQL creates tables that are large enough for indexes.
const plansSQL = `CREATE SCHEMA extensions; CREATE EXTENSION citext SCHEMA extensions;
CREATE TABLE names (k extensions.citext PRIMARY KEY, s text); INSERT INTO names SELECT 'Name' || i, repeat('x', 50) FROM generate_series(1, 20000) i;
CREATE TABLE posts (id int PRIMARY KEY, author extensions.citext REFERENCES names); INSERT INTO posts SELECT i, 'NAME' || i FROM generate_series(1, 20000) i; CREATE INDEX posts_author ON posts (author);
CREATE TABLE codes (k char(5) PRIMARY KEY, s text); INSERT INTO codes SELECT i::text, repeat('x', 50) FROM generate_series(1, 20000) i;
CREATE TABLE uses (id int PRIMARY KEY, k varchar(10) REFERENCES codes); INSERT INTO uses SELECT i, i::text FROM generate_series(1, 20000) i;
CREATE TABLE pairs (a int, k extensions.citext, s text, PRIMARY KEY (a, k)); INSERT INTO pairs SELECT i / 10, 'Name' || i % 10, repeat('x', 50) FROM generate_series(1, 20000) i;
CREATE TABLE parted (k extensions.citext PRIMARY KEY, s text) PARTITION BY HASH (k);
CREATE TABLE parted0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE parted1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parted SELECT 'Name' || i, repeat('x', 50) FROM generate_series(1, 40000) i;
CREATE TABLE ints (k int PRIMARY KEY, s text); INSERT INTO ints SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i;
CREATE TABLE texts (k text PRIMARY KEY, s text); INSERT INTO texts SELECT 'Name' || i, repeat('x', 50) FROM generate_series(1, 20000) i;
CREATE TABLE twos (a int, k text, s text, PRIMARY KEY (a, k)); INSERT INTO twos SELECT i / 10, 'Name' || i % 10, repeat('x', 50) FROM generate_series(1, 20000) i;
CREATE TABLE numbers (k numeric PRIMARY KEY, s text); INSERT INTO numbers SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i;
CREATE TYPE mood AS ENUM ('a', 'b', 'c'); CREATE TABLE moods (k mood, id int, s text, PRIMARY KEY (k, id)); INSERT INTO moods SELECT (ARRAY['a', 'b', 'c'])[1 + i % 3]::mood, i, repeat('x', 50) FROM generate_series(1, 20000) i;
ANALYZE;`

// explain returns the types of the nodes of the server's plan for a statement of the
// source. It replaces its parameters by values as text.
func explain(t *testing.T, a admin, sql string, params ...string) []string {
	t.Helper()
	for i := len(params); i > 0; i-- {
		sql = strings.ReplaceAll(sql, fmt.Sprintf("$%d", i), "'"+strings.ReplaceAll(params[i-1], "'", "''")+"'")
	}
	results, err := a.conn.PgConn().Exec(t.Context(), "SET search_path = pg_catalog, public; SET random_page_cost = 1.1; SET max_parallel_workers_per_gather = 0; EXPLAIN (FORMAT JSON) "+sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	type node struct {
		Type  string `json:"Node Type"`
		Index string `json:"Index Name"`
		Cond  string `json:"Index Cond"`
		Plans []node
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal(results[len(results)-1].Rows[0][0], &plans); err != nil {
		t.Fatal(err)
	}
	var out []string
	var visit func(n node)
	visit = func(n node) {
		line := n.Type
		if n.Index != "" {
			line += " " + n.Index
			if n.Cond == "" {
				line += " without a condition"
			}
		}
		out = append(out, line)
		for _, below := range n.Plans {
			visit(below)
		}
	}
	visit(plans[0].Plan)
	return out
}

// TestLookUpsUseIndexes pins the server's plans for look-ups: those of ordinary columns are
// a condition on an array, and those whose equality only the server knows join the keys.
func TestLookUpsUseIndexes(t *testing.T) {
	uri := pgtest.Start(t).Database(t, plansSQL)
	src, ses := open(t, uri, sources.Limits{})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := asAdmin(t, uri)
	for _, k := range []struct {
		table   string
		columns []string
		from    string
		asking  []string
		params  []string // of the statement, as text
		want    []string // nodes that the plan has
		array   bool     // the statement has a condition on an array, and no ordinals
	}{
		{"names", []string{"k"}, "posts", []string{"author"}, []string{"{NAME1,NAME2,nAME3}"}, []string{"Index Scan names_pkey"}, false},
		{"posts", []string{"author"}, "names", []string{"k"}, []string{"{NAME1,NAME2,nAME3}"}, []string{"Index Scan posts_author"}, false},
		{"codes", []string{"k"}, "uses", []string{"k"}, []string{"{1,2,3}"}, []string{"Index Scan codes_pkey"}, false},
		{"pairs", []string{"a", "k"}, "", nil, []string{"{1,2,3}", "{NAME1,NAME2,nAME3}"}, []string{"Index Scan pairs_pkey"}, false},
		{"parted", []string{"k"}, "", nil, []string{"{NAME1,NAME2,nAME3}"}, []string{"Index Scan parted0_pkey", "Index Scan parted1_pkey"}, false},
		{"ints", []string{"k"}, "", nil, []string{"{1,2,3}"}, []string{"Index Scan ints_pkey"}, true},
		{"texts", []string{"k"}, "", nil, []string{"{Name1,Name2,Name3}"}, []string{"Index Scan texts_pkey"}, true},
		{"numbers", []string{"k"}, "", nil, []string{"{1,2,3}"}, []string{"Index Scan numbers_pkey"}, true},
		{"twos", []string{"a", "k"}, "", nil, []string{"{1,2,3}", "{Name1,Name2,Name3}"}, []string{"Index Scan twos_pkey"}, false},
	} {
		table := c.Table(k.table)
		asking, columns := table, k.columns
		keys := &sources.Keys{Columns: k.columns}
		if k.from != "" {
			asking, columns = c.Table(k.from), k.asking
			keys.From = &sources.KeyOrigin{Table: k.from, Columns: k.asking}
		}
		fields := make([]arrow.Field, len(columns))
		for i, name := range columns {
			fields[i] = asking.Schema.Field(asking.Column(name))
			fields[i].Type = sources.ValueType(fields[i].Type)
		}
		keys.Values = keyRecord(fields, func(row, column int) sources.Value {
			text := strings.Split(strings.Trim(k.params[column], "{}"), ",")[row]
			v, ok := sources.Convert(sources.Text(text), fields[column].Type)
			if !ok {
				v, _ = sources.Convert(sources.Int(int64(row+1)), fields[column].Type)
			}
			return v
		}, 3)
		defer keys.Values.Release()
		for _, perKey := range []int{0, 2} {
			keys.LimitPerKey = perKey
			q := &sources.Query{Table: k.table, Keys: keys}
			plan, err := ses.Plan(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(text(t, ses.Scan(t.Context(), q))); n != 3 {
				t.Errorf("%s: %d rows, want 3: %s", k.table, n, plan.Detail)
			}
			params := k.params
			if perKey > 0 {
				params = append(slices.Clone(params), "2")
			}
			nodes := explain(t, a, plan.Detail, params...)
			for _, want := range k.want {
				if !slices.Contains(nodes, want) && !slices.Contains(nodes, strings.Replace(want, "Index Scan", "Bitmap Index Scan", 1)) {
					t.Errorf("%s, %d rows of each key: the plan of %s has no %q:\n%s", k.table, perKey, plan.Detail, want, strings.Join(nodes, "\n"))
				}
			}
			if got := strings.Contains(plan.Detail, "= ANY("); got != k.array || strings.Contains(plan.Detail, "ORDINALITY") != table.Lookup(k.columns).Ordinals {
				t.Errorf("%s: the statement is %s", k.table, plan.Detail)
			}
		}
	}
}

// TestPlainLookUpsAreUnchanged pins the statements of look-ups by ordinary columns.
func TestPlainLookUpsAreUnchanged(t *testing.T) {
	uri := pgtest.Start(t).Database(t, plansSQL)
	src, ses := open(t, uri, sources.Limits{})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, table := range []string{"ints", "texts", "twos"} {
		st := c.Table(table)
		var fields []arrow.Field
		for _, name := range st.Key {
			fields = append(fields, st.Schema.Field(st.Column(name)))
		}
		keys := keyRecord(fields, func(_, column int) sources.Value { return sources.Null(fields[column].Type) }, 1)
		defer keys.Release()
		plan, err := ses.Plan(t.Context(), &sources.Query{Table: table, Columns: []string{"s"}, Keys: &sources.Keys{Columns: st.Key, Values: keys}})
		if err != nil {
			t.Fatal(err)
		}
		_, got[table], _ = strings.Cut(plan.Detail, " WHERE ")
	}
	if diff := cmp.Diff(map[string]string{
		"ints":  `t."k" = ANY($1::pg_catalog.int4[]) ORDER BY t."k"`,
		"texts": `t."k" = ANY($1::pg_catalog.text[]) ORDER BY t."k"`,
		"twos":  `(t."a", t."k") IN (SELECT k0, k1 FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.int4[]), pg_catalog.unnest($2::pg_catalog.text[])) AS k(k0, k1)) ORDER BY t."a", t."k"`,
	}, got); diff != "" {
		t.Error(diff)
	}
}

// TestResumesUseIndexes pins that a scan in the order of a key starts where it resumes.
func TestResumesUseIndexes(t *testing.T) {
	uri := pgtest.Start(t).Database(t, plansSQL)
	src, ses := open(t, uri, sources.Limits{Rows: 10})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := asAdmin(t, uri)
	for table, last := range map[string][]string{"names": {"Name5"}, "parted": {"Name5"}, "pairs": {"5", "Name5"}, "moods": {"b", "5"}, "ints": {"5"}, "numbers": {"5"}} {
		q := &sources.Query{Table: table}
		for _, name := range c.Table(table).Key {
			q.OrderBy = append(q.OrderBy, sources.Sort{Column: name})
		}
		for b, err := range ses.Scan(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			q.After = b.Cursor
			break
		}
		q.Limit = 10
		plan, err := ses.Plan(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		params := append(slices.Clone(last), "10")
		nodes := explain(t, a, plan.Detail, params...)
		index := slices.ContainsFunc(nodes, func(n string) bool {
			return strings.HasPrefix(n, "Index Scan") && !strings.HasSuffix(n, "without a condition")
		})
		if !index || slices.Contains(nodes, "Sort") {
			t.Errorf("%s: the plan of %s is:\n%s", pgx.Identifier{table}.Sanitize(), plan.Detail, strings.Join(nodes, "\n"))
		}
	}
}
