package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// describe returns the description of a table without its columns.
func describe(t *sources.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v", t.Key, t.Unique)
	names := t.RelationNames()
	for i, r := range t.Relations {
		fmt.Fprintf(&b, " | %s %s %v %s %v", names[i], r.Kind, r.Columns, r.TargetTable, r.TargetColumns)
		if r.Through != nil {
			fmt.Fprintf(&b, " %+v", *r.Through)
		}
		if r.Unusable != "" {
			fmt.Fprintf(&b, ": %s", r.Unusable)
		}
	}
	return b.String()
}

func TestCatalogIsComplete(t *testing.T) {
	uri := pgtest.Start(t).Database(t, script(t, "catalog.sql"))
	src, ses := open(t, uri, sources.Limits{})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	long := "a table with a name that is as long as a name in here can be, x"
	longColumn := "a column with a name that is as long as a name in here can be x"
	want := map[string]string{
		"customers": "[id] [[email] [region code]] | orders_by_customer has_many [id] orders [customer_id] | orders_by_email has_many [email] orders [email]" +
			" | orders_by_gift_for has_many [id] orders [gift_for] | orders_by_region_code has_many [region code] orders [region code]" +
			" | hidden.secret has_many [id] hidden.secret [customer_id]",
		"orders": "[id] []",
		"lines":  "[order_id no] []", "tags": "[id] []", "order_tags": "[order_id tag_id] []",
		"measures": "[at] []", "animals": "[] []", "dogs": "[id] []", "big": "[] []", "totals": "[] [[month]]", "far": "[] []",
		"Case": "[] []", "case": "[] []", long: "[" + longColumn + "] []",
		`"Other.orders"`: "[] []", "Other.orders": "[id] [] | order belongs_to [order_id] orders [id]", "hidden.secret": "[id] [] | customer belongs_to [customer_id] customers [id]",
		"nothing": "[] []", "no_key": "[] []", "wide": "[] []",
	}
	var names []string
	for i := range c.Tables {
		table := &c.Tables[i]
		names = append(names, table.Name)
		if got := describe(table); !strings.HasPrefix(got, want[table.Name]) || want[table.Name] == "" {
			t.Errorf("%s is\n%s, want\n%s", table.Name, got, want[table.Name])
		}
	}
	if len(names) != len(want) {
		t.Errorf("the tables are %q", names)
	}
	relations, orders := map[string]string{}, c.Table("orders")
	for i, r := range orders.Relations {
		relations[orders.RelationNames()[i]] = r.Kind.String() + " " + r.TargetTable
	}
	if diff := cmp.Diff(map[string]string{
		"customer": "belongs_to customers", "customers_by_email": "belongs_to customers", "customers_by_gift_for": "belongs_to customers",
		"customers_by_region_code": "belongs_to customers", "orders": "belongs_to orders", "orders_by_replaces": "has_many orders",
		"lines_by_id_best_line": "belongs_to lines", "lines_by_order": "has_many lines",
		"order_tags": "has_many order_tags", "tags": "many_to_many tags", "Other.orders": "has_many Other.orders",
	}, relations); diff != "" {
		t.Error(diff)
	}
	meta := func(table, column, key string) string {
		at := c.Table(table)
		v, _ := at.Schema.Field(at.Column(column)).Metadata.GetValue(key)
		return v
	}
	for _, m := range []struct{ table, column, key, want string }{
		{"customers", "email", sources.MetaComment, "where to write"}, {"customers", "id", sources.MetaGenerated, "always as identity"},
		{"customers", "lower_email", sources.MetaGenerated, "always as (lower(email))"}, {"customers", "lower_email", sources.MetaDefault, ""},
		{"customers", "since", sources.MetaDefault, "CURRENT_DATE"}, {"customers", "since", sources.MetaType, "date"}, {"wide", "c1500", sources.MetaDefault, "1500"},
	} {
		if got := meta(m.table, m.column, m.key); got != m.want {
			t.Errorf("%s.%s: %s is %q, want %q", m.table, m.column, m.key, got, m.want)
		}
	}
	if got := c.Table("customers").Comment; got != "who buys" {
		t.Errorf("the comment is %q", got)
	}
	if n := c.Table("wide").Schema.NumFields(); n != 1499 {
		t.Errorf("%d columns", n)
	}
	// The rows can be read, and the estimates are close.
	for name, want := range map[string]int{"measures": 700, "animals": 2, "dogs": 1, "big": 99, "totals": 23, "nothing": 1, "no_key": 50, "wide": 1, long: 1} {
		if got := len(text(t, ses.Scan(t.Context(), &sources.Query{Table: name}))); got != want {
			t.Errorf("%s has %d rows, want %d", name, got, want)
		}
		if estimate := c.Table(name).Rows; estimate >= 0 && estimate != int64(want) {
			t.Errorf("%s is said to have %d rows, and has %d", name, estimate, want)
		}
	}
	for name, want := range map[string]sources.Capability{
		"measures": sources.CapResume | sources.CapStable | sources.CapSnapshot, "no_key": sources.CapResume | sources.CapPartition, "totals": sources.CapPartition,
		"big": sources.CapSnapshot, "nothing": sources.CapResume, "animals": sources.CapSnapshot,
	} {
		if can := c.Table(name).Capabilities; !can.Has(want) {
			t.Errorf("%s can %s, want %s", name, can, want)
		}
	}
	for name, not := range map[string]sources.Capability{"big": sources.CapResume, "far": sources.CapSnapshot, "measures": sources.CapPartition, "animals": sources.CapResume} {
		if can := c.Table(name).Capabilities; can&not != 0 {
			t.Errorf("%s can %s", name, can)
		}
	}
}

