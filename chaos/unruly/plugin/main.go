// Command plugin is the source unruly as an executable or a WebAssembly module.
package main

import (
	"github.com/penstock-data/penstock/chaos/unruly"
	"github.com/penstock-data/penstock/sources/serve"
)

func main() { serve.Serve(unruly.Open) }
