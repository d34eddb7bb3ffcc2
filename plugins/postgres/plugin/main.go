// Command plugin serves the PostgreSQL source to a host.
package main

import (
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources/serve"
)

func main() { serve.Serve(postgres.Open) }