func TestSchemasOption(t *testing.T) {
	uri := pgtest.Start(t).Database(t, script(t, "catalog.sql"))
	src, _ := openWith(t, uri, map[string]string{"schema": "hidden", "schemas": "hidden,Other"}, sources.Limits{})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, table := range c.Tables {
		names = append(names, table.Name)
	}
	if diff := cmp.Diff([]string{"secret", "Other.orders"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestPrivileges reads with a role that has few privileges.
func TestPrivileges(t *testing.T) {
	server := pgtest.Start(t)
	uri := server.Database(t, `CREATE SCHEMA closed; CREATE TABLE closed.inner (id int PRIMARY KEY);
CREATE TABLE open (id int PRIMARY KEY, secret text, other int); INSERT INTO open VALUES (1, 'x', 2), (2, 'y', 3);
CREATE TABLE refused (id int PRIMARY KEY, open_id int REFERENCES open); COMMENT ON TABLE refused IS 'words';
CREATE TABLE ruled (id int PRIMARY KEY, owner name); INSERT INTO ruled VALUES (1, 'penstock_reader'), (2, 'someone');
ALTER TABLE ruled ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON ruled USING (owner = current_user);
DROP ROLE IF EXISTS penstock_reader; CREATE ROLE penstock_reader LOGIN PASSWORD 'reads';
GRANT SELECT (id, other) ON open TO penstock_reader; GRANT SELECT, INSERT ON ruled TO penstock_reader;`)
	t.Cleanup(func() {
		if err := pgtest.Run(context.Background(), uri, "DROP OWNED BY penstock_reader; DROP ROLE penstock_reader;"); err != nil {
			t.Error(err)
		}
	})
	before, after, _ := strings.Cut(uri, "//")
	_, host, _ := strings.Cut(after, "@")
	src, ses := open(t, before+"//penstock_reader:reads@"+host, sources.Limits{})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"closed.inner": `may not be read: the role has no USAGE privilege on the schema "closed"`, "refused": "words (may not be read: the role has no SELECT privilege on it)",
		"open": `may not be read: the columns "secret"`, "ruled": "",
	} {
		if got := c.Table(name).Comment; got != want {
			t.Errorf("%s: the comment is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"closed.inner", "refused"} {
		_, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: name}))
		_, planned := ses.Plan(t.Context(), &sources.Query{Table: name})
		if sources.KindOf(err) != sources.Denied || sources.KindOf(planned) != sources.Denied {
			t.Errorf("%s: a scan ends with %v, a plan with %v", name, err, planned)
		}
	}
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "open"})); !slices.Equal(got, []string{"1|2", "2|3"}) {
		t.Errorf("open has %q", got)
	}
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "ruled"})); !slices.Equal(got, []string{`1|"penstock_reader"`}) {
		t.Errorf("ruled has %q", got)
	}
	// A privilege that is revoked later is an error.
	if err := pgtest.Run(t.Context(), uri, "REVOKE SELECT ON ruled FROM penstock_reader;"); err != nil {
		t.Fatal(err)
	}
	if _, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: "ruled"})); sources.KindOf(err) != sources.Denied {
		t.Errorf("a revoked right gives %v", err)
	}
}

