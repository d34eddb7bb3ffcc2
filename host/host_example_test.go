package host_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync/atomic"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/host"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wall"
)

// An application links in the sources that it needs, and reads a table in chunks
// within a memory limit. An error ends the loop.
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

// A source that runs in a process of its own cannot harm the application. The
// process is a copy of the program, so main begins with
//
//	process.Main(linked, walls...)
//
// This example relies on TestMain for that.
func Example_process() {
	linked := map[string]sources.Open{"csv": csv.Open}
	walls := []wall.Wall{process.Wall()}

	ctx := context.Background()
	h, err := host.New(host.Options{
		Sources:   linked,
		Walls:     walls,
		Isolation: host.Process,
		Sandboxes: host.SandboxOptions{Memory: 256 << 20},
	})
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
	for _, sandbox := range shop.Sandboxes() {
		fmt.Println(sandbox.Source, "runs in another process:", sandbox.Pid != os.Getpid())
	}
	// Output:
	// [19.9 5 (null)]
	// csv runs in another process: true
}

// A source that needs a wall does not open without it. The error says what to
// import and what to write.
func ExampleHost_Open_missingWall() {
	h, err := host.New(host.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	_, err = h.Open(context.Background(), "plugin:./penstock-source-files")
	fmt.Println(err)
	// Output:
	// open: invalid: this needs the process wall: import github.com/penstock-data/penstock/host/process and put process.Wall() into host.Options.Walls
}

// readOrders reads the orders of testdata/shop.
func readOrders(h *host.Host) error {
	ctx := context.Background()
	shop, err := h.Open(ctx, "csv:testdata/shop")
	if err != nil {
		return err
	}
	orders, err := shop.Stream(ctx, core.Query{Table: "orders"}, core.Options{Name: "export"})
	if err != nil {
		return err
	}
	for _, err := range orders.Chunks() {
		if err != nil {
			return err
		}
	}
	return nil
}

// Observe calls a function for each event, on the goroutine where it happens.
func ExampleHost_Observe() {
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"csv": csv.Open}})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	var rows atomic.Int64
	remove := h.Observe(func(e host.Event) {
		if e.Kind == host.EventChunk {
			rows.Add(e.Rows)
		}
	})
	defer remove()
	if err := readOrders(h); err != nil {
		log.Fatal(err)
	}
	fmt.Println(rows.Load(), "rows")
	// Output: 3 rows
}

// Subscribe delivers events on a channel, and drops those that do not fit into its
// buffer.
func ExampleHost_Subscribe() {
	h, err := host.New(host.Options{Sources: map[string]sources.Open{"csv": csv.Open}})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	subscription := h.Subscribe(100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range subscription.Events {
			switch e.Kind {
			case host.EventOpened:
				fmt.Println(e.Stream, "reads", e.Table, "of", e.Source)
			case host.EventEnded:
				fmt.Println(e.Stream, e.Status, "with", e.Receipt.Rows, "rows")
			}
		}
	}()
	if err := readOrders(h); err != nil {
		log.Fatal(err)
	}
	subscription.Close()
	<-done
	fmt.Println(subscription.Dropped(), "events dropped")
	// Output:
	// export reads orders of csv
	// export completed with 3 rows
	// 0 events dropped
}
