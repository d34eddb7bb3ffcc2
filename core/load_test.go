package core_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// The library has every shape of relation and of key.
//
//	people       id uuid, boss_id (self; the first has none, one dangles)
//	books        (isbn, edition) composite text and int32 key, author_id and editor_id: two relations to people, price
//	pages        number, isbn, edition int64: composite keys of another type than their target's; some dangle, some NULL
//	shelves      label decimal key; shelf_books: many to many over it and the composite key; some dangle
//	cards        card_no, owner_id unique: has one
//	loans        no key at all, isbn, edition, days
func library(t testing.TB) sources.Source {
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
				b := (i * 17) % books // not in the order of the key
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

// data are the rows of a source, for the reference.
type data struct {
	catalog *sources.Catalog
	rows    map[string][]map[string]sources.Value
}

func readAll(t testing.TB, source sources.Source) data {
	t.Helper()
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	d := data{catalog: catalog, rows: map[string][]map[string]sources.Value{}}
	for _, table := range catalog.Tables {
		for batch, err := range session.Scan(t.Context(), &sources.Query{Table: table.Name}) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range int(batch.Record.NumRows()) {
				row := map[string]sources.Value{}
				for j, f := range batch.Record.Schema().Fields() {
					row[f.Name] = sources.ValueAt(batch.Record.Column(j), i)
				}
				d.rows[table.Name] = append(d.rows[table.Name], row)
			}
		}
	}
	return d
}

// object is a row with its relations, by name: texts, nil, objects and lists of
// objects.
type object map[string]any

// answer is what a query must give, computed as naively as can be.
func (d data) answer(table string, row map[string]sources.Value, columns []string, load []query.Branch) object {
	out := object{}
	if columns == nil {
		for _, f := range d.catalog.Table(table).Schema.Fields() {
			columns = append(columns, f.Name)
		}
	}
	for _, c := range columns {
		if out[c] = nil; !row[c].IsNull() {
			out[c] = row[c].String()
		}
	}
	for _, level := range load {
		r := d.catalog.Table(table).Relation(level.Name)
		related := d.related(row, r, level)
		list := []any{}
		for _, other := range related {
			list = append(list, d.answer(r.TargetTable, other, level.Columns, level.Below))
		}
		switch {
		case !r.Kind.ToOne():
			out[level.Name] = list
		case len(list) == 0:
			out[level.Name] = nil
		default:
			out[level.Name] = list[0]
		}
	}
	return out
}

func (d data) related(row map[string]sources.Value, r *sources.Relation, level query.Branch) []map[string]sources.Value {
	matching := func(table string, from map[string]sources.Value, as, bs []string) (all []map[string]sources.Value) {
		for _, other := range d.rows[table] {
			same := true
			for i := range as {
				a, b := from[as[i]], other[bs[i]]
				same = same && !a.IsNull() && !b.IsNull() && sources.Compare(a, b) == 0
			}
			if same {
				all = append(all, other)
			}
		}
		return all
	}
	var all []map[string]sources.Value
	if r.Through == nil {
		all = matching(r.TargetTable, row, r.Columns, r.TargetColumns)
	} else {
		for _, join := range matching(r.Through.Table, row, r.Columns, r.Through.Near) {
			all = append(all, matching(r.TargetTable, join, r.Through.Far, r.TargetColumns)...)
		}
	}
	all = slices.DeleteFunc(all, func(other map[string]sources.Value) bool {
		return sources.Eval(level.Where, func(c string) sources.Value { return other[c] }) != sources.True
	})
	order := slices.Clone(level.OrderBy)
	for _, c := range d.catalog.Table(r.TargetTable).Key {
		order = append(order, sources.Sort{Column: c})
	}
	slices.SortStableFunc(all, func(a, b map[string]sources.Value) int {
		for _, s := range order {
			if c := testkit.CompareBy(s, a[s.Column], b[s.Column]); c != 0 {
				return c
			}
		}
		return 0
	})
	if level.Limit > 0 && len(all) > level.Limit {
		all = all[:level.Limit]
	}
	return all
}

// objects are the rows of a record.
func objects(record arrow.RecordBatch) []object {
	var out []object
	for i := range int(record.NumRows()) {
		o := object{}
		for j, f := range record.Schema().Fields() {
			o[f.Name] = nested(record.Column(j), i)
		}
		out = append(out, o)
	}
	return out
}

func nested(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Struct:
		o := object{}
		for j, f := range a.DataType().(*arrow.StructType).Fields() {
			o[f.Name] = nested(a.Field(j), i)
		}
		return o
	case *array.List:
		list := []any{}
		from, to := a.ValueOffsets(i)
		for j := from; j < to; j++ {
			list = append(list, nested(a.ListValues(), int(j)))
		}
		return list
	}
	return sources.ValueAt(a, i).String()
}

// humble is a source whose tables say that they can do less, and which refuses
// to do more.
type humble struct {
	sources.Source
	catalog *sources.Catalog
	scans   atomic.Int64 // that were begun
	keyed   atomic.Int64 // that had keys
	open    atomic.Int64 // sessions
}

