package relation_test

import (
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// TestAliases checks that two names of a relation are one relation: it is loaded once,
// with the options of both, under the name that comes first.
func TestAliases(t *testing.T) {
	source := coretest.Library(t)
	truth := coretest.ReadTables(t, source)
	for _, c := range []struct {
		table, required, optional string
		want                      string // the same load without aliases
		paths                     []string
	}{
		{"books", "people_by_author.boss,author(columns: name).cards", "", "people_by_author(columns: name).boss,people_by_author.cards",
			[]string{"people_by_author", "people_by_author.boss", "people_by_author.cards"}},
		{"books", "people__by__author_id,people_by_author_id,author", "", "people__by__author_id", []string{"people__by__author_id"}},
		{"books", "author.boss", "people_by_author(columns: name)", "author(columns: name).boss", []string{"author", "author.boss"}},
		{"books", "pages(limit: 2),pages_by_edition_isbn(order: words:desc)", "", "pages(limit: 2, order: words:desc)", []string{"pages"}},
		{"people", "boss.people__by__boss_id,boss.boss", "", "boss.people__by__boss_id", []string{"boss", "boss.people__by__boss_id"}},
		{"shelves", "books_by_shelf_books.author,books", "", "books_by_shelf_books.author", []string{"books_by_shelf_books", "books_by_shelf_books.author"}},
		{"shelves", "", "books_by_shelf_books,books", "books_by_shelf_books", []string{"books_by_shelf_books"}},
	} {
		load := query.Load{}
		for text, branches := range map[string]*[]query.Branch{c.required: &load.Required, c.optional: &load.Optional} {
			if text != "" {
				*branches = coretest.ParseLoad(t, text)
			}
		}
		var want []coretest.Object
		for _, row := range truth.Rows[c.table] {
			want = append(want, truth.Expected(c.table, row, nil, coretest.ParseLoad(t, c.want)))
		}
		var read []string
		for _, branch := range load.Optional {
			if c.required == "" {
				read = append(read, branch.Name)
			}
		}
		got, receipt := coretest.ReadObjects(t, source, core.Query{Table: c.table, Load: load}, core.Options{ChunkRows: 1000}, read...)
		if len(read) > 1 { // the consumer names the column
			for _, o := range got {
				if diff := gocmp.Diff(o[read[0]], o[read[1]]); diff != "" {
					t.Errorf("%s: two names have different rows:\n%s", c.optional, diff)
				}
				delete(o, read[1])
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s and %s (-want +got):\n%s", c.required, c.optional, diff)
		}
		var paths []string
		for _, r := range receipt.Relations {
			paths = append(paths, r.Path)
		}
		if diff := gocmp.Diff(c.paths, paths); diff != "" {
			t.Errorf("%s and %s: the figures (-want +got):\n%s", c.required, c.optional, diff)
		}
	}
}

// TestEagerNames checks that eager loading loads each relation once, also one that the
// query names in another way, and leaves out relations that are unusable.
func TestEagerNames(t *testing.T) {
	source := coretest.Restrict(t, coretest.Library(t), func(table *sources.Table) {
		table.Relations = slices.Clone(table.Relations)
		for i := range table.Relations {
			if r := &table.Relations[i]; table.Name == "books" && r.TargetTable == "loans" {
				r.Unusable = "it is spoiled"
			}
		}
	})
	load := query.Load{Required: coretest.ParseLoad(t, "people_by_author,people_by_editor(columns: name)")}
	stream := coretest.Open(t, source, core.Query{Table: "books", Columns: []string{"price"}, Load: load}, core.Options{Strategy: query.Eager, MaxDepth: 1}, core.Resources{Budget: coretest.NewBudget(t)})
	var names []string
	for _, f := range stream.Schema().Fields() {
		names = append(names, f.Name)
	}
	if diff := gocmp.Diff([]string{"price", "people_by_author", "people_by_editor", "pages", "shelf_books", "shelves"}, names); diff != "" {
		t.Error(diff)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
}

// TestNamesThatLeadNowhere checks that the errors of a load say which names to use.
func TestNamesThatLeadNowhere(t *testing.T) {
	source := coretest.Restrict(t, coretest.Library(t), func(table *sources.Table) {
		table.Relations = slices.Clone(table.Relations)
		for i := range table.Relations {
			if r := &table.Relations[i]; r.TargetTable == "loans" {
				r.Unusable = "isbn (utf8) cannot be compared with isbn (int64)"
			}
		}
	})
	for load, want := range map[string]string{
		"people":               `load books: invalid: people: relation "people" is ambiguous: people__by__author_id or people__by__editor_id`,
		"author.books":         `load books: invalid: author.books: relation "books" is ambiguous: books__with__author_id or books__with__editor_id`,
		"loans":                `load books: invalid: loans: relation "loans" cannot be loaded: isbn (utf8) cannot be compared with isbn (int64)`,
		"pages.books.loans":    `pages.books.loans: relation "loans" cannot be loaded`,
		"authr":                `load books: not found: authr: table "books" has no relation "authr"; the nearest is "author"`,
		"author,people":        `people: relation "people" is ambiguous`,
		"author.cards.people_": `author.cards.people_: table "cards" has no relation "people_"`,
	} {
		kind := sources.Invalid
		if strings.Contains(want, "has no") {
			kind = sources.NotFound
		}
		q := core.Query{Table: "books", Load: query.Load{Required: coretest.ParseLoad(t, load)}}
		if _, err := core.Open(t.Context(), source, q, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)}); sources.KindOf(err) != kind || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v, want\n%s", load, err, want)
		}
	}
	stream := coretest.Open(t, source, core.Query{Table: "books"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chunk.Related(t.Context(), "people"); sources.KindOf(err) != sources.Invalid || err.Error() != `load books: invalid: people: relation "people" is ambiguous: people__by__author_id or people__by__editor_id` {
			t.Errorf("an ambiguous name: %v", err)
		}
		first, err := chunk.Related(t.Context(), "author")
		second, err2 := chunk.Related(t.Context(), "people_by_author")
		if err != nil || err2 != nil || first != second {
			t.Errorf("two names of a relation: %v, %v, %v, %v", first, err, second, err2)
		}
	}
	if n := len(stream.Receipt().Relations); n != 1 {
		t.Errorf("%d relations were loaded", n)
	}
}
