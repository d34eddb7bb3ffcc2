package core_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// shop is a shop in memory.
func shop(t testing.TB, orders int) sources.Source {
	t.Helper()
	source, err := testkit.Shop{Seed: 3, Orders: orders}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// TestLookupsDoNotGrowWithRows: a relation takes one look-up for each chunk, or
// none where all its keys are remembered. Ten times the rows in chunks of ten
// times the size take as many.
func TestLookupsDoNotGrowWithRows(t *testing.T) {
	load := parseLoad(t, "customer,order_lines.product")
	for _, scale := range []int64{1, 10} {
		h := humbled(t, shop(t, int(100*scale)), func(*sources.Table) {})
		_, receipt := readObjects(t, h, core.Query{Table: "orders", Load: query.Load{Required: load}}, core.Options{ChunkRows: 20 * scale})
		if receipt.Lookups != h.keyed.Load() || receipt.Chunks != 5 {
			t.Errorf("the receipt has %d look-ups for %d chunks, the source %d", receipt.Lookups, receipt.Chunks, h.keyed.Load())
		}
		for _, r := range receipt.Relations {
			// No order is there twice, so that its lines are asked for in each chunk.
			if r.Lookups > 5 || r.Path == "order_lines" && r.Lookups != 5 || r.Keys < 20*scale || r.Rows == 0 {
				t.Errorf("%s: %+v for 5 chunks of %d rows", r.Path, r, 20*scale)
			}
		}
	}
}

// TestRememberedKeysAreNotAskedAgain: a second chunk of the same keys asks
// nothing, and neither does one whose relations had no rows.
func TestRememberedKeysAreNotAskedAgain(t *testing.T) {
	h := humbled(t, library(t), func(*sources.Table) {})
	_, receipt := readObjects(t, h, core.Query{Table: "loans", Load: query.Load{Required: parseLoad(t, "books.shelves")}}, core.Options{ChunkRows: 10})
	for _, r := range receipt.Relations {
		if r.Remembered == 0 || r.Lookups > 6 {
			t.Errorf("%s: %+v: the loans name each book again after 50", r.Path, r)
		}
	}
}

// TestOptionalRelations: an optional relation is the same however it is loaded,
// and costs nothing where nobody asks for it.
func TestOptionalRelations(t *testing.T) {
	source := library(t)
	truth := readAll(t, source)
	required, optional := parseLoad(t, "author,pages"), parseLoad(t, "editor.boss,pages.books,loans(limit: 2)")
	full := parseLoad(t, "author,pages.books,editor.boss,loans(limit: 2),shelves")
	var want []object
	for _, row := range truth.rows["books"] {
		want = append(want, truth.answer("books", row, []string{"price"}, full))
	}
	for _, strategy := range []query.Strategy{query.Selective, query.Lazy, query.Eager} {
		for _, chunk := range []int64{7, 1000} {
			q := core.Query{Table: "books", Columns: []string{"price"}, Load: query.Load{Required: required, Optional: append(optional, query.Branch{Name: "shelves"})}}
			if strategy == query.Eager {
				q.Load.Optional = optional // shelves comes by itself
			}
			got, _ := readObjects(t, source, q, core.Options{ChunkRows: chunk, Strategy: strategy, MaxDepth: 2}, "editor", "pages", "loans", "shelves")
			if strategy == query.Eager { // which has more, further down
				for i, o := range got {
					got[i] = pruned(o, want[i])
				}
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("%s, chunks of %d (-want +got):\n%s", strategy, chunk, diff)
			}
		}
	}
	h := humbled(t, source, func(*sources.Table) {})
	_, receipt := readObjects(t, h, core.Query{Table: "books", Load: query.Load{Required: required, Optional: optional}}, core.Options{ChunkRows: 7, Strategy: query.Lazy})
	for _, r := range receipt.Relations {
		if lookups := r.Lookups > 0; lookups != (r.Path == "author" || r.Path == "pages") {
			t.Errorf("lazy, %s: %d look-ups", r.Path, r.Lookups)
		}
	}
	_, receipt = readObjects(t, h, core.Query{Table: "books", Load: query.Load{Optional: parseLoad(t, "editor,loans")}}, core.Options{ChunkRows: 7}, "loans")
	for _, r := range receipt.Relations {
		if r.Path == "editor" && (r.Lookups < 1 || r.Lookups > 2) || r.Path == "loans" && r.Lookups != receipt.Chunks {
			t.Errorf("selective, %s: %d look-ups in %d chunks, of which the first tries, and one that is looked up meanwhile", r.Path, r.Lookups, receipt.Chunks)
		}
	}
}

// pruned is what of an object another one has too.
func pruned(o, like object) object {
	out := object{}
	for name, want := range like {
		switch want := want.(type) {
		case object:
			inner, ok := o[name].(object)
			if !ok {
				out[name] = o[name]
				continue
			}
			out[name] = pruned(inner, want)
		case []any:
			list := []any{}
			for i, v := range o[name].([]any) {
				if i < len(want) {
					list = append(list, pruned(v.(object), want[i].(object)))
				}
			}
			out[name] = list
		default:
			out[name] = o[name]
		}
	}
	return out
}

// TestRelationsNobodyNamed: any relation of the table can be asked for, where the
// chunks have its key, also of a stream without a load.
func TestRelationsNobodyNamed(t *testing.T) {
	source := library(t)
	truth := readAll(t, source)
	var want []object
	for _, row := range truth.rows["people"] {
		want = append(want, truth.answer("people", row, nil, parseLoad(t, "boss,people")))
	}
	for _, scans := range []int{0, 1} {
		h := humbled(t, source, func(t *sources.Table) { t.MaxScans = scans })
		got, receipt := readObjects(t, h, core.Query{Table: "people"}, core.Options{ChunkRows: 5}, "boss", "people")
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(receipt.Relations) != 2 || receipt.Lookups == 0 || h.open.Load() != 0 {
			t.Errorf("relations %+v, %d open sessions", receipt.Relations, h.open.Load())
		}
	}
	stream := open(t, source, core.Query{Table: "people", Columns: []string{"name"}}, core.Options{}, core.Resources{Budget: parent(t)})
	var last *core.Chunk
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		last = chunk
		if _, err := chunk.Related(t.Context(), "bos"); sources.KindOf(err) != sources.NotFound || !strings.Contains(err.Error(), `the nearest is "boss"`) {
			t.Errorf("a relation that is not there: %v", err)
		}
		if _, err := chunk.Related(t.Context(), "boss"); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "boss_id") {
			t.Errorf("a relation whose key is not read: %v", err)
		}
	}
	if _, err := last.Related(t.Context(), "boss"); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "the chunk is no longer valid") {
		t.Errorf("after the iteration: %v", err)
	}
}

