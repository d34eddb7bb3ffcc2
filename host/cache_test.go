package host_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// TestPostgresVersions: a write to the database is seen by the next question, and
// without one nothing is scanned.
func TestPostgresVersions(t *testing.T) {
	uri := pgtest.Start(t).Database(t, `CREATE TABLE people (id int PRIMARY KEY); CREATE TABLE changes (n int); INSERT INTO changes VALUES (1)`)
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"postgres": postgres.Open}, Cache: &host.Cache{}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	separator := "?"
	if strings.Contains(uri, "?") {
		separator = "&"
	}
	source, err := h.Open(t.Context(), uri+separator+"version="+url.QueryEscape("SELECT n FROM changes"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{cache.Miss, cache.Hit, cache.Miss, cache.Hit} {
		if i == 2 {
			if err := pgtest.Run(t.Context(), uri, "INSERT INTO people VALUES (1); UPDATE changes SET n = 2"); err != nil {
				t.Fatal(err)
			}
		}
		stream, err := source.Stream(t.Context(), core.Query{Table: "people"}, core.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
		}
		if r := stream.Receipt(); r.Cache != want || r.Rows != int64(i/2) {
			t.Errorf("question %d: %s of %d rows, want a %s", i, r.Cache, r.Rows, want)
		}
	}
}
