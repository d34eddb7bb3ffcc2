package main

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
)

// ndjson writes one JSON object a line, with the columns in their order.
type ndjson struct {
	w      io.Writer
	keys   [][]byte // what stands before each value: a bracket or a comma, the name, a colon
	buffer []byte   // reused for every line
}

func newNDJSON(w io.Writer, schema *arrow.Schema) *ndjson {
	keys := jsonNames(schema.Fields())
	for i, key := range keys {
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		keys[i] = append([]byte{before}, key...)
	}
	return &ndjson{w: w, keys: keys, buffer: make([]byte, 0, flushBytes+4096)}
}

func (n *ndjson) Write(record arrow.RecordBatch) error {
	return n.writeCells(cellsOfAll(record), int(record.NumRows()))
}

func (n *ndjson) writeCells(columns []*cells, rows int) error {
	for row := range rows {
		if len(columns) == 0 {
			n.buffer = append(n.buffer, '{')
		}
		for i, c := range columns {
			n.buffer = c.json(append(n.buffer, n.keys[i]...), row)
		}
		n.buffer = append(n.buffer, '}', '\n')
		if len(n.buffer) >= flushBytes {
			if err := n.Close(); err != nil {
				return err
			}
		}
	}
	return n.Close()
}

func (n *ndjson) Close() error {
	if len(n.buffer) == 0 {
		return nil
	}
	_, err := n.w.Write(n.buffer)
	n.buffer = n.buffer[:0]
	return err
}
