package telemetry_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/telemetry"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// figures collects the metrics and returns the sum for each name and its attributes.
func figures(t *testing.T, reader metric.Reader) (map[string]int64, []metricdata.Metrics) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	var metrics []metricdata.Metrics
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			metrics = append(metrics, m)
			put := func(p metricdata.DataPoint[int64]) {
				name := m.Name
				for _, a := range p.Attributes.ToSlice() {
					name += fmt.Sprintf(" %s=%s", a.Key, a.Value.String())
				}
				sums[name] += p.Value
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					put(p)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					put(p)
				}
			}
		}
	}
	return sums, metrics
}

// TestWatch checks the metrics and spans of streams that complete, fail after
// retries, and are canceled.
func TestWatch(t *testing.T) {
	cut := sources.Errorf(sources.Unavailable, "", "", "the cable is cut")
	left := 0 // faults to come
	h, err := host.New(host.Options{
		Sources: map[string]sources.Open{"shop": func(context.Context, sources.Config) (sources.Source, error) {
			shop, err := testkit.Shop{Seed: 1, Orders: 500}.Memory()
			if err != nil {
				return nil, err
			}
			return testkit.Wrap(shop, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
				return func(yield func(sources.Batch, error) bool) {
					if left > 0 {
						left--
						yield(sources.Batch{}, cut)
						return
					}
					scan(yield)
				}
			}), nil
		}},
		Retry:   retry.Policy{InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond},
		Breaker: retry.BreakerOptions{Failures: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	reader, spans := metric.NewManualReader(), tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	stop, err := telemetry.Watch(h, telemetry.Options{Meter: metric.NewMeterProvider(metric.WithReader(reader)), Tracer: provider})
	if err != nil {
		t.Fatal(err)
	}
	source, err := h.Open(t.Context(), "shop:")
	if err != nil {
		t.Fatal(err)
	}
	ctx, parent := provider.Tracer("test").Start(t.Context(), "request")
	read := func(ctx context.Context, faults int, cancel bool) error {
		t.Helper()
		left = faults
		stream, err := source.Stream(ctx, core.Query{Table: "orders"}, core.Options{ChunkRows: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				return err
			}
			if cancel {
				h.Stream(stream.Name()).Cancel(nil)
			}
		}
		return nil
	}
	if err := read(ctx, 1, false); err != nil {
		t.Error(err)
	}
	if err := read(t.Context(), 100, false); sources.KindOf(err) != sources.Unavailable {
		t.Error(err)
	}
	if err := read(t.Context(), 0, true); sources.KindOf(err) != sources.Canceled {
		t.Error(err)
	}
	if err := source.Check(t.Context()); err != nil {
		t.Error(err)
	}
	// This stream is open while the metrics are collected.
	stream, err := source.Stream(t.Context(), core.Query{Table: "orders"}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, metrics := figures(t, reader)
	shop := " source=shop wall=inproc"
	for name, want := range map[string]int64{
		"penstock.stream.opened" + shop:                                  4,
		"penstock.stream.ended source=shop status=completed wall=inproc": 1,
		"penstock.stream.ended source=shop status=failed wall=inproc":    1,
		"penstock.stream.ended source=shop status=canceled wall=inproc":  1,
		"penstock.stream.open source=shop status=open wall=inproc":       1,
		"penstock.chunk.count" + shop:                                    6,
		"penstock.row.count" + shop:                                      600,
		"penstock.stream.steered action=canceled" + shop:                 1,
		"penstock.check.count good=true" + shop:                          1,
		"penstock.memory.limit":                                          host.DefaultMemory,
	} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
	if n := got["penstock.fault.count kind=retried"+shop]; n < 4 {
		t.Errorf("%d retries were counted", n)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	documented(t, metrics)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := read(t.Context(), 0, false); err != nil {
		t.Error(err)
	}
	if after, _ := figures(t, reader); after["penstock.row.count"+shop] != 600 {
		t.Error("it counts after its end")
	}
	parent.End()
	var told []string
	for _, s := range spans.Ended() {
		if s.Name() != "penstock.stream" {
			continue
		}
		events := []string{}
		for _, e := range s.Events() {
			events = append(events, e.Name)
		}
		told = append(told, fmt.Sprintf("%s below a request %t: %s", s.Status().Code, s.Parent().IsValid(), strings.Join(slices.Compact(events), " ")))
	}
	want := []string{
		codes.Unset.String() + " below a request true: retried", codes.Error.String() + " below a request false: retried",
		codes.Unset.String() + " below a request false: canceled", codes.Unset.String() + " below a request false: ",
	}
	if d := cmp.Diff(want, told); d != "" {
		t.Error(d)
	}
}

// documented checks that the package's documentation lists the instruments with
// their units and kinds.
func documented(t *testing.T, metrics []metricdata.Metrics) {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^//\t(penstock\S+)\s+(\S+)\s+(counter|histogram|gauge)`).FindAllStringSubmatch(string(text), -1) {
		lines[m[1]] = m[2:]
	}
	for _, m := range metrics {
		kind := "gauge"
		switch m.Data.(type) {
		case metricdata.Sum[int64]:
			kind = "counter"
		case metricdata.Histogram[int64], metricdata.Histogram[float64]:
			kind = "histogram"
		}
		if d := cmp.Diff([]string{m.Unit, kind}, lines[m.Name]); d != "" {
			t.Errorf("%s is not as doc.go says: %s", m.Name, d)
		}
	}
}

// TestNothing checks that options without providers are valid.
func TestNothing(t *testing.T) {
	h, err := host.New(host.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	stop, err := telemetry.Watch(h, telemetry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
