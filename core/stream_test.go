package core_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/sources"
)

// ignored are the fields of a Receipt that depend on the memory and the size of
// chunks.
var ignored = cmpopts.IgnoreFields(core.Receipt{}, "Elapsed", "PeakBytes", "LimitBytes", "Chunks")

// TestChunkSizesChangeNothing tests that the rows, their size and their digest do
// not depend on the memory and the size of chunks.
func TestChunkSizesChangeNothing(t *testing.T) {
	budget := coretest.NewBudget(t)
	var first *core.Receipt
	for _, memory := range []int64{1 << 20, 32 << 20} {
		for _, rows := range []int64{0, 1, 7, 1000, 4999, 1 << 30} {
			stream := coretest.Open(t, coretest.Items(coretest.ItemRows(20_000, nil)), core.Query{Table: "items"}, core.Options{Memory: memory, ChunkRows: rows}, core.Resources{Budget: budget})
			got, err := coretest.IDs(stream)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(coretest.IDRange(0, 20_000), got); diff != "" {
				t.Fatalf("chunks of %d: ids (-want +got):\n%s", rows, diff)
			}
			receipt := stream.Receipt()
			if first == nil {
				first = &receipt
				if !receipt.Complete || receipt.Rows != 20_000 || receipt.Digest.IsZero() || receipt.Chunks == 0 {
					t.Fatalf("receipt: %+v", receipt)
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

// TestChunkRows tests that a fixed ChunkRows is the size of all chunks but the last.
func TestChunkRows(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(2500, nil)), core.Query{Table: "items"}, core.Options{ChunkRows: 1000}, core.Resources{Budget: coretest.NewBudget(t)})
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

// TestBreak tests that leaving the loop releases all memory, and that the receipt is
// not complete.
func TestBreak(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(100_000, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	for _, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if r := stream.Receipt(); r.Complete || r.Rows != 1000 || r.Error != "" || r.Digest.IsZero() {
		t.Errorf("receipt after break: %+v", r)
	}
	if held := stream.Budget().Held(); held != 0 {
		t.Errorf("%d bytes held after break", held)
	}
}

// TestEmptyResult tests that an empty result is complete and has no chunks.
func TestEmptyResult(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(0, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	got, err := coretest.IDs(stream)
	if err != nil || len(got) != 0 {
		t.Errorf("got %d rows and %v", len(got), err)
	}
	if r := stream.Receipt(); !r.Complete || r.Rows != 0 || r.Chunks != 0 || r.Digest.IsZero() {
		t.Errorf("receipt: %+v", r)
	}
}

// TestErrorComesLast tests that the rows before an error are yielded, and that the
// receipt is not complete.
func TestErrorComesLast(t *testing.T) {
	cause := sources.Errorf(sources.Denied, "", "", "the door is locked")
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(1500, cause)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	got, err := coretest.IDs(stream)
	if len(got) != 1500 {
		t.Errorf("%d rows came before the error, want 1500", len(got))
	}
	if err == nil || err.Error() != "scan items: denied: the door is locked" {
		t.Errorf("error: %v", err)
	}
	if r := stream.Receipt(); r.Complete || r.Rows != 1500 || r.Error != err.Error() {
		t.Errorf("receipt: %+v", r)
	}
}

// TestCancel tests that the end of the context ends the stream.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := core.Open(ctx, coretest.Items(coretest.ItemRows(1<<30, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range stream.Chunks() {
		cancel()
		last = err
	}
	if sources.KindOf(last) != sources.Canceled || !errors.Is(last, context.Canceled) {
		t.Errorf("error: %v", last)
	}
	if r := stream.Receipt(); r.Complete || r.Error == "" {
		t.Errorf("receipt: %+v", r)
	}
}

// TestConsumersPanicPassesThrough tests that a panic in the consumer's loop is not
// changed and leaves no memory in use.
func TestConsumersPanicPassesThrough(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(5000, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	defer func() {
		if r := recover(); r != "the consumer's own" {
			t.Errorf("recovered %v", r)
		}
		if held := stream.Budget().Held(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
		if r := stream.Receipt(); r.Complete {
			t.Errorf("receipt: %+v", r)
		}
	}()
	for _, err := range stream.Chunks() {
		if err == nil {
			panic("the consumer's own")
		}
	}
}

// TestConsumersExitPassesThrough tests that runtime.Goexit in the consumer's loop
// leaves no memory in use.
func TestConsumersExitPassesThrough(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(5000, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
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

// TestSourcesPanicIsAnError tests that a panic of the source becomes an error of
// kind Internal.
func TestSourcesPanicIsAnError(t *testing.T) {
	rows := func(yield func(sources.Row, error) bool) {
		coretest.ItemRows(10, nil)(yield)
		panic("the source's own")
	}
	stream := coretest.Open(t, coretest.Items(rows), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	_, err := coretest.IDs(stream)
	if sources.KindOf(err) != sources.Internal || !strings.Contains(err.Error(), "scan items: internal: panic: the source's own") {
		t.Errorf("error: %v", err)
	}
}

// TestTooSmall tests that rows that do not fit in memory end the stream with an
// error that names the limit.
func TestTooSmall(t *testing.T) {
	rows := func(yield func(sources.Row, error) bool) {
		yield(sources.Row{Values: []any{1, strings.Repeat("x", 1<<20)}}, nil)
	}
	stream := coretest.Open(t, coretest.Items(rows), core.Query{Table: "items"}, core.Options{Memory: 64 << 10}, core.Resources{Budget: coretest.NewBudget(t)})
	_, err := coretest.IDs(stream)
	var refusal *budget.Refusal
	if sources.KindOf(err) != sources.Exhausted || !errors.As(err, &refusal) {
		t.Fatalf("error: %v", err)
	}
	if !strings.HasPrefix(err.Error(), "scan items: exhausted: the rows after row 0 do not fit in memory: stream items holds ") {
		t.Errorf("error: %v", err)
	}
	if refusal.Budget != "stream items" || refusal.Limit != 64<<10 || refusal.Asked < 1<<20 {
		t.Errorf("the refusal is %+v", refusal)
	}
}

// TestTheHostsBudgetIsTheCeiling tests that the limit of the parent budget applies
// if it is smaller than Memory.
func TestTheHostsBudgetIsTheCeiling(t *testing.T) {
	budget := coretest.NewBudget(t)
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(1, nil)), core.Query{Table: "items"}, core.Options{Memory: 1 << 40}, core.Resources{Budget: budget})
	if r := stream.Receipt(); r.LimitBytes != budget.Limit() {
		t.Errorf("the stream's limit is %d", r.LimitBytes)
	}
}

// TestLyingSchema tests that pages with another schema than the catalog's are an
// error of kind Internal.
func TestLyingSchema(t *testing.T) {
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: coretest.ItemSchema}}}
	lie := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}, coretest.ItemSchema.Field(1)}, nil)
	source := sources.Simple(catalog, func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		return sources.FromRows(env, lie, func(yield func(sources.Row, error) bool) {
			yield(sources.Row{Values: []any{"1", "x"}}, nil)
		})
	})
	_, err := coretest.IDs(coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)}))
	if sources.KindOf(err) != sources.Internal || !strings.Contains(fmt.Sprint(err), `returned column "id" utf8`) {
		t.Errorf("error: %v", err)
	}
}

