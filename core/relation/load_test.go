package relation_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// TestLoadIsTheSameHowever tests that the rows of a load are the expected ones,
// whatever the abilities of the tables and the size of chunks.
func TestLoadIsTheSameHowever(t *testing.T) {
	source := coretest.Library(t)
	truth := coretest.ReadTables(t, source)
	abilities := map[string]func(*sources.Table){
		"all": func(*sources.Table) {},
		"three keys, one scan": func(t *sources.Table) {
			t.MaxScans = 1
			t.Lookups = slices.Clone(t.Lookups)
			for i := range t.Lookups {
				t.Lookups[i].MaxKeys = 3
			}
		},
		"only look-ups": func(t *sources.Table) { t.Capabilities, t.Filters = 0, nil },
		"only filters":  func(t *sources.Table) { t.Capabilities, t.Lookups = 0, nil },
		"none":          func(t *sources.Table) { t.Capabilities, t.Filters, t.Lookups, t.MaxScans = 0, nil, nil, 1 },
	}
	for name, change := range abilities {
		t.Run(name, func(t *testing.T) {
			for _, test := range coretest.LibraryLoads {
				load := coretest.ParseLoad(t, test.Load)
				var want []coretest.Object
				for _, row := range truth.Rows[test.Table] {
					want = append(want, truth.Expected(test.Table, row, nil, load))
				}
				var dangling, sum string
				for _, chunk := range []int64{3, 50, 1000} {
					h := coretest.Restrict(t, source, change)
					got, receipt := coretest.ReadObjects(t, h, core.Query{Table: test.Table, Load: query.Load{Required: load}}, core.Options{MaxDepth: 4, ChunkRows: chunk, Memory: 16 << 20})
					if diff := gocmp.Diff(want, got); diff != "" {
						t.Fatalf("%s --load %s, chunks of %d (-want +got):\n%s", test.Table, test.Load, chunk, diff)
					}
					if open := h.OpenSessions.Load(); open != 0 {
						t.Fatalf("%d sessions are open", open)
					}
					found := ""
					for _, r := range receipt.Relations {
						found += fmt.Sprintf("%s %d ", r.Path, r.Dangling)
					}
					if sum = cmp.Or(sum, receipt.Digest.Ordered()); sum != receipt.Digest.Ordered() {
						t.Errorf("%s --load %s: the sum depends on the chunks", test.Table, test.Load)
					}
					if dangling = cmp.Or(dangling, found); dangling != found {
						t.Errorf("%s --load %s: dangling %q with chunks of %d, and %q with others", test.Table, test.Load, found, chunk, dangling)
					}
				}
			}
		})
	}
}

// TestNestedRecordsOverIPC tests that records whose children are slices of larger
// columns are the same after encoding and decoding.
func TestNestedRecordsOverIPC(t *testing.T) {
	for _, test := range coretest.LibraryLoads {
		stream := coretest.Open(t, coretest.Library(t), core.Query{Table: test.Table, Load: query.Load{Required: coretest.ParseLoad(t, test.Load)}}, core.Options{MaxDepth: 4, ChunkRows: 7}, core.Resources{Budget: coretest.NewBudget(t)})
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
			if diff := gocmp.Diff(coretest.Objects(chunk.Record), coretest.Objects(back)); diff != "" {
				t.Fatalf("%s --load %s (-sent +received):\n%s", test.Table, test.Load, diff)
			}
			r.Release()
		}
	}
}

// rowsOf reads a stream to its end and returns the number of its rows.
func rowsOf(stream *core.Stream) (rows int64, err error) {
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return rows, err
		}
		rows += chunk.Record.NumRows()
	}
	return rows, nil
}

// TestLeavingALoadEarly tests that no session stays open if the loop ends early,
// whether by break, panic, cancellation or Close.
func TestLeavingALoadEarly(t *testing.T) {
	source := coretest.Restrict(t, coretest.Library(t), func(t *sources.Table) { t.MaxScans = 1 })
	q := core.Query{Table: "books", Load: query.Load{Required: coretest.ParseLoad(t, "author"), Optional: coretest.ParseLoad(t, "pages")}}
	for _, how := range []string{"break", "panic", "cancel", "close"} {
		func() {
			budget := coretest.NewBudget(t)
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
		if n := source.OpenSessions.Load(); n != 0 {
			t.Errorf("%s: %d sessions are open", how, n)
		}
	}
}

// TestRetainedRelations tests that retained records and columns outlive the stream.
func TestRetainedRelations(t *testing.T) {
	source := coretest.Library(t)
	truth := coretest.ReadTables(t, source)
	budget := coretest.NewBudget(t)
	stream := coretest.Open(t, source, core.Query{Table: "books", Load: query.Load{Required: coretest.ParseLoad(t, "author.boss,pages"), Optional: coretest.ParseLoad(t, "loans")}}, core.Options{ChunkRows: 9}, core.Resources{Budget: budget})
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
	var want, got []coretest.Object
	for _, row := range truth.Rows["books"] {
		want = append(want, truth.Expected("books", row, nil, coretest.ParseLoad(t, "author.boss,pages,loans")))
	}
	for i, r := range records {
		rows := coretest.Objects(r)
		for j := range rows {
			rows[j]["loans"] = coretest.NestedValue(loans[i], j)
		}
		got = append(got, rows...)
		r.Release()
		loans[i].Release()
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
