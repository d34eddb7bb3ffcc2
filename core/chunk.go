package core

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/sources"
)

// Chunk is what a stream yields.
type Chunk struct {
	// Record has the chunk's rows under [Stream.Schema]: at least one row. It
	// belongs to the stream and is valid in its iteration of the loop: Retain it
	// to keep it longer, and Release it then. Its bytes are the stream's until
	// they are released.
	Record arrow.RecordBatch
	// Token is the place behind this chunk, for [Query.After]. It is empty unless
	// [Options.Tokens] is set, and where the table has neither cursors nor an order
	// of its own to find the place again.
	Token Token

	related *relation.Columns
}

// Related returns the column of a relation of the stream's table, for the whole
// chunk. It serves optional relations, and any other that the table has. The
// column includes what the query loads below the relation, required or optional.
// Related loads the relation on first use unless it came with the chunk, which
// affects only the time it takes.
//
// The column has one value for each row of Record: a nullable struct, or a list
// of structs. It belongs to the chunk and is valid in its iteration of the loop;
// call Retain to keep it longer, and Release then. Related is safe for concurrent
// use within the iteration.
//
// A relation that does not exist is an error of kind [sources.NotFound]. One that
// does not fit in memory is [sources.Exhausted] and leaves the chunk as it is.
func (c *Chunk) Related(ctx context.Context, name string) (arrow.Array, error) {
	return c.related.Column(ctx, name)
}

// rechunk makes chunks of pages, as large as the governor says. A chunk that lies
// within one page is a slice of it, without a copy; one that spans several is
// copied together, or where there is no room for the copy given in pieces. What
// came before an error is given before it. A chunk has no cursor: it may end
// within a page.
func rechunk(pages sources.Batches, schema *arrow.Schema, mem memory.Allocator, g *budget.Backpressure, l *budget.Accounts) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		c := rechunker{schema: schema, mem: mem, yield: yield, pressure: g, accounts: l}
		defer c.drop()
		for page, err := range pages {
			if err != nil {
				if c.rows == 0 || c.emit() {
					yield(sources.Batch{}, err)
				}
				return
			}
			if !c.page(page) {
				return
			}
		}
		if c.rows > 0 || c.chunks == 0 {
			c.emit()
		}
	}
}

type rechunker struct {
	schema   *arrow.Schema
	mem      memory.Allocator
	yield    func(sources.Batch, error) bool
	pressure *budget.Backpressure
	accounts *budget.Accounts

	parts  []chunkPart // of the next chunk
	rows   int64       // in parts
	bytes  int64       // in parts
	chunks int64       // yielded
}

// chunkPart is a slice of a page, which it keeps.
type chunkPart struct {
	arrow.RecordBatch
	counted func()
}

// page deals out one page, and reports whether the loop goes on.
func (c *rechunker) page(page sources.Batch) bool {
	total := page.Record.NumRows()
	for from := int64(0); from < total; {
		mostRows, mostBytes := c.pressure.NextChunk()
		if c.rows >= mostRows { // the size has shrunk since
			if !c.emit() {
				return false
			}
			continue
		}
		to := min(total, from+mostRows-c.rows)
		slice := page.Record.NewSlice(from, to)
		bytes := sources.Size(slice)
		if c.rows > 0 && c.bytes+bytes > mostBytes {
			slice.Release()
			if !c.emit() {
				return false
			}
			continue
		}
		c.parts = append(c.parts, chunkPart{slice, c.accounts.Hold(budget.Page, slice)})
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
func (c *rechunker) emit() bool {
	if len(c.parts) < 2 {
		return c.give(c.parts)
	}
	// The refusal is one of the budget's, and leaves nothing behind.
	joined, err := sources.GuardCall("", "", func() (arrow.RecordBatch, error) { return c.join(c.parts), nil })
	if sources.KindOf(err) == sources.Exhausted {
		c.pressure.SetLevel(budget.Degraded, "chunks cannot be copied together: "+budget.RefusalText(err))
		for len(c.parts) > 0 {
			if !c.give(c.parts[:1]) {
				return false
			}
		}
		return true
	}
	if err != nil {
		c.yield(sources.Batch{}, err)
		return false
	}
	defer joined.Release()
	return c.pass(joined, c.parts)
}

// give yields one part, or no rows where there is none.
func (c *rechunker) give(parts []chunkPart) bool {
	if len(parts) == 0 {
		record := rows.Empty(c.schema)
		defer record.Release()
		return c.pass(record, nil)
	}
	record := parts[0].RecordBatch
	record.Retain()
	defer record.Release()
	return c.pass(record, parts)
}

// pass yields a chunk that was made of the first parts, which are gone then.
func (c *rechunker) pass(record arrow.RecordBatch, parts []chunkPart) bool {
	for _, p := range parts {
		p.drop()
	}
	c.parts = append(c.parts[:0], c.parts[len(parts):]...)
	c.rows, c.bytes = 0, 0
	for _, p := range c.parts {
		c.rows += p.NumRows()
		c.bytes += sources.Size(p)
	}
	c.chunks++
	c.pressure.ChunkEmitted(record.NumRows(), sources.Size(record))
	return c.yield(sources.Batch{Record: record}, nil)
}

// join copies parts together.
func (c *rechunker) join(parts []chunkPart) arrow.RecordBatch {
	records := make([]arrow.RecordBatch, len(parts))
	for i, p := range parts {
		records[i] = p.RecordBatch
	}
	return rows.Concat(c.mem, c.schema, records)
}

func (p chunkPart) drop() {
	p.counted()
	p.Release()
}

func (c *rechunker) drop() {
	for _, p := range c.parts {
		p.drop()
	}
	c.parts = nil
}