// TestFaultsOfLoads: what is wrong with a load says so before a row is read, all
// of it at once.
func TestFaultsOfLoads(t *testing.T) {
	source := library(t)
	for load, want := range map[string][]string{
		"authr":                      {"not found", `authr: table "books" has no relation "authr"; the nearest is "author"`},
		"author.boss.boss.boss":      {"invalid", "author.boss.boss.boss has depth 4, the limit is 3: raise the limit"},
		"author.boss.boss.boss.x":    {"author.boss.boss.boss.x has depth 5"},
		"pages(columns: [x, words])": {"not found", "pages: ", `"x"`},
		"pages(order: x),nothing":    {`"x"`, `"nothing"`},
		"pages(where: x)":            {"invalid", `the condition "x" cannot be compiled: set Load.Compile`},
	} {
		_, err := core.Open(t.Context(), source, core.Query{Table: "books", Load: query.Load{Required: parseLoad(t, load)}}, core.Options{}, core.Resources{})
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("--load %s: %v, want %s", load, err, w)
			}
		}
	}
	twice := query.Load{Required: []query.Branch{{Name: "author", Limit: 1}}, Optional: []query.Branch{{Name: "author", Limit: 2}}}
	for _, c := range []struct {
		load    query.Load
		options core.Options
	}{{options: core.Options{MaxDepth: -1}}, {options: core.Options{Strategy: 9}}, {load: twice}} {
		if _, err := core.Open(t.Context(), source, core.Query{Table: "books", Load: c.load}, c.options, core.Resources{}); err == nil || sources.KindOf(err) != sources.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// Eager cuts what is deeper, and ends circles.
	stream := open(t, source, core.Query{Table: "people", Load: query.Load{Required: parseLoad(t, "boss.boss.boss.boss")}}, core.Options{Strategy: query.Eager, MaxDepth: 2}, core.Resources{Budget: parent(t)})
	depth := 0
	for typ := stream.Schema().Field(stream.Schema().FieldIndices("boss")[0]).Type; ; depth++ {
		row := typ.(*arrow.StructType)
		at, ok := row.FieldIdx("boss")
		if !ok {
			break
		}
		typ = row.Field(at).Type
	}
	if depth != 1 {
		t.Errorf("boss has %d bosses below it, the depth is 2", depth)
	}
}