// TestRetained tests that a retained record outlives its stream, and counts toward
// the budget until it is released.
func TestRetained(t *testing.T) {
	budget := coretest.NewBudget(t)
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(3000, nil)), core.Query{Table: "items"}, core.Options{ChunkRows: 1000}, core.Resources{Budget: budget})
	var kept []arrow.RecordBatch
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		chunk.Record.Retain()
		kept = append(kept, chunk.Record)
	}
	if budget.Held() == 0 {
		t.Error("the budget does not include the retained records")
	}
	if got := kept[2].Column(0).(*array.Int64).Value(999); got != 2999 {
		t.Errorf("the last id is %d", got)
	}
	for _, record := range kept {
		record.Release()
	}
}

// TestSingleUse tests that a second range is an error and changes nothing.
func TestSingleUse(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(10, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	if _, err := coretest.IDs(stream); err != nil {
		t.Fatal(err)
	}
	before := stream.Receipt()
	if _, err := coretest.IDs(stream); sources.KindOf(err) != sources.Invalid {
		t.Errorf("the second range ends with %v", err)
	}
	if diff := cmp.Diff(before, stream.Receipt()); diff != "" {
		t.Errorf("the second range changed the receipt (-want +got):\n%s", diff)
	}
}

// TestCloseBeforeTheLoop tests that a closed stream ends, and cannot be ranged over.
func TestCloseBeforeTheLoop(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(10, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	<-stream.Done()
	if _, err := coretest.IDs(stream); sources.KindOf(err) != sources.Invalid {
		t.Errorf("the range after Close ends with %v", err)
	}
}

// TestCloseFromOutside tests that Close stops a loop on another goroutine, which
// then releases what the stream holds.
func TestCloseFromOutside(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(1<<30, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
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

// TestCloseWithinTheLoop tests that Close in the loop ends it with an error of kind
// Canceled.
func TestCloseWithinTheLoop(t *testing.T) {
	stream := coretest.Open(t, coretest.Items(coretest.ItemRows(5000, nil)), core.Query{Table: "items"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
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
