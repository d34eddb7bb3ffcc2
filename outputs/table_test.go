package outputs

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestFit compares the widths of columns with those that result from narrowing the
// first of the widest columns by one character, again and again.
func TestFit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		widths := make([]int, 1+random.IntN(12))
		for i := range widths {
			widths[i] = 1 + random.IntN(maxCell)
		}
		table := &tableEncoder{look: TableOptions{Width: 1 + random.IntN(300)}, widths: slices.Clone(widths)}
		want := slices.Clone(widths)
		for {
			total := 2 * (len(want) - 1)
			for _, w := range want {
				total += w
			}
			widest := slices.Index(want, slices.Max(want))
			if total <= table.look.Width || want[widest] <= minCell {
				break
			}
			want[widest]--
		}
		table.fit()
		if diff := cmp.Diff(want, table.widths); diff != "" {
			t.Fatalf("%v in %d characters (-want +got):\n%s", widths, table.look.Width, diff)
		}
	}
}

// TestFitManyColumns fits as many columns as a CSV file may have. The deadline is far
// beyond what a linear fit needs.
func TestFitManyColumns(t *testing.T) {
	table := &tableEncoder{look: TableOptions{Width: 80}, widths: slices.Repeat([]int{maxCell}, 100_000)}
	done := make(chan struct{})
	go func() {
		table.fit()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it did not end: is its cost quadratic in columns?")
	}
	if got := slices.Max(table.widths); got != minCell {
		t.Errorf("a column has %d characters, want %d", got, minCell)
	}
}
