package retry_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// TestStall tests that a source that yields nothing is reported, given up, and
// retried, and that the consumer's time does not count.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := 1
		source := testkit.Wrap(coretest.Numbered(t, 5000), func(ctx context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
			return func(yield func(sources.Batch, error) bool) {
				pages := 0
				for page, err := range scan {
					if pages == 2 && hangs > 0 {
						hangs--
						<-ctx.Done()
						yield(sources.Batch{}, sources.NewError(sources.Canceled, "", "", context.Cause(ctx)))
						return
					}
					pages++
					if !yield(page, err) {
						return
					}
				}
			}
		})
		stream := coretest.Open(t, source, core.Query{Table: "items"}, coretest.SmallMemory(core.Options{Retry: retry.Policy{Jitter: -1}}), core.Resources{})
		started := time.Now()
		rows := int64(0)
		for chunk, err := range stream.Chunks() {
			if err != nil {
				t.Fatal(err)
			}
			rows += chunk.Record.NumRows()
			time.Sleep(time.Hour)
		}
		r := stream.Receipt()
		want := []retry.Fault{{Kind: retry.FaultStalled, Text: "waiting for a page of items", Wait: 15 * time.Second},
			{Kind: retry.FaultRetried, Text: "scan items: unavailable: the source stalled: no data for 30s", Try: 1, Wait: time.Second}}
		if d := cmp.Diff(want, r.Faults, cmpopts.IgnoreFields(retry.Fault{}, "At", "Err")); d != "" || rows != 5000 {
			t.Errorf("%d rows, faults (-want +got):\n%s", rows, d)
		}
		if took := time.Since(started); took != time.Duration(r.Chunks)*time.Hour+31*time.Second {
			t.Errorf("took %s for %d chunks", took, r.Chunks)
		}
	})
}

// TestDeadlines tests that a call which exceeds its timeout is an error of kind
// Unavailable, and that a stream which exceeds its timeout ends with one of kind
// Canceled.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &deaf{Source: coretest.Numbered(t, 10)}
		started := time.Now()
		_, err := core.Open(t.Context(), source, core.Query{Table: "items"}, core.Options{Timeouts: retry.Timeouts{Call: time.Minute}, Retry: retry.Policy{MaxRetries: -1}}, core.Resources{})
		if err == nil || err.Error() != "begin: unavailable: no answer within 1m0s" || time.Since(started) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(started))
		}
		stream := coretest.Open(t, testkit.HangAfter(coretest.Numbered(t, 5000), 1), core.Query{Table: "items"}, coretest.SmallMemory(core.Options{Timeouts: retry.Timeouts{Stream: 10 * time.Second}}), core.Resources{})
		_, err = coretest.IDs(stream)
		if sources.KindOf(err) != sources.Canceled || !strings.Contains(err.Error(), "the stream exceeded its timeout of 10s") {
			t.Errorf("%v", err)
		}
	})
}

// deaf is a source whose Begin waits for the end of the context.
type deaf struct{ sources.Source }

func (*deaf) Begin(ctx context.Context, _ sources.Env) (sources.Session, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
