package relation_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// shop returns the generated shop in memory.
func shop(t testing.TB, orders int) sources.Source {
	t.Helper()
	source, err := testkit.Shop{Seed: 3, Orders: orders}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// TestLookupsDoNotGrowWithRows tests that a relation takes at most one look-up for
// each chunk: ten times the rows in chunks of ten times the size take as many.
func TestLookupsDoNotGrowWithRows(t *testing.T) {
	load := coretest.ParseLoad(t, "customer,order_lines.product")
	for _, scale := range []int64{1, 10} {
		h := coretest.Restrict(t, shop(t, int(100*scale)), func(*sources.Table) {})
		_, receipt := coretest.ReadObjects(t, h, core.Query{Table: "orders", Load: query.Load{Required: load}}, core.Options{ChunkRows: 20 * scale})
		if receipt.Lookups != h.KeyedScans.Load() || receipt.Chunks != 5 {
			t.Errorf("the receipt has %d look-ups in %d chunks, the source counted %d", receipt.Lookups, receipt.Chunks, h.KeyedScans.Load())
		}
		for _, r := range receipt.Relations {
			// Each order occurs once, so that its lines are looked up in each chunk.
			if r.Lookups > 5 || r.Path == "order_lines" && r.Lookups != 5 || r.Keys < 20*scale || r.Rows == 0 {
				t.Errorf("%s: %+v for 5 chunks of %d rows", r.Path, r, 20*scale)
			}
		}
	}
}

// TestRememberedKeysAreNotAskedAgain tests that keys of earlier chunks are not
// looked up again, with or without related rows.
func TestRememberedKeysAreNotAskedAgain(t *testing.T) {
	h := coretest.Restrict(t, coretest.Library(t), func(*sources.Table) {})
	_, receipt := coretest.ReadObjects(t, h, core.Query{Table: "loans", Load: query.Load{Required: coretest.ParseLoad(t, "books.shelves")}}, core.Options{ChunkRows: 10})
	for _, r := range receipt.Relations {
		if r.Remembered == 0 || r.Lookups > 6 {
			t.Errorf("%s: %+v, want remembered keys: the loans repeat their books after 50 rows", r.Path, r)
		}
	}
}

// lying is a source whose look-ups change transforms.
type lying struct {
	*coretest.Restricted
	change func(sources.Batches) sources.Batches
}

func (l lying) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := l.Restricted.Begin(ctx, env)
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

// TestBadLookups tests that an error, a panic or an unexpected row of a look-up ends
// the stream with an error of the right kind.
func TestBadLookups(t *testing.T) {
	broken := errors.New("the disk is gone")
	changes := map[string]struct {
		change func(sources.Batches) sources.Batches
		kind   sources.Kind
		text   string
	}{
		"error": {func(sources.Batches) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				yield(sources.Batch{}, sources.NewError(sources.Unavailable, "", "", broken))
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
			source := lying{coretest.Restrict(t, coretest.Library(t), func(*sources.Table) {}), test.change}
			q := core.Query{Table: "books"}
			if q.Load.Required = coretest.ParseLoad(t, "author.boss"); strategy == query.Lazy {
				q.Load.Required, q.Load.Optional = nil, q.Load.Required
			}
			stream := coretest.Open(t, source, q, core.Options{Strategy: strategy, ChunkRows: 20, ReadAhead: strategy == query.Selective, Retry: retry.Policy{MaxRetries: -1}}, core.Resources{Budget: coretest.NewBudget(t)})
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
	other := lying{coretest.Restrict(t, coretest.Library(t), func(*sources.Table) {}), nil}
	other.change = func(sources.Batches) sources.Batches {
		session, err := other.Source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
		if err != nil {
			t.Fatal(err)
		}
		return session.Scan(t.Context(), &sources.Query{Table: "people"})
	}
	_, err := rowsOf(coretest.Open(t, other, core.Query{Table: "books", Load: query.Load{Required: coretest.ParseLoad(t, "author")}}, core.Options{ChunkRows: 2}, core.Resources{Budget: coretest.NewBudget(t)}))
	if sources.KindOf(err) != sources.Internal || err == nil || !strings.Contains(err.Error(), "which matches no requested key") {
		t.Errorf("an unexpected row: %v", err)
	}
}

// TestLookupsAreTriedAgain tests that a look-up which fails for the moment is
// retried, and that the rows are the same.
func TestLookupsAreTriedAgain(t *testing.T) {
	source := lying{coretest.Restrict(t, coretest.Library(t), func(*sources.Table) {}), nil}
	var failed atomic.Int64
	source.change = func(pages sources.Batches) sources.Batches {
		if failed.Add(1)%2 == 0 {
			return pages
		}
		return func(yield func(sources.Batch, error) bool) {
			yield(sources.Batch{}, sources.Errorf(sources.Unavailable, "", "", "just now"))
		}
	}
	load := coretest.ParseLoad(t, "author.boss,pages")
	truth := coretest.ReadTables(t, source)
	var want []coretest.Object
	for _, row := range truth.Rows["books"] {
		want = append(want, truth.Expected("books", row, nil, load))
	}
	for _, chunk := range []int64{7, 50} {
		got, receipt := coretest.ReadObjects(t, source, core.Query{Table: "books", Load: query.Load{Required: load}},
			core.Options{ChunkRows: chunk, Retry: retry.Policy{InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond}})
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("chunks of %d (-want +got):\n%s", chunk, diff)
		}
		if receipt.Retries == 0 {
			t.Errorf("chunks of %d: no retries", chunk)
		}
	}
}
