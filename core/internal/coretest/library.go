package coretest

import (
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// Library returns a source in memory that has every kind of relation and key:
//
//	people       key id (uuid); boss_id refers to people, is NULL in the first row and dangles in one
//	books        composite key isbn (text), edition (int32); author_id and editor_id both refer to people
//	pages        key number; isbn and edition (int64, not int32 as the target); some dangle, some are NULL
//	shelves      key label (decimal)
//	shelf_books  joins shelves and books, many to many; some rows dangle
//	cards        key card_no; owner_id is unique, so that people have at most one card
//	loans        no key; isbn and edition refer to books
func Library(t testing.TB) sources.Source {
	t.Helper()
	field := func(name string, typ arrow.DataType, nullable bool) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: nullable}
	}
	schema := func(fields ...arrow.Field) *arrow.Schema { return arrow.NewSchema(fields, nil) }
	text, i64, i32 := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32
	uuid := &arrow.FixedSizeBinaryType{ByteWidth: 16}
	label := &arrow.Decimal128Type{Precision: 6, Scale: 1}
	wide := &arrow.Decimal128Type{Precision: 10, Scale: 3}
	id := func(n int) []byte { return fmt.Appendf(nil, "penstock%08d", n) }
	rows := func(n int, row func(i int) []any) iter.Seq[[]any] {
		return func(yield func([]any) bool) {
			for i := range n {
				if !yield(row(i)) {
					return
				}
			}
		}
	}
	or := func(null bool, v any) any {
		if null {
			return nil
		}
		return v
	}
	const people, books, shelves = 23, 61, 9
	isbn := func(b int) string { return strings.Repeat("9", b%3) + fmt.Sprint(b/2) }
	source, err := testkit.NewMemory([]testkit.MemoryTable{
		{Name: "people", Schema: schema(field("id", uuid, false), field("name", text, true), field("boss_id", uuid, true)), Key: []string{"id"},
			Rows: rows(people, func(i int) []any {
				return []any{id(people - i), or(i%5 == 0, strings.Repeat("n", i)), or(i == 0, id((i*7)%(people+1)))}
			})},
		{Name: "books", Key: []string{"isbn", "edition"},
			Schema: schema(field("isbn", text, false), field("edition", i32, false), field("author_id", uuid, true), field("editor_id", uuid, true), field("price", wide, true)),
			Rows: rows(books, func(i int) []any {
				b := (i * 17) % books // not in key order
				return []any{isbn(b), int32(b % 2), or(b%9 == 0, id(1+b%7)), or(b%4 > 0, id(1+b%people)), or(b%3 == 0, decimal128.FromI64(int64(1001*b)))}
			})},
		{Name: "pages", Key: []string{"number"}, Schema: schema(field("number", i64, false), field("isbn", text, true), field("edition", i64, true), field("words", i32, false)),
			Rows: rows(160, func(i int) []any {
				b := (i * i) % (books + 5)
				return []any{int64((i * 3) % 161), or(i%31 == 0, isbn(b)), or(i%37 == 0, int64(b%2)+int64(i/150)<<40), int32(i % 10)}
			})},
		{Name: "shelves", Key: []string{"label"}, Schema: schema(field("label", label, false), field("room", text, true)),
			Rows: rows(shelves, func(i int) []any { return []any{decimal128.FromI64(int64(10*(shelves-i) + 5)), or(i == 3, "room")} })},
		{Name: "shelf_books", Key: []string{"shelf", "isbn", "edition"},
			Schema: schema(field("shelf", wide, false), field("isbn", text, false), field("edition", i32, false)),
			Rows: rows(100, func(i int) []any {
				b := i % (books + 2)
				return []any{decimal128.FromI64(int64(1500 + 1000*((i/(books+2)+i)%(shelves-1)))), isbn(b), int32(b % 2)}
			})},
		{Name: "cards", Key: []string{"card_no"}, Unique: [][]string{{"owner_id"}}, Schema: schema(field("card_no", i64, false), field("owner_id", uuid, true)),
			Rows: rows(15, func(i int) []any { return []any{int64(100 - i), or(i == 2, id(i+1))} })},
		{Name: "loans", Schema: schema(field("isbn", text, true), field("edition", i32, true), field("days", i64, true)),
			Rows: rows(70, func(i int) []any { return []any{isbn(i % 50), int32(i % 2), or(i%6 == 0, int64((i*i)%11))} })},
	}, []sources.ForeignKey{
		{Table: "people", Columns: []string{"boss_id"}, TargetTable: "people"},
		{Table: "books", Columns: []string{"author_id"}, TargetTable: "people"},
		{Table: "books", Columns: []string{"editor_id"}, TargetTable: "people"},
		{Table: "pages", Columns: []string{"edition", "isbn"}, TargetTable: "books", TargetColumns: []string{"edition", "isbn"}},
		{Table: "shelf_books", Columns: []string{"shelf"}, TargetTable: "shelves"},
		{Table: "shelf_books", Columns: []string{"isbn", "edition"}, TargetTable: "books"},
		{Table: "cards", Columns: []string{"owner_id"}, TargetTable: "people"},
		{Table: "loans", Columns: []string{"isbn", "edition"}, TargetTable: "books"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// LibraryLoads are loads of relations of the [Library], in the syntax of
// [query.ParseLoad], each with the table it starts at.
var LibraryLoads = []struct{ Table, Load string }{
	{"people", "boss,people"},
	{"people", "boss.boss.boss"},
	{"people", "cards,books_by_author.pages,books_by_editor.loans"},
	{"people", `people(order: [name:desc:nulls-first], limit: 2, columns: [name]).boss(columns: [])`},
	{"books", "author.boss,editor(columns: name),pages(order: words:desc, limit: 3),loans(order: [days:desc])"},
	{"books", "shelves.books.author,loans(limit: 1)"},
	{"pages", "books.shelves,books.author"},
	{"shelves", "books(limit: 4, order: price:nulls-first).editor.cards,shelf_books"},
	{"shelf_books", "shelves.books(columns: price),books"},
	{"cards", "owner.people.people"},
	{"loans", "books.pages(columns: [words])"},
}

// ParseLoad parses a load as [query.ParseLoad] does; an error fails the test.
func ParseLoad(t testing.TB, text string) []query.Branch {
	t.Helper()
	levels, err := query.ParseLoad(text)
	if err != nil {
		t.Fatal(err)
	}
	return levels
}
