package testkit_test

import (
	"context"
	"fmt"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// open stands for the Open function of the source under test.
func open(context.Context, sources.Config) (sources.Source, error) {
	return testkit.Shop{Seed: 1, Orders: 10}.Memory()
}

// This is the whole test of a source, where open is its Open function:
//
//	func TestContract(t *testing.T) {
//		source, err := open(t.Context(), sources.Config{URI: "testdata"})
//		if err != nil {
//			t.Fatal(err)
//		}
//		defer source.Close()
//		if err := testkit.TestSource(t.Context(), source); err != nil {
//			t.Error(err)
//		}
//	}
//
// TestSource also runs outside of tests, as here.
func ExampleTestSource() {
	source, err := open(context.Background(), sources.Config{URI: "testdata"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()
	fmt.Println("broken rules:", testkit.TestSource(context.Background(), source))
	// Output: broken rules: <nil>
}

// This source declares that its scans can resume, but its batches have no cursors.
// Check reports every rule and table, and so also the rules that this breaks.
func ExampleTestSource_broken() {
	source, err := testkit.Shop{Seed: 1, Orders: 10}.Memory()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()
	forgetful := testkit.Wrap(source, func(_ context.Context, _ sources.Env, _ *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			for batch, err := range scan {
				batch.Cursor = nil
				if !yield(batch, err) {
					return
				}
			}
		}
	})
	_ = testkit.Check(context.Background(), forgetful, func(r testkit.Result) {
		if r.Table == "tags" && r.Err != nil {
			fmt.Println(r.Rule)
		}
	})
	// Output:
	// cursor
	// empty
}
