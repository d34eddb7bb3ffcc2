package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
)

// metrics are the instruments of one host.
type metrics struct {
	host         *host.Host
	registration metric.Registration

	opened, ended, chunks, rows, size, lookups   metric.Int64Counter
	faults, levels, controlled, circuits, checks metric.Int64Counter
	duration, checkDuration                      metric.Float64Histogram
	chunkRows                                    metric.Int64Histogram

	open, circuitOpen, held, limit metric.Int64ObservableGauge
	sandboxes, sandboxMemory       metric.Int64ObservableGauge
	cacheEntries, cacheSize        metric.Int64ObservableGauge
	cacheRequests, cacheEvictions  metric.Int64ObservableCounter
}

func newMetrics(h *host.Host, meter metric.Meter) (*metrics, error) {
	m := &metrics{host: h}
	var faults []error
	counter := func(to *metric.Int64Counter, name, unit, text string) {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		*to, faults = c, append(faults, err)
	}
	counter(&m.opened, "penstock.stream.opened", "{stream}", "Streams opened.")
	counter(&m.ended, "penstock.stream.ended", "{stream}", "Streams ended.")
	counter(&m.chunks, "penstock.chunk.count", "{chunk}", "Chunks that consumers have finished.")
	counter(&m.rows, "penstock.row.count", "{row}", "Rows of finished chunks.")
	counter(&m.size, "penstock.row.size", "By", "Bytes of the values of those rows.")
	counter(&m.lookups, "penstock.lookup.count", "{lookup}", "Look-ups of relations, added when a stream ends.")
	counter(&m.faults, "penstock.fault.count", "{fault}", "Faults of sources from which streams have recovered.")
	counter(&m.levels, "penstock.level.changes", "{change}", "Changes of streams to a memory level.")
	counter(&m.controlled, "penstock.stream.steered", "{action}", "Pauses, resumptions and cancellations of streams.")
	counter(&m.circuits, "penstock.circuit.changes", "{change}", "Changes of circuit breakers to a state.")
	counter(&m.checks, "penstock.check.count", "{check}", "Health checks of sources.")
	seconds := func(to *metric.Float64Histogram, name, text string) {
		c, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text))
		*to, faults = c, append(faults, err)
	}
	seconds(&m.duration, "penstock.stream.duration", "Duration of streams, from opening to end.")
	seconds(&m.checkDuration, "penstock.check.duration", "Duration of health checks.")
	var err error
	m.chunkRows, err = meter.Int64Histogram("penstock.chunk.rows", metric.WithUnit("{row}"), metric.WithDescription("Rows of a chunk."),
		metric.WithExplicitBucketBoundaries(100, 500, 1000, 5000, 10_000, 50_000))
	faults = append(faults, err)
	gauge := func(to *metric.Int64ObservableGauge, name, unit, text string) {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		*to, faults = g, append(faults, err)
	}
	gauge(&m.open, "penstock.stream.open", "{stream}", "Streams that have not ended.")
	gauge(&m.circuitOpen, "penstock.circuit.open", "{source}", "Sources whose circuits are open.")
	gauge(&m.held, "penstock.memory.held", "By", "Memory of all streams, by owner.")
	gauge(&m.limit, "penstock.memory.limit", "By", "Memory limit of all streams together.")
	gauge(&m.sandboxes, "penstock.isolate.count", "{process}", "Processes that run sources.")
	gauge(&m.sandboxMemory, "penstock.isolate.memory", "By", "Private memory of those processes.")
	gauge(&m.cacheEntries, "penstock.cache.entries", "{entry}", "Entries in the cache.")
	gauge(&m.cacheSize, "penstock.cache.size", "By", "Memory that the cache holds.")
	observedCounter := func(to *metric.Int64ObservableCounter, name, unit, text string) {
		c, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		*to, faults = c, append(faults, err)
	}
	observedCounter(&m.cacheRequests, "penstock.cache.requests", "{request}", "Queries that the cache looked up.")
	observedCounter(&m.cacheEvictions, "penstock.cache.evictions", "{entry}", "Entries that the cache removed.")
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	m.registration, err = meter.RegisterCallback(m.collect, m.open, m.circuitOpen, m.held, m.limit, m.sandboxes, m.sandboxMemory,
		m.cacheEntries, m.cacheSize, m.cacheRequests, m.cacheEvictions)
	return m, err
}

