// Command plugin serves the CSV source to a host: as a process, or as a module where
// it is built for wasip1.
package main

import (
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources/serve"
)

func main() { serve.Serve(csv.Open) }
