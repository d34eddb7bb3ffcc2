package core_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// hanging is a source of which one call waits until its context ends.
type hanging struct {
	sources.Source
	catalog, begin bool
}

func (h *hanging) Catalog(ctx context.Context) (*sources.Catalog, error) {
	if h.catalog {
		<-ctx.Done()
		return nil, sources.ContextError(ctx, "catalog", "")
	}
	return h.Source.Catalog(ctx)
}

func (h *hanging) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	if h.begin {
		<-ctx.Done()
		return nil, sources.ContextError(ctx, "begin", "")
	}
	return h.Source.Begin(ctx, env)
}

// TestTimeoutCoversOpen tests that the time for which Open waits, for the source or for
// memory, is part of the time that the whole stream may take.
func TestTimeoutCoversOpen(t *testing.T) {
	for name, source := range map[string]hanging{"catalog": {catalog: true}, "begin": {begin: true}, "memory": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source.Source = coretest.Numbered(t, 1)
				all, err := budget.New("all", 1<<20, nil)
				if err != nil {
					t.Fatal(err)
				}
				if name == "memory" {
					defer all.Free(all.Allocate(1 << 20))
				}
				started := time.Now()
				o := core.Options{Memory: 1 << 20, Timeouts: retry.Timeouts{Stream: time.Second}}
				_, err = core.Open(t.Context(), &source, core.Query{Table: "items"}, o, core.Resources{Budget: all})
				if sources.KindOf(err) != sources.Canceled || time.Since(started) != time.Second {
					t.Errorf("%v after %s", err, time.Since(started))
				}
			})
		})
	}
}
