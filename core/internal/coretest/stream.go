// Package coretest has the sources, readers and reference results that the tests
// of the engine's packages share. Only tests may import it.
package coretest

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"go.uber.org/goleak"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// NewBudget returns a budget of 64 MiB, to be the parent of the budgets of streams.
// When the test ends, it fails if the budget still holds memory or if a goroutine
// that started after this call still runs.
func NewBudget(t *testing.T) *budget.Budget {
	t.Helper()
	before := goleak.IgnoreCurrent()
	b, err := budget.New("test", 64<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if held := b.Held(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
		goleak.VerifyNone(t, before)
	})
	return b
}

// Open opens a stream with the test's context and closes it when the test ends. An
// error of either fails the test. Unless o sets FlushAfter, where chunks end does not
// depend on time.
func Open(t *testing.T, source sources.Source, q core.Query, o core.Options, r core.Resources) *core.Stream {
	t.Helper()
	if o.FlushAfter == 0 {
		o.FlushAfter = -1
	}
	stream, err := core.Open(t.Context(), source, q, o, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stream.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return stream
}

// IDs reads a stream to its end and returns the values of its first column, an
// int64, and its error.
func IDs(stream *core.Stream) (got []int64, err error) {
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return got, err
		}
		got = append(got, RecordIDs(chunk.Record)...)
	}
	return got, nil
}

// RecordIDs returns the values of the first column of a record, an int64. They
// belong to the record.
func RecordIDs(r arrow.RecordBatch) []int64 { return r.Column(0).(*array.Int64).Int64Values() }

// IDRange returns the integers of the half-open range [from, to).
func IDRange(from, to int64) (all []int64) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// SmallMemory returns o with a memory limit of 512 KiB, which makes pages of a few
// hundred rows. Unless o sets FlushAfter, where chunks end does not depend on time.
func SmallMemory(o core.Options) core.Options {
	o.Memory = 512 << 10
	if o.FlushAfter == 0 {
		o.FlushAfter = -1
	}
	return o
}