// TestColumnPrivileges reads tables of which the role may select only some columns.
func TestColumnPrivileges(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE keyed (id int PRIMARY KEY, n int, c char(3), secret text);
INSERT INTO keyed SELECT i, i % 2, chr(97 + i % 2), 'x' FROM generate_series(1, 6) i;
CREATE TABLE a_secret (id int PRIMARY KEY); CREATE TABLE bare AS SELECT * FROM keyed; ALTER TABLE bare ALTER c TYPE char(3);
DROP ROLE IF EXISTS penstock_columns; CREATE ROLE penstock_columns LOGIN PASSWORD 'reads';
GRANT SELECT (id, n, c) ON keyed, bare TO penstock_columns;`)
	t.Cleanup(func() {
		if err := pgtest.Run(context.Background(), uri, "DROP OWNED BY penstock_columns; DROP ROLE penstock_columns;"); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("penstock_columns", "reads")
	src, ses := open(t, u.String(), sources.Limits{})
	// The first table may not be read. The contract holds for the others.
	if err := testkit.TestSource(t.Context(), src); err != nil {
		t.Error(err)
	}
	n := keyRecord([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int32}}, func(row, _ int) sources.Value { return sources.Int(int64(row)) }, 2)
	defer n.Release()
	c := keyRecord([]arrow.Field{{Name: "c", Type: arrow.BinaryTypes.String}}, func(row, _ int) sources.Value { return sources.Text(string(rune('a' + row))) }, 2)
	defer c.Release()
	descending := []sources.Sort{{Column: "id", Desc: true}}
	for _, table := range []string{"keyed", "bare"} {
		// Each key has its last row.
		for column, values := range map[string]arrow.RecordBatch{"n": n, "c": c} {
			q := &sources.Query{Table: table, Columns: []string{"id"}, OrderBy: descending, Keys: &sources.Keys{Columns: []string{column}, Values: values, LimitPerKey: 1}}
			got, err := rowsOf(ses.Scan(t.Context(), q))
			for i := range got {
				got[i], _, _ = strings.Cut(got[i], "|") // without the ordinal
			}
			if slices.Sort(got); err != nil || !slices.Equal(got, []string{"5", "6"}) {
				t.Errorf("%s by %s: %q, %v", table, column, got, err)
			}
		}
		for name, q := range map[string]*sources.Query{
			"columns": {Columns: []string{"id", "secret"}}, "where": {Where: sources.IsNull{Column: "secret"}}, "order": {OrderBy: []sources.Sort{{Column: "secret"}}},
		} {
			q.Table = table
			_, planned := ses.Plan(t.Context(), q)
			_, scanned := rowsOf(ses.Scan(t.Context(), q))
			_, opened := core.Open(t.Context(), src, core.Query{Table: table, Columns: q.Columns, Where: q.Where, OrderBy: q.OrderBy}, core.Options{}, core.Resources{})
			for _, err := range []error{planned, scanned, opened} {
				if sources.KindOf(err) != sources.Denied || !strings.Contains(err.Error(), name+`: column "secret" may not be read: the role has no SELECT privilege on it`) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if _, err := rowsOf(ses.Scan(t.Context(), &sources.Query{Table: table, Columns: []string{"none"}})); sources.KindOf(err) != sources.NotFound {
			t.Errorf("a column that is not there: %v", err)
		}
	}
}

// TestNamesCannotInject queries tables and columns whose names contain SQL.
func TestNamesCannotInject(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE "a""; DROP TABLE b; --" ("x""y" int, "X""Y" text, "$1" int, "t.x" int, PRIMARY KEY ("x""y", "X""Y"));
INSERT INTO "a""; DROP TABLE b; --" VALUES (1, '''; DROP TABLE b; --', 2, 3); CREATE TABLE b (id int PRIMARY KEY);`)
	src, ses := open(t, uri, sources.Limits{})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := `a"; DROP TABLE b; --`
	var order []sources.Sort
	for _, f := range c.Table(name).Schema.Fields() {
		order = append(order, sources.Sort{Column: f.Name, Desc: true})
	}
	q := &sources.Query{Table: name, OrderBy: order, Where: sources.And{
		sources.Comparison{Column: `X"Y`, Op: sources.OpEq, Value: sources.Text(`'; DROP TABLE b; --`)}, sources.Like{Column: `X"Y`, Pattern: `'; DROP%`},
		sources.In{Column: `X"Y`, Values: []sources.Value{sources.Text(`'; DROP TABLE b; --`), sources.Text(`$1`)}}, sources.HasPrefix{Column: `X"Y`, Prefix: `';`},
	}}
	if got := text(t, ses.Scan(t.Context(), q)); !slices.Equal(got, []string{`1|"'; DROP TABLE b; --"|2|3`}) {
		t.Errorf("%q", got)
	}
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "b"})); len(got) != 0 {
		t.Errorf("%q", got)
	}
	for _, bad := range []sources.Config{
		{URI: uri, Options: map[string]string{"schema": `"; DROP TABLE b; --`, "application_name": `'; DROP TABLE b; --`}},
		{URI: uri, Options: map[string]string{"schemas": `'; DROP TABLE b; --`}},
	} {
		src, err := postgres.Open(t.Context(), bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Catalog(t.Context()); err != nil {
			t.Error(err)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, Snapshot: `00000003-00000001-1'; DROP TABLE b; --`}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a snapshot's name that is SQL gives %v", err)
	}
	if got := text(t, ses.Scan(t.Context(), &sources.Query{Table: "b"})); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