// TestOneRowTooMany: a relation to one that leads to two is an error, not a
// choice.
func TestOneRowTooMany(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	rows := func(n ...int) iter.Seq[[]any] {
		return func(yield func([]any) bool) {
			for _, v := range n {
				if !yield([]any{v}) {
					return
				}
			}
		}
	}
	source, err := testkit.NewMemory([]testkit.MemoryTable{
		{Name: "a", Schema: schema, Rows: rows(1, 2, 3)}, {Name: "b", Schema: schema, Key: []string{"id"}, Rows: rows(1, 3, 3)},
	}, []sources.ForeignKey{{Table: "a", Columns: []string{"id"}, TargetTable: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rowsOf(open(t, source, core.Query{Table: "a", Load: query.Load{Required: parseLoad(t, "b")}}, core.Options{}, core.Resources{Budget: parent(t)}))
	if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "2 rows have id = 3, but the relation allows at most one") {
		t.Errorf("error: %v", err)
	}
}

// rowsOf reads a stream and returns its rows.
func rowsOf(stream *core.Stream) (rows int64, err error) {
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return rows, err
		}
		rows += chunk.Record.NumRows()
	}
	return rows, nil
}

// lying changes what look-ups give.
type lying struct {
	*humble
	change func(sources.Batches) sources.Batches
}

func (l lying) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := l.humble.Begin(ctx, env)
	return lyingSession{session, l}, err
}

type lyingSession struct {
	sources.Session
	lying lying
}

func (s lyingSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	if q.Keys == nil {
		return s.Session.Scan(ctx, q)
	}
	return s.lying.change(s.Session.Scan(ctx, q))
}

// TestBadLookups: an error, a panic or a row that nobody asked for ends the
// stream, as what it is, and leaves nothing.
func TestBadLookups(t *testing.T) {
	broken := errors.New("the disk is gone")
	changes := map[string]struct {
		change func(sources.Batches) sources.Batches
		kind   sources.Kind
		text   string
	}{
		"error": {func(sources.Batches) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				yield(sources.Batch{}, &sources.Error{Kind: sources.Unavailable, Err: broken})
			}
		}, sources.Unavailable, "scan people: unavailable: the disk is gone"},
		"panic": {func(sources.Batches) sources.Batches {
			return func(func(sources.Batch, error) bool) { panic("ouch") }
		}, sources.Internal, "scan people: internal: panic: ouch"},
		"an error after a page": {func(pages sources.Batches) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				for page, err := range pages {
					if !yield(page, err) {
						return
					}
					yield(sources.Batch{}, broken)
					return
				}
			}
		}, sources.Internal, "the disk is gone"},
	}
	for name, test := range changes {
		for _, strategy := range []query.Strategy{query.Selective, query.Lazy} {
			source := lying{humbled(t, library(t), func(*sources.Table) {}), test.change}
			q := core.Query{Table: "books"}
			if q.Load.Required = parseLoad(t, "author.boss"); strategy == query.Lazy {
				q.Load.Required, q.Load.Optional = nil, q.Load.Required
			}
			stream := open(t, source, q, core.Options{Strategy: strategy, ChunkRows: 20, ReadAhead: strategy == query.Selective, Retry: retry.Policy{MaxRetries: -1}}, core.Resources{Budget: parent(t)})
			var fault error
			for chunk, err := range stream.Chunks() {
				if fault = err; err != nil {
					break
				}
				if strategy == query.Lazy {
					_, fault = chunk.Related(t.Context(), "author")
					break
				}
			}
			if fault == nil || sources.KindOf(fault) != test.kind || !strings.Contains(fault.Error(), test.text) {
				t.Errorf("%s, %s: %v", name, strategy, fault)
			}
			if stream.Receipt().Complete {
				t.Errorf("%s, %s: complete", name, strategy)
			}
		}
	}
	other := lying{humbled(t, library(t), func(*sources.Table) {}), nil}
	other.change = func(sources.Batches) sources.Batches {
		session, err := other.Source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
		if err != nil {
			t.Fatal(err)
		}
		return session.Scan(t.Context(), &sources.Query{Table: "people"})
	}
	_, err := rowsOf(open(t, other, core.Query{Table: "books", Load: query.Load{Required: parseLoad(t, "author")}}, core.Options{ChunkRows: 2}, core.Resources{Budget: parent(t)}))
	if sources.KindOf(err) != sources.Internal || err == nil || !strings.Contains(err.Error(), "which matches no requested key") {
		t.Errorf("a row too many: %v", err)
	}
}

