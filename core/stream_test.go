package core_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

var itemSchema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// items is a source of one table, "items", that can do nothing by itself.
func items(rows iter.Seq2[sources.Row, error]) sources.Source {
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: itemSchema, Rows: -1}}}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return sources.FromRows(env, itemSchema, rows)
	})
}

// upTo gives n rows and then an error, where there is one.
func upTo(n int, err error) iter.Seq2[sources.Row, error] {
	return func(yield func(sources.Row, error) bool) {
		for i := range n {
			row := sources.Row{Values: []any{i, strings.Repeat("x", i%50)}}
			if i%7 == 0 {
				row.Values[1] = nil
			}
			if !yield(row, nil) {
				return
			}
		}
		if err != nil {
			yield(sources.Row{}, err)
		}
	}
}

// parent is a budget that must be empty again when the test ends, and no
// goroutine may be left then.
func parent(t *testing.T) *budget.Budget {
	t.Helper()
	before := goleak.IgnoreCurrent()
	b, err := budget.New("test", 64<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if held := b.Held(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
		goleak.VerifyNone(t, before)
	})
	return b
}

func open(t *testing.T, source sources.Source, q core.Query, o core.Options, r core.Resources) *core.Stream {
	t.Helper()
	stream, err := core.Open(t.Context(), source, q, o, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stream.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return stream
}

// ids ranges over a stream and returns the ids it gave, and its error.
func ids(stream *core.Stream) (got []int64, err error) {
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return got, err
		}
		got = append(got, idsOf(chunk.Record)...)
	}
	return got, nil
}

func idsOf(r arrow.RecordBatch) []int64 { return r.Column(0).(*array.Int64).Int64Values() }

func count(from, to int64) (all []int64) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

var ignored = cmpopts.IgnoreFields(core.Receipt{}, "Elapsed", "PeakBytes", "LimitBytes", "Chunks")

// TestChunkSizesChangeNothing: rows, bytes and checksum depend on the rows alone.
func TestChunkSizesChangeNothing(t *testing.T) {
	budget := parent(t)
	var first *core.Receipt
	for _, memory := range []int64{1 << 20, 32 << 20} {
		for _, rows := range []int64{0, 1, 7, 1000, 4999, 1 << 30} {
			stream := open(t, items(upTo(20_000, nil)), core.Query{Table: "items"}, core.Options{Memory: memory, ChunkRows: rows}, core.Resources{Budget: budget})
			got, err := ids(stream)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(count(0, 20_000), got); diff != "" {
				t.Fatalf("chunks of %d: ids (-want +got):\n%s", rows, diff)
			}
			receipt := stream.Receipt()
			if first == nil {
				first = &receipt
				if !receipt.Complete || receipt.Rows != 20_000 || receipt.Checksum == "" || receipt.Chunks == 0 {
					t.Fatalf("the receipt is %+v", receipt)
				}
			}
			if diff := cmp.Diff(*first, receipt, ignored); diff != "" {
				t.Errorf("chunks of %d in %d bytes: the receipt (-want +got):\n%s", rows, memory, diff)
			}
			if receipt.PeakBytes > memory || receipt.LimitBytes != memory || receipt.PeakBytes == 0 {
				t.Errorf("chunks of %d: held %d of %d bytes, limit %d", rows, receipt.PeakBytes, memory, receipt.LimitBytes)
			}
		}
	}
}

func TestChunkRows(t *testing.T) {
	stream := open(t, items(upTo(2500, nil)), core.Query{Table: "items"}, core.Options{ChunkRows: 1000}, core.Resources{Budget: parent(t)})
	var sizes []int64
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		if !chunk.Record.Schema().Equal(stream.Schema()) {
			t.Fatalf("the chunk's schema is %s", chunk.Record.Schema())
		}
		sizes = append(sizes, chunk.Record.NumRows())
	}
	if diff := cmp.Diff([]int64{1000, 1000, 500}, sizes); diff != "" {
		t.Errorf("rows of the chunks (-want +got):\n%s", diff)
	}
}

