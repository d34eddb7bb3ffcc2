// Command plugin serves the CSV source to a host, as a process or, built for wasip1, as a
// WebAssembly module.
package main

import (
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources/serve"
)

func main() { serve.Serve(csv.Open) }
