// Command inproc embeds Penstock with one linked source and no wall: it prints the
// number of orders in the directory that it is given. Tests measure its size.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

func main() {
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"csv": csv.Open}})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	shop, err := h.Open(context.Background(), "csv:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	orders, err := shop.Stream(context.Background(), core.Query{Table: "orders"}, core.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for chunk, err := range orders.Chunks() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(chunk.Record.NumRows(), "orders")
	}
}
