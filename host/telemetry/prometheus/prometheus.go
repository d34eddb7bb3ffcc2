// Package prometheus serves a host's metrics to Prometheus. It is a separate package
// so that only its importers carry the dependencies.
package prometheus

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/telemetry"
)

// Handler serves the metrics of package telemetry in Prometheus's text format. Names
// have underscores instead of dots and include units, as in
// penstock_row_count_total. The application mounts the handler at a path of its
// choice. After Close it serves no metrics.
type Handler struct {
	http.Handler
	provider *metric.MeterProvider
	stop     func() error
}

// NewHandler returns a handler for the metrics of a host. The caller closes it.
func NewHandler(h *host.Host) (*Handler, error) {
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	stop, err := telemetry.Watch(h, telemetry.Options{Meter: provider})
	if err != nil {
		return nil, errors.Join(err, provider.Shutdown(context.Background()))
	}
	return &Handler{Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), provider: provider, stop: stop}, nil
}

// Close stops collecting metrics.
func (h *Handler) Close() error {
	return errors.Join(h.stop(), h.provider.Shutdown(context.Background()))
}
