package host_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"go.uber.org/goleak"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// numbers is a source with an endless table. It counts how often it is closed.
type numbers struct {
	sources.Source
	closed atomic.Int32
}

func (n *numbers) Close() error {
	n.closed.Add(1)
	return n.Source.Close()
}

func (n *numbers) open(_ context.Context, c sources.Config) (sources.Source, error) {
	if c.URI == "broken" {
		panic("no such luck")
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	n.Source = sources.Simple(&sources.Catalog{Tables: []sources.Table{{Name: "numbers", Schema: schema, Rows: -1}}},
		func(_ context.Context, env sources.Env, _ *sources.Query) sources.Batches {
			return sources.FromRows(env, schema, func(yield func(sources.Row, error) bool) {
				for i := 0; yield(sources.Row{Values: []any{i}}, nil); i++ {
				}
			})
		})
	return n, nil
}

func newHost(t *testing.T, n *numbers) *host.Host {
	t.Helper()
	return hostOf(t, n.open)
}

// hostOf returns a host whose source numbers is opened by a function.
func hostOf(t *testing.T, open sources.Open) *host.Host {
	t.Helper()
	before := goleak.IgnoreCurrent()
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"numbers": open}, Memory: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if held := h.Budget().Held(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
		goleak.VerifyNone(t, before)
	})
	return h
}

