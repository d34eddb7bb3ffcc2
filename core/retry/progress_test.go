package retry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// pagesOf returns a source of one table, "items", whose scans yield the pages that next
// returns, until it returns false.
func pagesOf(can sources.Capability, next func(scan, page int) (sources.Batch, bool)) sources.Source {
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: coretest.ItemSchema, Rows: -1, Capabilities: can}}}
	scans := 0
	return sources.Simple(catalog, func(context.Context, sources.Env, *sources.Query) sources.Batches {
		scans++
		return func(yield func(sources.Batch, error) bool) {
			for page := 0; ; page++ {
				b, ok := next(scans, page)
				if !ok {
					return
				}
				b.Record = rows.Empty(coretest.ItemSchema)
				if !rows.YieldOwned(yield, b) {
					return
				}
			}
		}
	})
}

// TestEmptyPagesAreNoProgress tests that a source which yields empty pages for ever
// has stalled, although it ignores its context.
func TestEmptyPagesAreNoProgress(t *testing.T) {
	for name, cursor := range map[string]sources.Cursor{"without cursors": nil, "with one cursor": sources.Cursor("here")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := pagesOf(sources.CapResume, func(int, int) (sources.Batch, bool) {
					time.Sleep(time.Second)
					return sources.Batch{Cursor: cursor}, true
				})
				stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{Retry: retry.Policy{Jitter: -1, MaxRetries: 2}}, core.Resources{})
				started := time.Now()
				_, err := coretest.IDs(stream)
				if sources.KindOf(err) != sources.Unavailable || !strings.Contains(err.Error(), "scan items: unavailable: the source stalled: no data for 30s (tried 3 times") {
					t.Errorf("error: %v", err)
				}
				if r := stream.Receipt(); r.Stalls == 0 || r.Retries != 2 || time.Since(started) > 3*time.Minute {
					t.Errorf("%d stalls, %d retries in %s", r.Stalls, r.Retries, time.Since(started))
				}
			})
		})
	}
}

// TestProgress tests that another cursor, a skipped record or a row ends a wait, and
// that the waits for pages without them add up.
func TestProgress(t *testing.T) {
	for name, next := range map[string]func(page int) sources.Batch{
		"cursors": func(page int) sources.Batch { return sources.Batch{Cursor: fmt.Append(nil, page)} },
		"skipped": func(int) sources.Batch { return sources.Batch{Skipped: sources.Skipped{Records: 1}} },
		// 20 s with an unchanged cursor follow each change.
		"now and then": func(page int) sources.Batch { return sources.Batch{Cursor: fmt.Append(nil, page/2)} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := pagesOf(sources.CapResume, func(_, page int) (sources.Batch, bool) {
					time.Sleep(10 * time.Second)
					return next(page), page < 20
				})
				stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, core.Resources{})
				_, err := coretest.IDs(stream)
				// A stream that skips everything fails, but only when the source has ended.
				if name == "skipped" && err != nil && strings.Contains(err.Error(), "the source skipped all 20 records") {
					err = nil
				}
				if err != nil || stream.Receipt().Retries != 0 {
					t.Errorf("%v after %d retries", err, stream.Receipt().Retries)
				}
			})
		})
	}
}

// TestEmptyPagesDoNotRestartTheCount tests that empty pages before each failure do not
// make the retries endless.
func TestEmptyPagesDoNotRestartTheCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := pagesOf(0, func(scan, page int) (sources.Batch, bool) {
			if page == 1 {
				panic(errCable)
			}
			return sources.Batch{}, scan < 100
		})
		stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, core.Resources{})
		if _, err := coretest.IDs(stream); sources.KindOf(err) != sources.Unavailable || !strings.Contains(err.Error(), "tried 4 times") {
			t.Errorf("error: %v", err)
		}
	})
}

// TestRetryWithoutCursors tests that a scan of single rows is retried if it fails before
// its first page is full, although the table has no abilities: no row was delivered.
func TestRetryWithoutCursors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scans := 0
		source := coretest.Items(func(yield func(sources.Row, error) bool) {
			scans++
			for i := range 50 {
				if i == 20 && scans < 3 {
					yield(sources.Row{}, errCable)
					return
				}
				if !yield(sources.Row{Values: []any{i, nil}}, nil) {
					return
				}
			}
		})
		stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{}, core.Resources{})
		got, err := coretest.IDs(stream)
		if diff := cmp.Diff(coretest.IDRange(0, 50), got); err != nil || diff != "" || scans != 3 {
			t.Errorf("%v after %d scans, ids (-want +got):\n%s", err, scans, diff)
		}
	})
}

// TestDueRowsAndRetries tests that rows which were handed on because they were due are
// not repeated by a retry.
func TestDueRowsAndRetries(t *testing.T) {
	for _, can := range []sources.Capability{sources.CapStable, sources.CapResume} {
		synctest.Test(t, func(t *testing.T) {
			failures := 0
			catalog := &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: coretest.ItemSchema, Rows: -1, Capabilities: can}}}
			source := sources.Simple(catalog, func(_ context.Context, env sources.Env, q *sources.Query) sources.Batches {
				return sources.FromRows(env, coretest.ItemSchema, func(yield func(sources.Row, error) bool) {
					for i := range 20 {
						time.Sleep(40 * time.Millisecond)
						if i%7 == 5 && failures < i/5 {
							failures++
							yield(sources.Row{}, errCable)
							return
						}
						row := sources.Row{Values: []any{i, nil}}
						if can == sources.CapResume {
							row.Cursor = fmt.Appendf(nil, "%02d", i)
						}
						if string(row.Cursor) > string(q.After) || q.After == nil {
							if !yield(row, nil) {
								return
							}
						}
					}
				})
			})
			stream := coretest.Open(t, source, core.Query{Table: "items"}, core.Options{FlushAfter: sources.DefaultFlushAfter}, core.Resources{})
			got, err := coretest.IDs(stream)
			if r := stream.Receipt(); err != nil || !slices.Equal(got, coretest.IDRange(0, 20)) || r.Retries == 0 || r.Chunks < 4 {
				t.Errorf("%s: %v, %d retries, %d chunks, ids %d", can, err, r.Retries, r.Chunks, got)
			}
		})
	}
}
