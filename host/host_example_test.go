package host_test

import (
	"context"
	"fmt"
	"log"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// An application links in the sources that it wants, and reads a table in
// chunks that never hold more than its limit. Errors end the loop.
func Example() {
	ctx := context.Background()
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"csv": csv.Open}})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	shop, err := h.Open(ctx, "csv:testdata/shop")
	if err != nil {
		log.Fatal(err)
	}
	orders, err := shop.Stream(ctx, core.Query{Table: "orders"}, core.Options{Memory: 64 << 20})
	if err != nil {
		log.Fatal(err)
	}
	for chunk, err := range orders.Chunks() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(chunk.Record.Column(2))
	}
	fmt.Println(orders.Receipt().Rows, "orders")
	// Output:
	// [19.9 5 (null)]
	// 3 orders
}
