package budget_test

import (
	"fmt"
	"log"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// A budget is an Arrow allocator with a limit. As Arrow's allocators cannot return an
// error, it refuses memory by a panic, which GuardCall turns into an error.
func ExampleBudget() {
	b, err := budget.New("report", 64<<10, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	numbers := func(n int) (arrow.Array, error) {
		return sources.GuardCall("build", "", func() (arrow.Array, error) {
			builder := array.NewInt64Builder(b)
			defer builder.Release()
			for i := range n {
				builder.Append(int64(i))
			}
			return builder.NewArray(), nil
		})
	}

	small, err := numbers(1000)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(small.Len(), "numbers in", budget.FormatBytes(b.Live()))
	small.Release()

	_, err = numbers(1_000_000)
	fmt.Println(err)
	fmt.Println(b.Live(), "bytes in use, at most", budget.FormatBytes(b.Peak()))
	// Output:
	// 1000 numbers in 8.1 KiB
	// build: exhausted: report holds 33.0 KiB of its 64.0 KiB and needs 64.0 KiB more
	// 0 bytes in use, at most 55.9 KiB
}
