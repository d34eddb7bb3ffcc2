package sources

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
)

// TestFromRowsWhenDue tests when pages are handed on if rows come slowly.
func TestFromRowsWhenDue(t *testing.T) {
	for _, c := range []struct {
		name     string
		every    time.Duration // between two rows
		consumer time.Duration // what the consumer takes for each page
		flush    time.Duration
		want     []string // the time from the start, the rows, and whether the page was due
	}{
		{"in time", 10 * time.Millisecond, 0, 0, []string{"70ms: 7 rows"}},
		{"slow", 50 * time.Millisecond, 0, 0, []string{"100ms: 2 rows, due", "200ms: 2 rows, due", "300ms: 2 rows, due", "350ms: 1 rows"}},
		{"very slow", time.Minute, 0, 0, []string{"1m0s: 1 rows, due", "2m0s: 1 rows, due", "3m0s: 1 rows, due", "4m0s: 1 rows, due", "5m0s: 1 rows, due", "6m0s: 1 rows, due", "7m0s: 1 rows, due"}},
		{"another time", 50 * time.Millisecond, 0, 200 * time.Millisecond, []string{"200ms: 4 rows, due", "350ms: 3 rows"}},
		{"never", time.Minute, 0, -1, []string{"7m0s: 7 rows"}},
		{"the consumer's time does not count", 30 * time.Millisecond, time.Hour, 0, []string{"120ms: 4 rows, due", "1h0m0.21s: 3 rows"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
				defer mem.AssertSize(t, 0)
				started := time.Now()
				rows := func(yield func(Row, error) bool) {
					for i := range 7 {
						time.Sleep(c.every)
						if !yield(Row{Values: []any{i}}, nil) {
							return
						}
					}
				}
				var got []string
				for page, err := range FromRows(Env{Mem: mem, FlushAfter: c.flush}, oneColumn(arrow.PrimitiveTypes.Int64, false), rows) {
					if err != nil {
						t.Fatal(err)
					}
					text := fmt.Sprintf("%s: %d rows", time.Since(started), page.Record.NumRows())
					if page.Due {
						text += ", due"
					}
					got = append(got, text)
					time.Sleep(c.consumer)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