// TestLookupsAreTriedAgain: a look-up that its source could not do now is asked
// again, and the rows are the same.
func TestLookupsAreTriedAgain(t *testing.T) {
	source := lying{humbled(t, library(t), func(*sources.Table) {}), nil}
	var failed atomic.Int64
	source.change = func(pages sources.Batches) sources.Batches {
		if failed.Add(1)%2 == 0 {
			return pages
		}
		return func(yield func(sources.Batch, error) bool) {
			yield(sources.Batch{}, &sources.Error{Kind: sources.Unavailable, Err: errors.New("just now")})
		}
	}
	load := parseLoad(t, "author.boss,pages")
	truth := readAll(t, source)
	var want []object
	for _, row := range truth.rows["books"] {
		want = append(want, truth.answer("books", row, nil, load))
	}
	for _, chunk := range []int64{7, 50} {
		got, receipt := readObjects(t, source, core.Query{Table: "books", Load: query.Load{Required: load}},
			core.Options{ChunkRows: chunk, Retry: retry.Policy{InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond}})
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("chunks of %d (-want +got):\n%s", chunk, diff)
		}
		if receipt.Retries == 0 {
			t.Errorf("chunks of %d: nothing was tried again", chunk)
		}
	}
}

// TestLoadWithinMemory: with whatever memory a stream has, it gives all rows, or
// an error that says what does not fit; and gives everything back.
func TestLoadWithinMemory(t *testing.T) {
	source := shop(t, 600)
	load := query.Load{Required: parseLoad(t, "orders.order_lines.product"), Optional: parseLoad(t, "orders.customer")}
	var checksum string
	var refused, complete int
	for _, memory := range []int64{32 << 20, 1 << 20, 700 << 10, 500 << 10, 350 << 10, 250 << 10, 180 << 10, 120 << 10, 60 << 10, 8 << 10} {
		for _, ahead := range []bool{false, true} {
			stream := open(t, source, core.Query{Table: "customers", Load: load}, core.Options{Memory: memory, ReadAhead: ahead}, core.Resources{Budget: parent(t)})
			rows, err := rowsOf(stream)
			receipt := stream.Receipt()
			switch {
			case err != nil && sources.KindOf(err) != sources.Exhausted:
				t.Fatalf("%s: %v", budget.FormatBytes(memory), err)
			case err != nil:
				refused++
			case rows != 65 || checksum != "" && receipt.Checksum != checksum:
				t.Fatalf("%s: %d rows, checksum %s", budget.FormatBytes(memory), rows, receipt.Checksum)
			default:
				complete++
				checksum = receipt.Checksum
			}
			if receipt.PeakBytes > memory {
				t.Errorf("held %d of %d bytes", receipt.PeakBytes, memory)
			}
		}
	}
	if refused < 2 || complete < 6 {
		t.Errorf("%d refused, %d complete", refused, complete)
	}
}

// parents is a source of a few parents, one of which has a great many children.
func parents(t testing.TB, children int) sources.Source {
	t.Helper()
	id := arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64}
	schemas := []*arrow.Schema{
		arrow.NewSchema([]arrow.Field{id}, nil),
		arrow.NewSchema([]arrow.Field{id, {Name: "parent_id", Type: arrow.PrimitiveTypes.Int64}, {Name: "text", Type: arrow.BinaryTypes.String}}, nil),
	}
	catalog := &sources.Catalog{Tables: []sources.Table{
		{Name: "parents", Schema: schemas[0], Key: []string{"id"}, Rows: 5},
		{Name: "children", Schema: schemas[1], Key: []string{"id"}, Rows: int64(children), Capabilities: sources.CapProject, Lookups: []sources.Lookup{{Columns: []string{"parent_id"}}}},
	}}
	if err := sources.Relate(catalog, []sources.ForeignKey{{Table: "children", Columns: []string{"parent_id"}, TargetTable: "parents"}}); err != nil {
		t.Fatal(err)
	}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, q *sources.Query) sources.Batches {
		table := catalog.Table(q.Table)
		rows := func(yield func(sources.Row, error) bool) {
			if q.Keys == nil {
				for i := range int64(5) {
					if !yield(sources.Row{Values: []any{i}}, nil) {
						return
					}
				}
				return
			}
			asked := q.Keys.Values.Column(0).(*array.Int64).Int64Values()
			for i := range int64(children) {
				parent := int64(3)
				if i%1000 < 3 {
					parent = i % 1000
				}
				if !slices.Contains(asked, parent) {
					continue
				}
				values := []any{i, parent, "some text"}
				if q.Columns != nil {
					values = nil
					for _, c := range q.Columns {
						values = append(values, []any{i, parent, "some text"}[table.Column(c)])
					}
				}
				if !yield(sources.Row{Values: values}, nil) {
					return
				}
			}
		}
		return sources.FromRows(env, table.ScanSchema(q.Columns), rows)
	})
}

