package csv

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

// openNames notes the files that are opened.
type openNames struct {
	fs.FS
	names []string
}

func (o *openNames) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, ".csv") && !slices.Contains(o.names, name) {
		o.names = append(o.names, name)
	}
	return o.FS.Open(name)
}

// Stat implements [fs.StatFS]; it opens no file.
func (o *openNames) Stat(name string) (fs.FileInfo, error) { return fs.Stat(o.FS, name) }

// described returns the names of the tables that are not pending.
func described(c *sources.Catalog) (names []string) {
	for _, t := range c.Tables {
		if !t.Pending {
			names = append(names, t.Name)
		}
	}
	return names
}

// TestTablesAreReadWhenAskedFor: listing the tables of a directory reads no file, and a
// query reads those of its table and of what foreign keys connect with it.
func TestTablesAreReadWhenAskedFor(t *testing.T) {
	files := fstest.MapFS{
		"orders.csv":       {Data: []byte("id,customer_id\n1,1\n")},
		"customers.csv":    {Data: []byte("id,name\n1,a\n")},
		"lines.csv":        {Data: []byte("order_id,price\n1,2.5\n")},
		"broken.csv":       {Data: []byte("a,a\n1,2\n")},
		"datapackage.json": {Data: []byte(`{"resources": [{"name": "orders", "path": "orders.csv", "schema": {"fields": [{"name": "id", "type": "integer"}, {"name": "customer_id", "type": "integer"}], "primaryKey": "id"}}]}`)},
	}
	for i := range 1000 {
		files[fmt.Sprintf("t%03d.csv", i)] = &fstest.MapFile{Data: []byte("v\n1\n")}
	}
	keys, err := sources.ParseForeignKeys("orders.customer_id->customers.id\nlines.order_id->orders.id")
	if err != nil {
		t.Fatal(err)
	}
	open := func(o Options) (sources.Source, *openNames) {
		t.Helper()
		opened := &openNames{FS: files}
		s, err := New(opened, o)
		if err != nil {
			t.Fatal(err)
		}
		return s, opened
	}
	s, opened := open(Options{ForeignKeys: keys})
	list, err := s.Catalog(sources.ForTables(t.Context()))
	if err != nil || len(list.Tables) != 1004 || described(list) != nil || opened.names != nil {
		t.Fatalf("%d tables, %q described, %q read, %v", len(list.Tables), described(list), opened.names, err)
	}
	// A session needs no more than the tables of its queries.
	session, err := s.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil || opened.names != nil {
		t.Fatalf("%q read, %v", opened.names, err)
	}
	rows := int64(0)
	for batch, err := range session.Scan(t.Context(), &sources.Query{Table: "t007"}) {
		if err != nil {
			t.Fatal(err)
		}
		rows += batch.Record.NumRows()
	}
	if _, err := session.Plan(t.Context(), &sources.Query{Table: "t008"}); err != nil || rows != 1 || !cmp.Equal(opened.names, []string{"t007.csv", "t008.csv"}) {
		t.Errorf("%d rows, %q read, %v", rows, opened.names, err)
	}
	if _, err := session.Plan(t.Context(), &sources.Query{Table: "none"}); sources.KindOf(err) != sources.NotFound {
		t.Errorf("a table that does not exist: %v", err)
	}
	c, err := s.Catalog(sources.ForTables(t.Context(), "lines"))
	if want := []string{"customers", "lines", "orders", "t007", "t008"}; err != nil || !cmp.Equal(described(c), want) {
		t.Fatalf("%q described, %v, want %q", described(c), err, want)
	}
	if described(list) != nil {
		t.Error("an earlier catalog was modified")
	}
	// What is described does not depend on what was asked for before.
	other, _ := open(Options{ForeignKeys: keys})
	for _, name := range []string{"customers", "lines", "orders", "t007"} {
		o, err := other.Catalog(sources.ForTables(t.Context(), name))
		if err != nil {
			t.Fatal(err)
		}
		a, b := c.Table(name), o.Table(name)
		if !a.Schema.Equal(b.Schema) || !cmp.Equal(a.Relations, b.Relations) || !cmp.Equal(a.Lookups, b.Lookups) || !cmp.Equal(a.Key, b.Key) || a.Rows != b.Rows || o.Identity != c.Identity {
			t.Errorf("%s is described as %+v and as %+v", name, a, b)
		}
	}
	if len(c.Table("orders").Relations) != 2 {
		t.Errorf("the relations of orders: %+v", c.Table("orders").Relations)
	}
	// A file that cannot be read spoils only its own table.
	for _, ctx := range []context.Context{sources.ForTables(t.Context(), "broken"), t.Context()} {
		c, err := s.Catalog(ctx)
		if err != nil || c.Table("broken") != nil || len(c.Unreadable) != 1 || sources.KindOf(c.NoTable("broken")) != sources.Invalid {
			t.Errorf("with a broken file: %v, %+v", err, c.Unreadable)
		}
	}
	if _, err := s.Catalog(sources.ForTables(t.Context(), "t009")); err != nil {
		t.Errorf("after a broken file: %v", err)
	}
	// A key of the options with a table that does not exist is an error, whatever is asked for.
	unknown, err := sources.ParseForeignKeys("orders.customer_id->custmers.id")
	if err != nil {
		t.Fatal(err)
	}
	s, _ = open(Options{ForeignKeys: unknown})
	if _, err := s.Catalog(sources.ForTables(t.Context(), "orders")); err == nil || !strings.Contains(err.Error(), `there is no table "custmers"; the nearest is "customers"`) {
		t.Errorf("an unknown table: %v", err)
	}
	// Keys by names need the columns of all tables.
	delete(files, "broken.csv")
	s, _ = open(Options{ByName: true})
	if c, err = s.Catalog(sources.ForTables(t.Context(), "orders")); err != nil || len(described(c)) != 1003 || len(c.Table("orders").Relations) == 0 {
		t.Errorf("by names: %d tables are described, %v", len(described(c)), err)
	}
}
