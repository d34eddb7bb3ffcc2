// Command bare is command app without the call of process.Main: it reads a table of
// the directory that it is given, from a process of its own.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

var linked = map[string]sources.Open{"csv": csv.Open}

var walls = []wall.Wall{process.Wall()}

func main() {
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: host.Process})
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
