package host_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/sources"
)

// openSlow opens a source of two tables: "flush" yields a row with its FlushAfter, in a
// page that is due, and then waits for the end of the scan; "empty" yields empty pages
// for ever.
func openSlow(context.Context, sources.Config) (sources.Source, error) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "text", Type: arrow.BinaryTypes.String}}, nil)
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "flush", Schema: schema, Rows: -1}, {Name: "empty", Schema: schema, Rows: -1}}}
	return sources.Simple(catalog, func(ctx context.Context, env sources.Env, q *sources.Query) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			row := func(yield func(sources.Row, error) bool) {
				if q.Table == "flush" {
					yield(sources.Row{Values: []any{env.FlushAfter.String()}}, nil)
				}
			}
			for {
				for page, err := range sources.FromRows(env, schema, row) {
					if err != nil {
						yield(sources.Batch{}, err)
						return
					}
					page.Due = page.Record.NumRows() > 0
					if !yield(page, nil) {
						return
					}
				}
				if q.Table == "flush" {
					<-ctx.Done()
					yield(sources.Batch{}, ctx.Err())
					return
				}
			}
		}
	}), nil
}

// TestSlowSources tests that, with a wall and without, FlushAfter reaches the source, a
// page that is due reaches the consumer while the source waits, and a source that makes
// no progress has stalled.
func TestSlowSources(t *testing.T) {
	for _, isolation := range []host.Isolation{host.InProcess, host.Process} {
		source, err := behind(t, isolation, t.TempDir()).Open(t.Context(), "slow:")
		if err != nil {
			t.Fatal(err)
		}
		read := func(table string, o core.Options) (text string, err error) {
			stream, err := source.Stream(t.Context(), core.Query{Table: table}, o)
			if err != nil {
				t.Fatal(err)
			}
			for chunk, err := range stream.Chunks() {
				if err != nil {
					return "", err
				}
				return sources.ValueAt(chunk.Record.Column(0), 0).String(), nil
			}
			return "", nil
		}
		if got, err := read("flush", core.Options{FlushAfter: 250 * time.Millisecond}); err != nil || got != `"250ms"` {
			t.Errorf("%s: %s, %v", isolation, got, err)
		}
		o := core.Options{Timeouts: retry.Timeouts{Stall: 200 * time.Millisecond}, Retry: retry.Policy{MaxRetries: -1}}
		if _, err := read("empty", o); sources.KindOf(err) != sources.Unavailable || !strings.Contains(err.Error(), "the source stalled") {
			t.Errorf("%s: %v", isolation, err)
		}
	}
}