// withSource returns the attributes of a source, and more.
func withSource(source string, isolation host.Isolation, more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(more, attribute.String("source", source), attribute.String("wall", string(isolation)))...))
}

// observe records an event. Streams call it, so it must not block.
func (m *metrics) observe(e host.Event) {
	ctx := context.Background()
	with := func(more ...attribute.KeyValue) metric.MeasurementOption {
		return withSource(e.Source, e.Isolation, more...)
	}
	switch e.Kind {
	case host.EventOpened:
		m.opened.Add(ctx, 1, with())
	case host.EventChunk:
		source := with()
		m.chunks.Add(ctx, 1, source)
		m.rows.Add(ctx, e.Rows, source)
		m.size.Add(ctx, e.Bytes, source)
		m.chunkRows.Record(ctx, e.Rows, source)
	case host.EventLevel:
		m.levels.Add(ctx, 1, with(attribute.String("level", e.Level.To.String())))
	case host.EventFault:
		m.faults.Add(ctx, 1, with(attribute.String("kind", string(e.Fault.Kind))))
	case host.EventPaused, host.EventResumed, host.EventCanceled:
		m.controlled.Add(ctx, 1, with(attribute.String("action", string(e.Kind))))
	case host.EventEnded:
		status := with(attribute.String("status", string(e.Status)))
		m.ended.Add(ctx, 1, status)
		m.duration.Record(ctx, e.Receipt.Elapsed.Seconds(), status)
		m.lookups.Add(ctx, e.Receipt.Lookups, with())
	case host.EventCircuit:
		m.circuits.Add(ctx, 1, with(attribute.String("circuit", string(e.To))))
	case host.EventHealth:
		m.checks.Add(ctx, 1, with(attribute.Bool("good", e.Err == nil)))
		m.checkDuration.Record(ctx, e.Took.Seconds(), with())
	}
}

// collect reads the host's state when the metrics are collected.
func (m *metrics) collect(_ context.Context, o metric.Observer) error {
	health := m.host.Health()
	open := map[[3]string]int64{}
	for _, s := range health.Streams {
		if !s.Status.Ended() {
			open[[3]string{s.Source, string(s.Isolation), string(s.Status)}]++
		}
	}
	for key, n := range open {
		o.ObserveInt64(m.open, n, withSource(key[0], host.Isolation(key[1]), attribute.String("status", key[2])))
	}
	type labels struct {
		source    string
		isolation host.Isolation
	}
	broken, sandboxes, memory := map[labels]int64{}, map[labels]int64{}, map[labels]int64{}
	for _, s := range health.Sources {
		l := labels{s.Source, s.Isolation}
		broken[l] += 0
		if s.Circuit == retry.CircuitOpen {
			broken[l]++
		}
		for _, sandbox := range s.Sandboxes {
			sandboxes[l]++
			memory[l] += sandbox.Held
		}
	}
	for l, n := range broken {
		o.ObserveInt64(m.circuitOpen, n, withSource(l.source, l.isolation))
		o.ObserveInt64(m.sandboxes, sandboxes[l], withSource(l.source, l.isolation))
		o.ObserveInt64(m.sandboxMemory, memory[l], withSource(l.source, l.isolation))
	}
	for i, n := range m.host.MemoryByOwner() {
		o.ObserveInt64(m.held, n, metric.WithAttributes(attribute.String("holder", budget.Owner(i).String())))
	}
	o.ObserveInt64(m.limit, health.Limit)
	if c := m.host.Cache(); c != nil {
		m.cache(o, c.Stats())
	}
	return nil
}

func (m *metrics) cache(o metric.Observer, s cache.Stats) {
	o.ObserveInt64(m.cacheEntries, int64(s.Entries))
	o.ObserveInt64(m.cacheSize, s.Bytes)
	for result, n := range map[string]uint64{"hit": s.Hits, "miss": s.Misses, "shared": s.Shared} {
		o.ObserveInt64(m.cacheRequests, int64(n), metric.WithAttributes(attribute.String("result", result)))
	}
	e := s.Evictions
	for cause, n := range map[string]uint64{"ttl": e.TTL, "lru": e.LRU, "bytes": e.Bytes, "pressure": e.Pressure, "version": e.Version, "replaced": e.Replaced, "invalidated": e.Invalidated} {
		o.ObserveInt64(m.cacheEvictions, int64(n), metric.WithAttributes(attribute.String("cause", cause)))
	}
}
