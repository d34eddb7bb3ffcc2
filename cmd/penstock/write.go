package main

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// rowWriter writes the chunks of one stream in one format. Its methods are
// called by one goroutine: Write for each chunk in order, then Close. A record
// is used only within its Write.
type rowWriter interface {
	Write(record arrow.RecordBatch) error
	Close() error // writes what is held back; it does not close what is below
}

// rowFormat makes the writer of a format.
type rowFormat func(format string, w io.Writer, schema *arrow.Schema, mem memory.Allocator, look tableLook) (rowWriter, error)

// newRowWriter returns the writer of a format for rows of a schema. What it
// copies of them comes from mem.
func newRowWriter(format string, w io.Writer, schema *arrow.Schema, mem memory.Allocator, look tableLook) (rowWriter, error) {
	switch format {
	case "ndjson":
		return newNDJSON(w, schema), nil
	case "csv":
		return newCSV(w, schema)
	case "arrow":
		return newArrow(w, schema, mem), nil
	case "table":
		return newTable(w, schema, look), nil
	}
	return nil, usagef("there is no format %q: it is one of table, ndjson, csv and arrow", format)
}

// flushBytes is how much text a writer gathers before it hands it on.
const flushBytes = 64 << 10
