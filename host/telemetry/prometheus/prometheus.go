// Package prometheus shows a host's metrics to Prometheus. It is a package of its
// own so that only those who import it carry what it needs.
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

// Handler serves the metrics of package telemetry in Prometheus's text format,
// with underscores for dots and units in the names, as in
// penstock_row_count_total. The application mounts it where it likes; closing it
// ends the watch, and it serves no figures any more.
type Handler struct {
	http.Handler
	provider *metric.MeterProvider
	stop     func() error
}

// NewHandler watches a host. The caller closes the handler.
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

// Close ends the watch.
func (h *Handler) Close() error {
	return errors.Join(h.stop(), h.provider.Shutdown(context.Background()))
}
