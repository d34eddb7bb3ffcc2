// Command app embeds penstock: it reads a table of the directory that it is
// given, whose files it opens in a process of their own.
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

var linked = map[string]sources.Open{"csv": csv.Open}

func main() {
	host.Main(linked)
	h, err := host.New(host.Options{Sources: linked, Isolation: host.Process})
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
