package main

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrowRows writes an Arrow IPC stream: the streaming format, which a reader
// can begin before it ends, with one message for each chunk.
type arrowRows struct{ *ipc.Writer }

func newArrow(w io.Writer, schema *arrow.Schema, mem memory.Allocator) arrowRows {
	return arrowRows{ipc.NewWriter(noClose{w}, ipc.WithSchema(schema), ipc.WithDictionaryDeltas(false), ipc.WithAllocator(mem))}
}

func (a arrowRows) Write(record arrow.RecordBatch) error { return a.Writer.Write(record) }

// Close ends the stream; an empty one still has its schema.
func (a arrowRows) Close() error { return a.Writer.Close() }

// noClose keeps the ipc writer from closing what is below it.
type noClose struct{ io.Writer }