func humbled(t testing.TB, source sources.Source, change func(*sources.Table)) *humble {
	t.Helper()
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := &humble{Source: source, catalog: &sources.Catalog{Tables: slices.Clone(catalog.Tables)}}
	for i := range h.catalog.Tables {
		change(&h.catalog.Tables[i])
	}
	return h
}

func (h *humble) Catalog(context.Context) (*sources.Catalog, error) { return h.catalog, nil }

func (h *humble) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := h.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	h.open.Add(1)
	return &humbleSession{Session: session, h: h}, nil
}

type humbleSession struct {
	sources.Session
	h *humble

	mu      sync.Mutex
	running int
}

func (s *humbleSession) Close() error {
	s.h.open.Add(-1)
	return s.Session.Close()
}

func (s *humbleSession) enter(by int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += by
	return s.running
}

func (s *humbleSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		table, err := s.h.catalog.Check(q)
		running := s.enter(1)
		defer s.enter(-1)
		if err == nil && table.MaxScans > 0 && running > table.MaxScans {
			err = errors.New("more scans at once than the table takes")
		}
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		s.h.scans.Add(1)
		if q.Keys != nil {
			s.h.keyed.Add(1)
		}
		s.Session.Scan(ctx, q)(yield)
	}
}

// readObjects reads a stream to its end, with its optional relations.
func readObjects(t *testing.T, source sources.Source, q core.Query, o core.Options, optional ...string) ([]object, core.Receipt) {
	t.Helper()
	return readObjectsWith(t, source, q, o, core.Resources{}, optional...)
}

// readObjectsWith is readObjects of a stream with resources of its own.
func readObjectsWith(t *testing.T, source sources.Source, q core.Query, o core.Options, r core.Resources, optional ...string) ([]object, core.Receipt) {
	t.Helper()
	r.Budget = parent(t)
	o.ReadAhead = o.ChunkRows%2 == 1 // which changes nothing but the time it takes
	stream := open(t, source, q, o, r)
	var got []object
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		rows := objects(chunk.Record)
		for _, name := range optional {
			column, err := chunk.Related(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if column.Len() != len(rows) {
				t.Fatalf("%s has %d values for %d rows", name, column.Len(), len(rows))
			}
			for i := range rows {
				rows[i][name] = nested(column, i)
			}
		}
		got = append(got, rows...)
	}
	return got, stream.Receipt()
}

func parseLoad(t testing.TB, text string) []query.Branch {
	t.Helper()
	levels, err := query.ParseLoad(text)
	if err != nil {
		t.Fatal(err)
	}
	return levels
}

var libraryLoads = []struct{ table, load string }{
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

// TestLoadIsTheSameHowever: whatever a table can do itself, whatever the chunks,
// the memory and the strategy, the rows are those of the naive answer.
func TestLoadIsTheSameHowever(t *testing.T) {
	source := library(t)
	truth := readAll(t, source)
	abilities := map[string]func(*sources.Table){
		"able": func(*sources.Table) {},
		"three keys, one scan": func(t *sources.Table) {
			t.MaxScans = 1
			t.Lookups = slices.Clone(t.Lookups)
			for i := range t.Lookups {
				t.Lookups[i].MaxKeys = 3
			}
		},
		"look-ups alone": func(t *sources.Table) { t.Capabilities, t.Filters = 0, nil },
		"filters alone":  func(t *sources.Table) { t.Capabilities, t.Lookups = 0, nil },
		"nothing":        func(t *sources.Table) { t.Capabilities, t.Filters, t.Lookups, t.MaxScans = 0, nil, nil, 1 },
	}
	for name, change := range abilities {
		t.Run(name, func(t *testing.T) {
			for _, test := range libraryLoads {
				load := parseLoad(t, test.load)
				var want []object
				for _, row := range truth.rows[test.table] {
					want = append(want, truth.answer(test.table, row, nil, load))
				}
				var dangling, checksum string
				for _, chunk := range []int64{3, 50, 1000} {
					h := humbled(t, source, change)
					got, receipt := readObjects(t, h, core.Query{Table: test.table, Load: query.Load{Required: load}}, core.Options{MaxDepth: 4, ChunkRows: chunk, Memory: 16 << 20})
					if diff := gocmp.Diff(want, got); diff != "" {
						t.Fatalf("%s --load %s, chunks of %d (-want +got):\n%s", test.table, test.load, chunk, diff)
					}
					if open := h.open.Load(); open != 0 {
						t.Fatalf("%d sessions are open", open)
					}
					lost := ""
					for _, r := range receipt.Relations {
						lost += fmt.Sprintf("%s %d ", r.Path, r.Dangling)
					}
					if checksum = cmp.Or(checksum, receipt.Checksum); checksum != receipt.Checksum {
						t.Errorf("%s --load %s: the checksum depends on the chunks", test.table, test.load)
					}
					if dangling = cmp.Or(dangling, lost); dangling != lost {
						t.Errorf("%s --load %s: dangling %q with chunks of %d, %q before", test.table, test.load, lost, chunk, dangling)
					}
				}
			}
		})
	}
}
