package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// silent returns a source of ten items whose first scan yields three of them, calls wait,
// and ends without an error when its context has ended.
func silent(wait func()) sources.Source {
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: coretest.ItemSchema, Rows: -1, Capabilities: sources.CapStable}}}
	scans := 0
	return sources.Simple(catalog, func(ctx context.Context, env sources.Env, _ *sources.Query) sources.Batches {
		scans++
		first := scans == 1
		env.Page.Rows = 1
		pages := sources.FromRows(env, coretest.ItemSchema, coretest.ItemRows(10, nil))
		return func(yield func(sources.Batch, error) bool) {
			n := 0
			for page, err := range pages {
				if n == 3 && first {
					wait()
					<-ctx.Done()
					return
				}
				n++
				if !yield(page, err) {
					return
				}
			}
		}
	})
}

// TestSilentStall tests that a stalled scan is retried although its source ends it as if
// it were complete once the engine cancels it.
func TestSilentStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := coretest.Open(t, silent(func() {}), core.Query{Table: "items"}, core.Options{Retry: retry.Policy{Jitter: -1}}, core.Resources{})
		ids, err := coretest.IDs(stream)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(coretest.IDRange(0, 10), ids); diff != "" {
			t.Error(diff)
		}
		if r := stream.Receipt(); r.Retries != 1 || !r.Complete {
			t.Errorf("%d retries, complete %t", r.Retries, r.Complete)
		}
	})
}

// TestSilentCancel tests that a canceled stream is not complete although its source ends
// the scan as if it were, and that the cache keeps nothing of it.
func TestSilentCancel(t *testing.T) {
	for _, cached := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var resources core.Resources
			if cached {
				resources = core.Resources{Cache: coretest.NewCache(t, cache.Options{}), SourceID: query.Identify("silent")}
			}
			ctx, cancel := context.WithCancel(t.Context())
			source := silent(func() { time.AfterFunc(time.Second, cancel) })
			stream, err := core.Open(ctx, source, core.Query{Table: "items"}, core.Options{}, resources)
			if err != nil {
				t.Fatal(err)
			}
			if ids, err := coretest.IDs(stream); sources.KindOf(err) != sources.Canceled || stream.Receipt().Complete {
				t.Errorf("cached %t: rows %v, error %v, complete %t", cached, ids, err, stream.Receipt().Complete)
			}
			if err := stream.Close(); err != nil {
				t.Error(err)
			}
			again := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, resources)
			ids, err := coretest.IDs(again)
			if diff := cmp.Diff(coretest.IDRange(0, 10), ids); diff != "" || err != nil {
				t.Errorf("cached %t: the stream after it: %v\n%s", cached, err, diff)
			}
		})
	}
}
