package relation

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// Load adds the required relations to chunks. If the related rows of a chunk do
// not fit in memory, it yields several smaller chunks, down to one row. If those
// of one row do not fit, the error is of kind [sources.Exhausted] and names the
// row.
func (l *Loader) Load(chunks sources.Batches) sources.Batches {
	if len(l.tree.nodes) == 0 {
		return chunks
	}
	return func(yield func(sources.Batch, error) bool) {
		p := pipeline{loader: l, yield: yield}
		p.ctx, p.stop = context.WithCancel(l.ctx)
		defer l.releaseCache()
		defer p.end()
		for chunk, err := range chunks {
			if err == nil && chunk.Record.NumRows() > 0 {
				if !p.next(chunk.Record, chunk.Due) {
					return
				}
				continue
			}
			switch {
			case !p.flush(): // before an error, yield the rows that preceded it
				return
			case err != nil:
				yield(sources.Batch{}, err)
				return
			case !rows.YieldOwned(yield, sources.Batch{Record: rows.Empty(l.Schema)}):
				return
			}
		}
		p.flush()
	}
}

// pipeline yields chunks, and may look up the relations of the next one while the
// consumer has the current one. The goroutine that does so lives within one call
// of next.
type pipeline struct {
	loader  *Loader
	ctx     context.Context
	stop    func()
	yield   func(sources.Batch, error) bool
	pending *pendingChunk
}

// pendingChunk is a chunk to yield later, with its batch if it is loaded.
type pendingChunk struct {
	record  arrow.RecordBatch
	batch   *batch
	err     error  // of its look-ups; nil also if they did not fit
	endHold func() // ends the charge of record
}

// next takes a chunk. It yields the pending one, and also this one unless it
// becomes the pending one. A chunk that is due does not wait for the next one. It
// reports whether the consumer wants more.
func (p *pipeline) next(record arrow.RecordBatch, due bool) bool {
	l := p.loader
	if due || !l.readAhead || l.batchRows > 0 || l.pressure.Level() != budget.Normal {
		return p.flush() && l.yieldChunk(p.ctx, record, 0, p.yield)
	}
	record.Retain()
	current := &pendingChunk{record: record, endHold: l.accounts.Hold(budget.Page, record)}
	if p.pending == nil {
		current.prepare(p)
		p.pending = current
		return true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		current.prepare(p)
	}()
	wantsMore := false
	defer func() {
		if !wantsMore {
			p.stop()
		}
		<-done
		p.pending = current
	}()
	wantsMore = p.yieldPending(func() {
		<-done
		current.discard()
	})
	return wantsMore
}

// prepare loads the chunk's relations. If they do not fit in memory, they are
// loaded when the chunk is yielded.
func (c *pendingChunk) prepare(p *pipeline) {
	c.batch, c.err = p.loader.loadBatch(p.ctx, c.record, 0, int(c.record.NumRows()))
	if sources.KindOf(c.err) == sources.Exhausted {
		c.err = nil
	}
}

// discard releases the batch to make room. It is loaded again when the chunk is
// yielded.
func (c *pendingChunk) discard() {
	if c.batch != nil {
		c.batch.Release()
		c.batch = nil
	}
}

// flush yields the pending chunk, if any, and reports whether the consumer wants
// more.
func (p *pipeline) flush() bool { return p.yieldPending(func() {}) }

// yieldPending yields the pending chunk, if any. If it does not fit in memory, it
// calls makeRoom and tries again. It reports whether the consumer wants more.
func (p *pipeline) yieldPending(makeRoom func()) bool {
	c := p.pending
	if c == nil {
		return true
	}
	p.pending = nil
	defer c.record.Release()
	defer c.endHold()
	if c.err != nil {
		p.yield(sources.Batch{}, c.err)
		return false
	}
	yielded := 0
	if b := c.batch; b != nil {
		c.batch = nil
		var wantsMore bool
		var err error
		if yielded, wantsMore, err = p.loader.yieldBatch(b, p.yield); !wantsMore || err == nil {
			return wantsMore
		}
	}
	if yielded == int(c.record.NumRows()) {
		return true
	}
	makeRoom()
	return p.loader.yieldChunk(p.ctx, c.record, yielded, p.yield)
}

// end stops a running look-up and releases the pending chunk.
func (p *pipeline) end() {
	p.stop()
	if c := p.pending; c != nil {
		c.discard()
		c.endHold()
		c.record.Release()
	}
}

// yieldChunk yields the rows of a chunk from a row on, and reports whether the
// consumer wants more.
func (l *Loader) yieldChunk(ctx context.Context, chunk arrow.RecordBatch, from int, yield func(sources.Batch, error) bool) bool {
	total := int(chunk.NumRows())
	waited := false // a single row did not fit, and memory was waited for
	for from < total {
		rows := total - from
		if l.batchRows > 0 {
			rows = min(rows, l.batchRows)
		}
		yielded, wantsMore := 0, true
		b, err := l.loadBatch(ctx, chunk, from, rows)
		if err == nil {
			yielded, wantsMore, err = l.yieldBatch(b, yield)
		}
		from += yielded
		waited = waited && yielded == 0
		switch {
		case !wantsMore:
			return false
		case err == nil:
			l.grow(total)
		case sources.KindOf(err) == sources.Exhausted && rows-yielded > 1:
			l.batchRows, l.fitted = (rows-yielded)/2, 0
			l.pressure.SetLevel(budget.Degraded, fmt.Sprintf("the related rows of %d rows do not fit in memory: %s", rows-yielded, budget.RefusalText(err)))
		case sources.KindOf(err) == sources.Exhausted && !waited:
			// Wait for others to release memory.
			waited = true
			l.releaseCache()
			if err := l.pressure.Admit(ctx); err != nil {
				yield(sources.Batch{}, err)
				return false
			}
		default:
			yield(sources.Batch{}, l.rowError(err, chunk, from))
			return false
		}
	}
	return true
}

// batchesBeforeGrowth is how many batches must fit before a larger one is tried.
// One that does not fit is fetched in vain.
const batchesBeforeGrowth = 16

// grow doubles the size of batches after enough of them have fitted.
func (l *Loader) grow(total int) {
	if l.batchRows == 0 {
		return
	}
	if l.fitted++; l.fitted < batchesBeforeGrowth {
		return
	}
	l.fitted = 0
	if l.batchRows *= 2; l.batchRows >= total {
		l.batchRows = 0
	}
}

// releaseCache releases the loader's cached rows.
func (l *Loader) releaseCache() {
	l.lookups.Lock()
	defer l.lookups.Unlock()
	l.cache.evict()
}

// rowError adds to an error of kind [sources.Exhausted] the row whose related rows
// do not fit, and a remedy.
func (l *Loader) rowError(err error, chunk arrow.RecordBatch, row int) error {
	if sources.KindOf(err) != sources.Exhausted {
		return err
	}
	var key []arrow.Field
	var values []arrow.Array
	for _, column := range l.tree.root.Key {
		if indexes := chunk.Schema().FieldIndices(column); len(indexes) > 0 {
			key, values = append(key, chunk.Schema().Field(indexes[0])), append(values, chunk.Column(indexes[0]))
		}
	}
	var refusal *budget.Refusal
	if errors.As(err, &refusal) {
		err = refusal
	}
	which := "one row"
	if len(key) > 0 {
		which = "the row with " + describeColumns(key, values, row)
	}
	return sources.Errorf(sources.Exhausted, "load", l.tree.root.Name, "the related rows of %s do not fit in memory: %w; raise the memory limit, load fewer columns or relations, or limit the related rows", which, err)
}
