// Command walls reads every table of the CSV directories that it is given, through
// WebAssembly modules on $PENSTOCK_PLUGIN_PATH. It tests the first directory's source
// with testkit and writes the receipts as JSON. Tests build it without the race
// detector, with which loading a module takes seconds, and compiling it minutes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
	"github.com/penstock-data/penstock/testkit"
	"github.com/penstock-data/penstock/wasm"
)

var linked = map[string]sources.Open{"csv": csv.Open}

var walls = []wall.Wall{process.Wall(), wasm.Wall()}

func main() {
	process.Main(linked, walls...)
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	h, err := host.New(host.Options{Sources: linked, Walls: walls, Isolation: host.Module})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	receipts := map[string]core.Receipt{}
	for i, uri := range os.Args[1:] {
		source, err := h.Open(ctx, uri)
		if err != nil {
			return err
		}
		if err := read(ctx, source, receipts); err != nil {
			return err
		}
		if i == 0 {
			if err := testkit.TestSource(ctx, source); err != nil {
				return err
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(receipts)
}

func read(ctx context.Context, source *host.Source, receipts map[string]core.Receipt) error {
	catalog, err := source.Catalog(ctx)
	if err != nil {
		return err
	}
	for _, table := range catalog.Tables {
		stream, err := source.Stream(ctx, core.Query{Table: table.Name}, core.Options{Memory: 8 << 20})
		if err != nil {
			return err
		}
		for _, err := range stream.Chunks() {
			if err != nil {
				return err
			}
		}
		receipts[table.Name] = stream.Receipt()
	}
	return nil
}
