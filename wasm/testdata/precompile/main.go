// Command precompile fills a cache with the modules that the tests run. It is a
// program of its own because the race detector, which the tests may have, slows
// the compiler by ten.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/penstock-data/penstock/wasm"
)

func main() {
	for _, path := range os.Args[2:] {
		for _, interruptible := range []bool{false, true} {
			o := wasm.Options{Path: path, CacheDir: os.Args[1], Interruptible: interruptible}
			if err := wasm.Precompile(context.Background(), o); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}