// TestOneParentOfManyChildren: a parent with a million children is a whole answer
// where it fits, and else an error that names it. Its neighbours are given.
func TestOneParentOfManyChildren(t *testing.T) {
	const children = 1_000_000
	source := parents(t, children)
	for _, test := range []struct {
		load string
		ok   bool
	}{{"children(columns: [id])", true}, {"children", false}} {
		stream := open(t, source, core.Query{Table: "parents", Load: query.Load{Required: parseLoad(t, test.load)}}, core.Options{Memory: 64 << 20}, core.Resources{Budget: parent(t)})
		var counts []int64
		var fault error
		for chunk, err := range stream.Chunks() {
			if fault = err; err != nil {
				break
			}
			list := chunk.Record.Column(1).(*array.List)
			for i := range list.Len() {
				from, to := list.ValueOffsets(i)
				counts = append(counts, to-from)
			}
		}
		want := []int64{1000, 1000, 1000, children - 3000, 0}
		if !test.ok {
			want = want[:3]
			if sources.KindOf(fault) != sources.Exhausted || fault == nil || !strings.Contains(fault.Error(), "load parents: exhausted: the related rows of the row with id = 3 do not fit in memory: ") {
				t.Errorf("%s: %v", test.load, fault)
			}
		} else if fault != nil {
			t.Errorf("%s: %v", test.load, fault)
		}
		if diff := gocmp.Diff(want, counts); diff != "" {
			t.Errorf("%s: children (-want +got):\n%s", test.load, diff)
		}
		if peak := stream.Receipt().PeakBytes; peak > 64<<20 {
			t.Errorf("held %d bytes", peak)
		}
	}
}

// TestLeavingALoadEarly: the loop may end anywhere, also by a panic.
func TestLeavingALoadEarly(t *testing.T) {
	source := humbled(t, library(t), func(t *sources.Table) { t.MaxScans = 1 })
	q := core.Query{Table: "books", Load: query.Load{Required: parseLoad(t, "author"), Optional: parseLoad(t, "pages")}}
	for _, how := range []string{"break", "panic", "cancel", "close"} {
		func() {
			budget := parent(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := core.Open(ctx, source, q, core.Options{ChunkRows: 5, ReadAhead: true}, core.Resources{Budget: budget})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stream.Close() }()
			defer func() {
				if r := recover(); (r != nil) != (how == "panic") {
					t.Errorf("%s: %v", how, r)
				}
			}()
			chunks := 0
			for chunk, err := range stream.Chunks() {
				if err != nil {
					if chunks < 2 || sources.KindOf(err) != sources.Canceled {
						t.Errorf("%s: %v", how, err)
					}
					break
				}
				if _, err := chunk.Related(ctx, "pages"); err != nil {
					t.Error(err)
				}
				if chunks++; chunks < 2 {
					continue
				}
				switch how {
				case "break":
					return
				case "panic":
					panic("enough")
				case "cancel":
					cancel()
				case "close":
					_ = stream.Close()
				}
			}
		}()
		if n := source.open.Load(); n != 0 {
			t.Errorf("%s: %d sessions are open", how, n)
		}
	}
}

