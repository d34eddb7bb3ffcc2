package core

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/relation"
	"github.com/penstock-data/penstock/sources"
)

// Chunk is a run of consecutive rows that a stream yields.
type Chunk struct {
	// Record has the chunk's rows, at least one, with the schema [Stream.Schema]. It
	// belongs to the stream and is valid during its iteration of the loop. To keep it
	// longer, call Retain, and Release when done with it. A retained record counts
	// toward the stream's memory limit until it is released.
	Record arrow.RecordBatch
	// Token resumes the stream after this chunk, see [Query.After]. It is set only if
	// [Options.Tokens] or [Query.After] is, and if the table can resume a scan or repeat
	// it in the same order ([sources.CapResume] or [sources.CapStable]). Otherwise it is
	// empty.
	Token Token

	related *relation.Columns
}

// Related returns the column of a relation of the stream's table, for all rows of
// the chunk. The relation may be required, optional, or not part of the query at
// all. Its column includes the relations that the query loads below it, required or
// optional. If the relation was not loaded with the chunk, see [query.Strategy], the
// first call loads it.
//
// The column has one value for each row of Record: a nullable struct for a relation
// to one row, or else a list of structs. It belongs to the chunk and is valid during
// its iteration of the loop. To keep it longer, call Retain, and Release when done
// with it. Related is safe for concurrent use during the iteration; afterwards it
// returns an error of kind [sources.Invalid].
//
// If there is no such relation, the error is of kind [sources.NotFound]. If its rows
// do not fit in memory, the error is of kind [sources.Exhausted]. Other errors come
// from the source. After an error, the chunk's record can still be used.
func (c *Chunk) Related(ctx context.Context, name string) (arrow.Array, error) {
	return c.related.Column(ctx, name)
}

// rechunk divides pages into chunks of the size that pressure allows. A chunk within
// one page is a slice of that page, without a copy. A chunk that spans pages is a
// copy of their rows; if there is no room for the copy, the part of each page
// becomes a chunk. Rows that precede an error are yielded before it. Chunks have no
// cursors, since they may end within a page.
//
// A chunk that is not full ends, and is due, with a page that is due, or with the first
// page after it has been collected for flushAfter; if that is negative, only with
// the former.
func rechunk(pages sources.Batches, schema *arrow.Schema, flushAfter time.Duration, mem memory.Allocator, pressure *budget.Backpressure, accounts *budget.Accounts) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		c := rechunker{schema: schema, flushAfter: flushAfter, mem: mem, yield: yield, pressure: pressure, accounts: accounts}
		defer c.release()
		for page, err := range pages {
			if err != nil {
				if c.rows == 0 || c.emit(false) {
					yield(sources.Batch{}, err)
				}
				return
			}
			if !c.addPage(page) {
				return
			}
		}
		if c.rows > 0 || c.chunks == 0 {
			c.emit(false)
		}
	}
}

// rechunker collects the parts of the next chunk.
type rechunker struct {
	schema     *arrow.Schema
	flushAfter time.Duration
	mem        memory.Allocator
	yield      func(sources.Batch, error) bool
	pressure   *budget.Backpressure
	accounts   *budget.Accounts

	parts  []chunkPart // of the next chunk
	rows   int64       // rows in parts
	bytes  int64       // size of parts, in bytes
	since  time.Time   // when the first of parts came
	chunks int64       // chunks yielded so far
}

// chunkPart is a slice of a page, with a reference of its own.
type chunkPart struct {
	arrow.RecordBatch
	endHold func() // removes the slice from the account of pages
}

// addPage adds a page to the next chunk, yields the chunks that it completes, and
// reports whether the consumer wants more.
func (c *rechunker) addPage(page sources.Batch) bool {
	total := page.Record.NumRows()
	for from := int64(0); from < total; {
		maxRows, maxBytes := c.pressure.NextChunk()
		if c.rows >= maxRows { // the allowed size has shrunk
			if !c.emit(false) {
				return false
			}
			continue
		}
		to := min(total, from+maxRows-c.rows)
		slice := page.Record
		if from > 0 || to < total {
			slice = slice.NewSlice(from, to)
		} else {
			slice.Retain()
		}
		bytes := sources.Size(slice)
		if c.rows > 0 && c.bytes+bytes > maxBytes {
			slice.Release()
			if !c.emit(false) {
				return false
			}
			continue
		}
		if len(c.parts) == 0 {
			c.since = time.Now()
		}
		c.parts = append(c.parts, chunkPart{slice, c.accounts.Hold(budget.Page, slice)})
		c.rows += to - from
		c.bytes += bytes
		from = to
		if c.rows >= maxRows && !c.emit(false) {
			return false
		}
	}
	if c.rows > 0 && (page.Due || c.flushAfter >= 0 && time.Since(c.since) >= c.flushAfter) {
		return c.emit(true)
	}
	return true
}

// emit yields the collected parts as one chunk if memory allows, and reports whether
// the consumer wants more. due tells that the chunk is not full.
func (c *rechunker) emit(due bool) bool {
	if len(c.parts) < 2 {
		return c.emitPart(c.parts, due)
	}
	// If the budget refuses memory for the copy, Call returns that as an error.
	joined, err := sources.GuardCall("", "", func() (arrow.RecordBatch, error) { return c.concat(c.parts), nil })
	if sources.KindOf(err) == sources.Exhausted {
		c.pressure.SetLevel(budget.Degraded, "no memory to join pages into a chunk: "+budget.RefusalText(err))
		for len(c.parts) > 0 {
			if !c.emitPart(c.parts[:1], due) {
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
	return c.emitRecord(joined, c.parts, due)
}

// emitPart yields a part as a chunk, or a chunk without rows if parts is empty. It
// takes at most one part.
func (c *rechunker) emitPart(parts []chunkPart, due bool) bool {
	if len(parts) == 0 {
		record := rows.Empty(c.schema)
		defer record.Release()
		return c.emitRecord(record, nil, due)
	}
	record := parts[0].RecordBatch
	record.Retain()
	defer record.Release()
	return c.emitRecord(record, parts, due)
}

// emitRecord yields the chunk that was made of parts, the first ones of c.parts,
// after releasing them.
func (c *rechunker) emitRecord(record arrow.RecordBatch, parts []chunkPart, due bool) bool {
	for _, p := range parts {
		p.release()
	}
	c.parts = append(c.parts[:0], c.parts[len(parts):]...)
	c.rows, c.bytes = 0, 0
	for _, p := range c.parts {
		c.rows += p.NumRows()
		c.bytes += sources.Size(p)
	}
	c.chunks++
	c.pressure.ChunkEmitted(record.NumRows(), sources.Size(record))
	return c.yield(sources.Batch{Record: record, Due: due}, nil)
}

// concat returns one record with the rows of all parts.
func (c *rechunker) concat(parts []chunkPart) arrow.RecordBatch {
	records := make([]arrow.RecordBatch, len(parts))
	for i, p := range parts {
		records[i] = p.RecordBatch
	}
	return rows.Concat(c.mem, c.schema, records)
}

// release releases the slice and ends its account.
func (p chunkPart) release() {
	p.endHold()
	p.Release()
}

// release releases the parts that were not yielded.
func (c *rechunker) release() {
	for _, p := range c.parts {
		p.release()
	}
	c.parts = nil
}
