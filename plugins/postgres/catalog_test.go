package postgres_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

func TestCatalogQuotesAndRelates(t *testing.T) {
	src, ses := open(t, pgtest.Start(t).Database(t, `CREATE SCHEMA other;
CREATE TABLE "a""; DROP TABLE b; --" ("x""y" int, "X""Y" text, PRIMARY KEY ("x""y", "X""Y"));
CREATE TABLE other.b (id int PRIMARY KEY, parent_id int REFERENCES other.b, p int, q text, FOREIGN KEY (p, q) REFERENCES "a""; DROP TABLE b; --");
COMMENT ON COLUMN other.b.q IS 'a comment';
CREATE TABLE none ();
INSERT INTO "a""; DROP TABLE b; --" VALUES (1, 'one'); INSERT INTO other.b VALUES (1, 1, 1, 'one'); INSERT INTO none DEFAULT VALUES;`), sources.Limits{})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hostile := `a"; DROP TABLE b; --`
	got := map[string][]string{}
	for _, table := range c.Tables {
		got[table.Name] = []string{}
		for _, r := range table.Relations {
			got[table.Name] = append(got[table.Name], r.Name+" "+r.Kind.String())
		}
		if n := len(text(t, ses.Scan(t.Context(), &sources.Query{Table: table.Name}))); n != 1 {
			t.Errorf("%s: %d rows", table.Name, n)
		}
	}
	want := map[string][]string{
		hostile: {"other.b has_many"}, "none": {},
		"other.b": {hostile + " belongs_to", "parent belongs_to", "other.b has_many"},
	}
	for name := range want {
		if diff := cmp.Diff(want[name], got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if comment, _ := c.Table("other.b").Schema.Field(3).Metadata.GetValue(sources.MetaComment); comment != "a comment" {
		t.Errorf("comment %q", comment)
	}
	plan, err := ses.Plan(t.Context(), &sources.Query{Table: "other.b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := join(t, src, plan.Snapshot); err != nil {
		t.Fatal(err)
	}
}

// join joins a session's snapshot with another session.
func join(t *testing.T, src sources.Source, snapshot string) error {
	joined, err := src.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, Join: snapshot})
	if err != nil {
		return err
	}
	if n := len(text(t, joined.Scan(t.Context(), &sources.Query{Table: "none"}))); n != 1 {
		t.Errorf("%d rows in the joined snapshot", n)
	}
	return joined.Close()
}