func TestBreak(t *testing.T) {
	stream := open(t, items(upTo(100_000, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	for _, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if r := stream.Receipt(); r.Complete || r.Rows != 1000 || r.Error != "" || r.Checksum == "" {
		t.Errorf("after a break the receipt is %+v", r)
	}
	if held := stream.Budget().Held(); held != 0 {
		t.Errorf("after a break %d bytes are held", held)
	}
}

func TestEmptyResult(t *testing.T) {
	stream := open(t, items(upTo(0, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	got, err := ids(stream)
	if err != nil || len(got) != 0 {
		t.Errorf("got %d rows and %v", len(got), err)
	}
	if r := stream.Receipt(); !r.Complete || r.Rows != 0 || r.Chunks != 0 || r.Checksum == "" {
		t.Errorf("the receipt is %+v", r)
	}
}

// TestErrorComesLast: what came before it is given, and nothing looks whole.
func TestErrorComesLast(t *testing.T) {
	cause := &sources.Error{Kind: sources.Unavailable, Err: errors.New("the cable is cut")}
	stream := open(t, items(upTo(1500, cause)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	got, err := ids(stream)
	if len(got) != 1500 {
		t.Errorf("%d rows came before the error, want 1500", len(got))
	}
	if err == nil || err.Error() != "scan items: unavailable: the cable is cut; 1500 rows were delivered, and this table has neither cursors nor a stable order to resume from: read it again from the start" {
		t.Errorf("the error is %v", err)
	}
	if r := stream.Receipt(); r.Complete || r.Rows != 1500 || r.Error != err.Error() {
		t.Errorf("the receipt is %+v", r)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := core.Open(ctx, items(upTo(1<<30, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range stream.Chunks() {
		cancel()
		last = err
	}
	if sources.KindOf(last) != sources.Canceled || !errors.Is(last, context.Canceled) {
		t.Errorf("the error is %v", last)
	}
	if r := stream.Receipt(); r.Complete || r.Error == "" {
		t.Errorf("the receipt is %+v", r)
	}
}

func TestConsumersPanicPassesThrough(t *testing.T) {
	stream := open(t, items(upTo(5000, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	defer func() {
		if r := recover(); r != "the consumer's own" {
			t.Errorf("recovered %v", r)
		}
		if held := stream.Budget().Held(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
		if r := stream.Receipt(); r.Complete {
			t.Errorf("the receipt is %+v", r)
		}
	}()
	for _, err := range stream.Chunks() {
		if err == nil {
			panic("the consumer's own")
		}
	}
}

func TestConsumersExitPassesThrough(t *testing.T) {
	stream := open(t, items(upTo(5000, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, err := range stream.Chunks() {
			if err == nil {
				runtime.Goexit()
			}
		}
	}()
	<-ended
	if held := stream.Budget().Held(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}

func TestSourcesPanicIsAnError(t *testing.T) {
	rows := func(yield func(sources.Row, error) bool) {
		upTo(10, nil)(yield)
		panic("the source's own")
	}
	stream := open(t, items(rows), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	_, err := ids(stream)
	if sources.KindOf(err) != sources.Internal || !strings.Contains(err.Error(), "scan items: internal: panic: the source's own") {
		t.Errorf("the error is %v", err)
	}
}

// TestTooSmall: what cannot fit fails with the limit's name, and nothing of it
// is left.
func TestTooSmall(t *testing.T) {
	rows := func(yield func(sources.Row, error) bool) {
		yield(sources.Row{Values: []any{1, strings.Repeat("x", 1<<20)}}, nil)
	}
	stream := open(t, items(rows), core.Query{Table: "items"}, core.Options{Memory: 64 << 10}, core.Resources{Budget: parent(t)})
	_, err := ids(stream)
	var refusal *budget.Refusal
	if sources.KindOf(err) != sources.Exhausted || !errors.As(err, &refusal) {
		t.Fatalf("the error is %v", err)
	}
	if !strings.HasPrefix(err.Error(), "scan items: exhausted: what follows row 0 does not fit: stream items holds ") {
		t.Errorf("the error is %v", err)
	}
	if refusal.Budget != "stream items" || refusal.Limit != 64<<10 || refusal.Asked < 1<<20 {
		t.Errorf("the refusal is %+v", refusal)
	}
}

func TestTheHostsBudgetIsTheCeiling(t *testing.T) {
	budget := parent(t)
	stream := open(t, items(upTo(1, nil)), core.Query{Table: "items"}, core.Options{Memory: 1 << 40}, core.Resources{Budget: budget})
	if r := stream.Receipt(); r.LimitBytes != budget.Limit() {
		t.Errorf("the stream's limit is %d", r.LimitBytes)
	}
}

func TestLyingSchema(t *testing.T) {
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: itemSchema}}}
	lie := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}, itemSchema.Field(1)}, nil)
	source := sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return sources.FromRows(env, lie, func(yield func(sources.Row, error) bool) {
			yield(sources.Row{Values: []any{"1", "x"}}, nil)
		})
	})
	_, err := ids(open(t, source, core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)}))
	if sources.KindOf(err) != sources.Internal || !strings.Contains(fmt.Sprint(err), `returned column "id" utf8`) {
		t.Errorf("the error is %v", err)
	}
}

// TestRetained: a record that the consumer keeps outlives the stream, and is
// the stream's until it is released.
func TestRetained(t *testing.T) {
	budget := parent(t)
	stream := open(t, items(upTo(3000, nil)), core.Query{Table: "items"}, core.Options{ChunkRows: 1000}, core.Resources{Budget: budget})
	var kept []arrow.RecordBatch
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		chunk.Record.Retain()
		kept = append(kept, chunk.Record)
	}
	if budget.Held() == 0 {
		t.Error("nobody counts the records that were kept")
	}
	if got := kept[2].Column(0).(*array.Int64).Value(999); got != 2999 {
		t.Errorf("the last id is %d", got)
	}
	for _, record := range kept {
		record.Release()
	}
}

func TestSingleUse(t *testing.T) {
	stream := open(t, items(upTo(10, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	if _, err := ids(stream); err != nil {
		t.Fatal(err)
	}
	before := stream.Receipt()
	if _, err := ids(stream); sources.KindOf(err) != sources.Invalid {
		t.Errorf("the second range ends with %v", err)
	}
	if diff := cmp.Diff(before, stream.Receipt()); diff != "" {
		t.Errorf("the second range changed the receipt (-want +got):\n%s", diff)
	}
}

func TestCloseBeforeTheLoop(t *testing.T) {
	stream := open(t, items(upTo(10, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	<-stream.Done()
	if _, err := ids(stream); sources.KindOf(err) != sources.Invalid {
		t.Errorf("the range after Close ends with %v", err)
	}
}

// TestCloseFromOutside: a loop in another goroutine is told to stop, and gives
// back what it held itself.
func TestCloseFromOutside(t *testing.T) {
	stream := open(t, items(upTo(1<<30, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	begun, result := make(chan struct{}), make(chan error, 1)
	go func() {
		var last error
		for _, err := range stream.Chunks() {
			select {
			case <-begun:
			default:
				close(begun)
			}
			last = err
		}
		result <- last
	}()
	<-begun
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	<-stream.Done()
	if err := <-result; sources.KindOf(err) != sources.Canceled {
		t.Errorf("the loop ends with %v", err)
	}
}

func TestCloseWithinTheLoop(t *testing.T) {
	stream := open(t, items(upTo(5000, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: parent(t)})
	var last error
	for _, err := range stream.Chunks() {
		last = err
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
	if sources.KindOf(last) != sources.Canceled {
		t.Errorf("the loop ends with %v", last)
	}
}
