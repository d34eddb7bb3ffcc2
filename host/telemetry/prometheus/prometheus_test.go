package prometheus_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/telemetry/prometheus"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// TestHandler checks that the figures of a stream can be scraped.
func TestHandler(t *testing.T) {
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"shop": func(context.Context, sources.Config) (sources.Source, error) {
		return testkit.Shop{Seed: 1, Orders: 300}.Memory()
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	handler, err := prometheus.NewHandler(h)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := handler.Close(); err != nil {
			t.Error(err)
		}
	}()
	source, err := h.Open(t.Context(), "shop:")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := source.Stream(t.Context(), core.Query{Table: "orders"}, core.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`penstock_row_count_total{source="shop",wall="inproc"} 300`,
		`penstock_stream_ended_total{source="shop",status="completed",wall="inproc"} 1`,
		`penstock_memory_held_bytes{holder="consumer"} 0`,
	} {
		if !strings.Contains(answer.Body.String(), want+"\n") {
			t.Errorf("%s is missing in\n%s", want, answer.Body)
		}
	}
}
