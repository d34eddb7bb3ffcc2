// Command precompile compiles a module into the user's cache, as an installer
// does: tests that run under the race detector would take a minute for it.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"github.com/penstock-data/penstock/wasm"
)

func main() {
	dir, err := os.UserCacheDir()
	if err != nil {
		log.Fatal(err)
	}
	if err := wasm.Precompile(context.Background(), wasm.Options{Path: os.Args[1], CacheDir: filepath.Join(dir, "penstock", "wasm")}); err != nil {
		log.Fatal(err)
	}
}