func openNumbers(t *testing.T, h *host.Host) (*host.Source, *core.Stream) {
	t.Helper()
	source, err := h.Open(t.Context(), "numbers:")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := source.Stream(t.Context(), core.Query{Table: "numbers"}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return source, stream
}

// TestCloseWhileOpening checks that a host can be closed, also twice at once, while others
// open sources and streams of it: they get an error that says so, and nothing is left.
func TestCloseWhileOpening(t *testing.T) {
	h := hostOf(t, func(ctx context.Context, c sources.Config) (sources.Source, error) { return (&numbers{}).open(ctx, c) })
	var users, closers sync.WaitGroup
	reading := make(chan struct{}, 100)
	for range 8 {
		users.Go(func() {
			for {
				err := readSome(t.Context(), h)
				if err == nil {
					reading <- struct{}{}
					continue
				}
				if kind := sources.KindOf(err); kind != sources.Invalid && kind != sources.Canceled {
					t.Errorf("a user of a closed host gets %v", err)
				}
				return
			}
		})
	}
	go func() {
		users.Wait()
		close(reading)
	}()
	<-reading
	for range 2 {
		closers.Go(func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for range reading {
	}
	closers.Wait()
	if health := h.Health(); len(health.Sources) != 0 || health.Memory != 0 {
		t.Errorf("a closed host has %+v", health)
	}
}

// readSome opens a source and a stream, reads one chunk, and closes neither.
func readSome(ctx context.Context, h *host.Host) error {
	source, err := h.Open(ctx, "numbers:")
	if err != nil {
		return err
	}
	stream, err := source.Stream(ctx, core.Query{Table: "numbers"}, core.Options{Memory: 1 << 20})
	if err != nil {
		return err
	}
	for _, err := range stream.Chunks() {
		return err
	}
	return nil
}

// TestHealthWhileClosing checks that a source and its host can be observed while they are
// closed. The race detector makes it fail.
func TestHealthWhileClosing(t *testing.T) {
	h := newHost(t, &numbers{})
	source, _ := openNumbers(t, h)
	began, stop, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			source.Health()
			source.Sandboxes()
			h.Health()
			h.MemoryByOwner()
			switch {
			case i == 0:
				close(began)
			case stopped(stop):
				return
			}
		}
	}()
	<-began
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	close(stop)
	<-done
	if health := source.Health(); health.Streams != 0 {
		t.Errorf("a closed source has %d streams", health.Streams)
	}
}

func stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// TestCloseEndsStreams checks that Close ends a stream that another goroutine reads,
// and one that was never read.
func TestCloseEndsStreams(t *testing.T) {
	n := &numbers{}
	h := newHost(t, n)
	source, stream := openNumbers(t, h)
	idle, err := source.Stream(t.Context(), core.Query{Table: "numbers"}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	begun, result := make(chan struct{}), make(chan error, 1)
	go func() {
		var last error
		for chunk, err := range stream.Chunks() {
			if err == nil && stream.Receipt().Chunks == 1 && chunk.Record.NumRows() > 0 {
				close(begun)
			}
			last = err
		}
		result <- last
	}()
	<-begun
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; sources.KindOf(err) != sources.Canceled {
		t.Errorf("the loop ended with %v", err)
	}
	<-idle.Done()
	if closed := n.closed.Load(); closed != 1 {
		t.Errorf("the source was closed %d times", closed)
	}
	if err := errors.Join(h.Close(), source.Close()); err != nil || n.closed.Load() != 1 {
		t.Errorf("a second close: %v, %d times", err, n.closed.Load())
	}
	if _, err := source.Stream(t.Context(), core.Query{Table: "numbers"}, core.Options{}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a stream of a closed source: %v", err)
	}
	if _, err := h.Open(t.Context(), "numbers:"); sources.KindOf(err) != sources.Invalid || n.closed.Load() != 2 {
		t.Errorf("a source of a closed host: %v", err)
	}
}

func TestStreamsShareTheHostsBudget(t *testing.T) {
	h := newHost(t, &numbers{})
	source, stream := openNumbers(t, h)
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		// The host also reserves what the stream needs next.
		own := stream.Budget()
		if live := h.Budget().Live(); live == 0 || live != own.Live() || h.Budget().Held() < own.Held() {
			t.Errorf("in the host live %d of %d bytes, in the stream %d of %d", live, h.Budget().Held(), own.Live(), own.Held())
		}
		_ = chunk
		break
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenFaults(t *testing.T) {
	h := newHost(t, &numbers{})
	for uri, want := range map[string]struct {
		kind sources.Kind
		part string
	}{
		"number:x":       {sources.NotFound, `there is no source "number"; the nearest is "numbers"`},
		"data/shop":      {sources.Invalid, "names no source"},
		"numbers:broken": {sources.Internal, "panic: no such luck"},
	} {
		_, err := h.Open(t.Context(), uri)
		if sources.KindOf(err) != want.kind || err == nil || !strings.HasPrefix(err.Error(), "open: ") || !strings.Contains(err.Error(), want.part) {
			t.Errorf("%s: %v, want %s with %q", uri, err, want.kind, want.part)
		}
	}
	if _, err := host.New(host.Options{Sources: map[string]sources.Open{"a b": nil}}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a source without a function: %v", err)
	}
	if _, err := host.New(host.Options{Memory: -1}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a negative limit: %v", err)
	}
}

// TestMemoryByOwner checks that the memory by owner, of all streams together, adds up to
// what the host's budget counts.
func TestMemoryByOwner(t *testing.T) {
	h := behind(t, host.InProcess, "")
	source, err := h.Open(t.Context(), "csv:"+shop(t, 2000))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := source.Stream(t.Context(), core.Query{Table: "order_lines"}, core.Options{Memory: 8 << 20, ChunkRows: 500})
	if err != nil {
		t.Fatal(err)
	}
	var kept []arrow.RecordBatch
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		chunk.Record.Retain()
		kept = append(kept, chunk.Record)
		if len(kept) < 5 {
			continue
		}
		held := h.MemoryByOwner()
		if live := h.Budget().Live(); held[budget.Consumer] == 0 || held.Total()-held[budget.Idle] != live {
			t.Errorf("%d bytes live, and the holders have %s", live, held)
		}
		break
	}
	for _, record := range kept {
		record.Release()
	}
	if held := h.MemoryByOwner(); held != (budget.Breakdown{}) {
		t.Errorf("in the end %s", held)
	}
}
