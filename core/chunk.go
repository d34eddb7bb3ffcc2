package core

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// Chunk is what a stream yields.
type Chunk struct {
	// Record has the chunk's rows under [Stream.Schema]: at least one row. It
	// belongs to the stream and is valid in its iteration of the loop: Retain it
	// to keep it longer, and Release it then. Its bytes are the stream's until
	// they are released.
	Record arrow.RecordBatch
}

// cut makes chunks of pages. A chunk that lies within one page is a slice of
// it, without a copy; one that spans several is copied together. What came
// before an error is given before it. A chunk has no cursor: it may end within
// a page.
func cut(pages sources.Batches, schema *arrow.Schema, mem memory.Allocator, size *chunkSize) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		c := cutter{schema: schema, mem: mem, yield: yield}
		defer c.drop()
		for page, err := range pages {
			if err != nil {
				if c.rows == 0 || c.emit() {
					yield(sources.Batch{}, err)
				}
				return
			}
			if !c.page(page, size) {
				return
			}
		}
		if c.rows > 0 || c.chunks == 0 {
			c.emit()
		}
	}
}

type cutter struct {
	schema *arrow.Schema
	mem    memory.Allocator
	yield  func(sources.Batch, error) bool

	parts  []arrow.RecordBatch // of the next chunk
	rows   int64               // in parts
	bytes  int64               // in parts
	chunks int64               // yielded
}

// page deals out one page, and reports whether the loop goes on.
func (c *cutter) page(page sources.Batch, size *chunkSize) bool {
	total := page.Record.NumRows()
	for from := int64(0); from < total; {
		mostRows, mostBytes := size.next()
		if c.rows >= mostRows { // the size has shrunk since
			if !c.emit() {
				return false
			}
			continue
		}
		to := min(total, from+mostRows-c.rows)
		part := page.Record.NewSlice(from, to)
		bytes := sources.Size(part)
		if c.rows > 0 && c.bytes+bytes > mostBytes {
			part.Release()
			if !c.emit() {
				return false
			}
			continue
		}
		c.parts = append(c.parts, part)
		c.rows += to - from
		c.bytes += bytes
		from = to
		if c.rows >= mostRows && !c.emit() {
			return false
		}
	}
	return true
}

// emit yields what is held as one chunk, and reports whether the loop goes on.
func (c *cutter) emit() bool {
	record := c.join()
	defer record.Release()
	c.chunks++
	return c.yield(sources.Batch{Record: record}, nil)
}

// join makes one record of the parts, which are gone then.
func (c *cutter) join() arrow.RecordBatch {
	var record arrow.RecordBatch
	if len(c.parts) == 1 {
		record = c.parts[0]
		record.Retain()
	} else {
		record = concat(c.mem, c.schema, c.parts)
	}
	c.drop()
	return record
}

func (c *cutter) drop() {
	for i, part := range c.parts {
		part.Release()
		c.parts[i] = nil
	}
	c.parts, c.rows, c.bytes = c.parts[:0], 0, 0
}
