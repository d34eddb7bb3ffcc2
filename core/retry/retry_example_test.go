package retry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// The connection to this source breaks after every page. The stream tries again, and
// resumes after the last page that arrived, so that each row is delivered once.
func ExamplePolicy() {
	source, err := testkit.Shop{Seed: 1, Orders: 1000}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	reset := sources.Errorf(sources.Unavailable, "scan", "orders", "connection reset")
	flaky := testkit.FailAfter(source, 1, reset)
	options := core.Options{
		Memory: 1 << 20, // which makes pages small: 32 KiB
		Retry:  retry.Policy{MaxRetries: 5, InitialBackoff: time.Millisecond, Jitter: -1},
	}
	ctx, q := context.Background(), core.Query{Table: "orders"}
	stream, err := core.Open(ctx, flaky, q, options, core.Resources{})
	if err != nil {
		log.Fatal(err)
	}
	for _, err := range stream.Chunks() {
		if err != nil {
			log.Fatal(err)
		}
	}
	receipt := stream.Receipt()
	for _, fault := range receipt.Faults {
		fmt.Printf("%s; retried after %s\n", fault.Text, fault.Wait)
	}
	fmt.Println(receipt.Rows, "rows, complete:", receipt.Complete)
	// Output:
	// scan orders: unavailable: connection reset; retried after 1ms
	// scan orders: unavailable: connection reset; retried after 1ms
	// 1000 rows, complete: true
}

// Streams share a breaker through their Resources. After two failures in a row it
// opens its circuit, and the third stream does not reach the source.
func ExampleBreaker() {
	source, err := testkit.Shop{Seed: 1, Orders: 10}.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()
	refused := sources.Errorf(sources.Unavailable, "scan", "orders", "connection refused")
	down := testkit.FailAfter(source, 0, refused)
	breaker := retry.NewBreaker(retry.BreakerOptions{Failures: 2, Cooldown: time.Minute})

	ctx, q := context.Background(), core.Query{Table: "orders"}
	for range 3 {
		options := core.Options{Retry: retry.Policy{MaxRetries: -1}}
		stream, err := core.Open(ctx, down, q, options, core.Resources{Breaker: breaker})
		if err == nil {
			for _, err = range stream.Chunks() { // no chunks come, only the error
			}
		}
		state, _ := breaker.State()
		fmt.Println("source reached:", !errors.As(err, new(*retry.Tripped)), "circuit:", state)
	}
	// Output:
	// source reached: true circuit: closed
	// source reached: true circuit: open
	// source reached: false circuit: open
}
