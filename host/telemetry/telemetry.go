package telemetry

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
)

// Options configures telemetry. A nil provider turns its part off.
type Options struct {
	Meter  metric.MeterProvider
	Tracer trace.TracerProvider
}

// scope is the name of this instrumentation scope.
const scope = "github.com/penstock-data/penstock/host/telemetry"

// Watch reports what happens in the host to the options' providers. The caller calls
// stop to end this, which also ends the spans of streams that are still open.
// Errors are those of the providers.
func Watch(h *host.Host, o Options) (stop func() error, err error) {
	var removes []func()
	var closes []func() error
	if o.Meter != nil {
		m, err := newMetrics(h, o.Meter.Meter(scope))
		if err != nil {
			return nil, err
		}
		removes, closes = append(removes, h.Observe(m.observe)), append(closes, m.registration.Unregister)
	}
	if o.Tracer != nil {
		t := &traces{tracer: o.Tracer.Tracer(scope), open: map[string]trace.Span{}}
		removes, closes = append(removes, h.Observe(t.observe)), append(closes, t.end)
	}
	return func() error {
		for _, remove := range removes {
			remove()
		}
		var faults []error
		for _, end := range closes {
			faults = append(faults, end())
		}
		return errors.Join(faults...)
	}, nil
}

// traces holds a span for each open stream. It is safe for concurrent use.
type traces struct {
	tracer trace.Tracer
	mu     sync.Mutex
	open   map[string]trace.Span // by the stream's name
	ended  bool
}

func (t *traces) observe(e host.Event) {
	if e.Stream == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	if e.Kind == host.EventOpened {
		ctx := e.Context
		if ctx == nil {
			ctx = context.Background()
		}
		_, t.open[e.Stream] = t.tracer.Start(ctx, "penstock.stream", trace.WithTimestamp(e.At), trace.WithAttributes(
			attribute.String("penstock.stream", e.Stream), attribute.String("penstock.source", e.Source),
			attribute.String("penstock.wall", string(e.Isolation)), attribute.String("penstock.table", e.Table)))
		return
	}
	span := t.open[e.Stream]
	if span == nil {
		return
	}
	at := trace.WithTimestamp(e.At)
	switch e.Kind {
	case host.EventFault:
		span.AddEvent(string(e.Fault.Kind), at, trace.WithAttributes(
			attribute.String("fault", e.Fault.Text), attribute.Int("try", e.Fault.Try), attribute.Float64("wait", e.Fault.Wait.Seconds())))
	case host.EventLevel:
		span.AddEvent("level", at, trace.WithAttributes(
			attribute.String("from", e.Level.From.String()), attribute.String("to", e.Level.To.String()), attribute.String("why", e.Level.Why)))
	case host.EventPaused, host.EventResumed, host.EventCanceled:
		span.AddEvent(string(e.Kind), at)
	case host.EventEnded:
		r := e.Receipt
		span.SetAttributes(
			attribute.Int64("penstock.rows", r.Rows), attribute.Int64("penstock.chunks", r.Chunks), attribute.Int64("penstock.bytes", r.Bytes),
			attribute.Int64("penstock.lookups", r.Lookups), attribute.Int64("penstock.retries", r.Retries),
			attribute.Int64("penstock.peak_bytes", r.PeakBytes), attribute.Bool("penstock.complete", r.Complete))
		if e.Status == core.StatusFailed {
			span.SetStatus(codes.Error, r.Error)
		}
		span.End(at)
		delete(t.open, e.Stream)
	}
}

// end ends the spans of streams that are still open.
func (t *traces) end() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for _, span := range t.open {
		span.End()
	}
	clear(t.open)
	return nil
}