// TestRetainedRelations: what the consumer retains is good after the stream.
func TestRetainedRelations(t *testing.T) {
	source := library(t)
	truth := readAll(t, source)
	budget := parent(t)
	stream := open(t, source, core.Query{Table: "books", Load: query.Load{Required: parseLoad(t, "author.boss,pages"), Optional: parseLoad(t, "loans")}}, core.Options{ChunkRows: 9}, core.Resources{Budget: budget})
	var records []arrow.RecordBatch
	var loans []arrow.Array
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		chunk.Record.Retain()
		records = append(records, chunk.Record)
		column, err := chunk.Related(t.Context(), "loans")
		if err != nil {
			t.Fatal(err)
		}
		column.Retain()
		loans = append(loans, column)
	}
	var want, got []object
	for _, row := range truth.rows["books"] {
		want = append(want, truth.answer("books", row, nil, parseLoad(t, "author.boss,pages,loans")))
	}
	for i, r := range records {
		rows := objects(r)
		for j := range rows {
			rows[j]["loans"] = nested(loans[i], j)
		}
		got = append(got, rows...)
		r.Release()
		loans[i].Release()
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestExplain: what explain says of look-ups is what a stream does.
func TestExplain(t *testing.T) {
	source := humbled(t, library(t), func(t *sources.Table) {
		t.Lookups = slices.Clone(t.Lookups)
		for i := range t.Lookups {
			t.Lookups[i].MaxKeys = 20
		}
		if t.Name == "loans" {
			t.Lookups, t.Capabilities = nil, 0
		}
		if t.Name == "pages" {
			t.MaxScans = 1
		}
	})
	q := core.Query{Table: "books", Columns: []string{"price"}, Limit: 40, Load: query.Load{Required: parseLoad(t, "pages(limit: 2, order: words:desc),loans,shelves,editor.boss")}}
	e, err := core.Explain(t.Context(), source, q, core.Options{ChunkRows: 50})
	if err != nil {
		t.Fatal(err)
	}
	if source.scans.Load() != 0 || source.open.Load() != 0 {
		t.Errorf("%d scans, %d open sessions", source.scans.Load(), source.open.Load())
	}
	_, receipt := readObjects(t, source, q, core.Options{ChunkRows: 50})
	plans := map[string]relation.Plan{}
	var walk func([]relation.Plan)
	walk = func(all []relation.Plan) {
		for _, p := range all {
			plans[p.Path] = p
			walk(p.Relations)
		}
	}
	walk(e.Relations)
	for _, r := range receipt.Relations {
		most := int64(0)
		for _, s := range plans[r.Path].Steps {
			most += *s.Lookups
		}
		if r.Lookups == 0 || r.Lookups > most {
			t.Errorf("%s: %d look-ups, explain says at most %d", r.Path, r.Lookups, most)
		}
	}
	if e.Sessions != 2 || !plans["loans"].Steps[0].Scan || plans["pages"].Steps[0].Source.Limit != 2 || plans["editor.boss"].Depth != 2 || len(plans["shelves"].Steps) != 2 {
		t.Errorf("%+v", e)
	}
	text := e.String()
	for _, want := range []string{
		"books: about 40 rows", "scans loans for each chunk, because it has no look-up by isbn, edition", "looks up pages by ",
		"source: order by words desc, number; limit 2 for each key", "for each chunk at most 40 keys in 2 look-ups",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if _, err := core.Explain(t.Context(), source, core.Query{Table: "boks"}, core.Options{}); err == nil || sources.KindOf(err) != sources.NotFound {
		t.Errorf("a table that is not there: %v", err)
	}
}

// TestNestedRecordsOverIPC: records whose children are slices of larger columns
// are the same on the other side of a wire.
func TestNestedRecordsOverIPC(t *testing.T) {
	for _, test := range libraryLoads {
		stream := open(t, library(t), core.Query{Table: test.table, Load: query.Load{Required: parseLoad(t, test.load)}}, core.Options{MaxDepth: 4, ChunkRows: 7}, core.Resources{Budget: parent(t)})
		for chunk, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			var wire bytes.Buffer
			w := ipc.NewWriter(&wire, ipc.WithSchema(stream.Schema()))
			if err := errors.Join(w.Write(chunk.Record), w.Close()); err != nil {
				t.Fatal(err)
			}
			r, err := ipc.NewReader(&wire)
			if err != nil {
				t.Fatal(err)
			}
			back, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(objects(chunk.Record), objects(back)); diff != "" {
				t.Fatalf("%s --load %s (-sent +received):\n%s", test.table, test.load, diff)
			}
			r.Release()
		}
	}
}
