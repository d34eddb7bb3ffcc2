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

// Load adds the required relations to chunks. A chunk whose relations do not fit
// is given in several, down to one row; what does not fit then is an error of
// kind [sources.Exhausted] that names the row.
func (l *Loader) Load(chunks sources.Batches) sources.Batches {
	if len(l.tree.Nodes) == 0 {
		return chunks
	}
	return func(yield func(sources.Batch, error) bool) {
		p := pipeline{l: l, yield: yield}
		p.ctx, p.stop = context.WithCancel(l.ctx)
		defer l.free()
		defer p.end()
		for chunk, err := range chunks {
			if err == nil && chunk.Record.NumRows() > 0 {
				if !p.next(chunk.Record) {
					return
				}
				continue
			}
			switch {
			case !p.flush(): // what came before an error is given before it
				return
			case err != nil:
				yield(sources.Batch{}, err)
				return
			case !rows.YieldOwned(yield, rows.Empty(l.Schema), nil):
				return
			}
		}
		p.flush()
	}
}

// pipeline gives chunks, and may look up what the next one needs while the
// consumer has the one before. The goroutine for that lives within one call of
// next.
type pipeline struct {
	l       *Loader
	ctx     context.Context
	stop    func()
	yield   func(sources.Batch, error) bool
	pending *pendingChunk
}

// pendingChunk is a chunk that waits to be given, with its step where there is one.
type pendingChunk struct {
	record  arrow.RecordBatch
	step    *batch
	err     error // of its look-ups; nil also where they did not fit
	counted func()
}

// next takes a chunk and gives the one before, or this one too where it is not to
// wait. It reports whether the loop goes on.
func (p *pipeline) next(record arrow.RecordBatch) bool {
	l := p.l
	if !l.ahead || l.parents > 0 || l.pressure.Level() != budget.Normal {
		return p.flush() && l.chunk(p.ctx, record, 0, p.yield)
	}
	record.Retain()
	coming := &pendingChunk{record: record, counted: l.accounts.Hold(budget.Page, record)}
	if p.pending == nil {
		coming.prepare(p)
		p.pending = coming
		return true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		coming.prepare(p)
	}()
	more := false
	defer func() {
		if !more {
			p.stop()
		}
		<-done
		p.pending = coming
	}()
	more = p.give(func() {
		<-done
		coming.unload()
	})
	return more
}

// prepare looks up what the chunk needs. What does not fit now is tried again when
// the chunk is given.
func (c *pendingChunk) prepare(p *pipeline) {
	c.step, c.err = p.l.loadBatch(p.ctx, c.record, 0, int(c.record.NumRows()))
	if sources.KindOf(c.err) == sources.Exhausted {
		c.err = nil
	}
}

// unload makes room: the chunk will be loaded when it is given.
func (c *pendingChunk) unload() {
	if c.step != nil {
		c.step.Release()
		c.step = nil
	}
}

// flush gives the chunk that waits.
func (p *pipeline) flush() bool { return p.give(func() {}) }

// give gives the chunk that waits, if there is one. Where it does not fit, room
// is made before it is tried again.
func (p *pipeline) give(makeRoom func()) bool {
	c := p.pending
	if c == nil {
		return true
	}
	p.pending = nil
	defer c.record.Release()
	defer c.counted()
	if c.err != nil {
		p.yield(sources.Batch{}, c.err)
		return false
	}
	given := 0
	if s := c.step; s != nil {
		c.step = nil
		var more bool
		var err error
		if given, more, err = p.l.give(s, p.yield); !more || err == nil {
			return more
		}
	}
	if given == int(c.record.NumRows()) {
		return true
	}
	makeRoom()
	return p.l.chunk(p.ctx, c.record, given, p.yield)
}

// end gives back what was not given.
func (p *pipeline) end() {
	p.stop()
	if c := p.pending; c != nil {
		c.unload()
		c.counted()
		c.record.Release()
	}
}

// chunk gives one chunk from a row on, and reports whether the loop goes on.
func (l *Loader) chunk(ctx context.Context, chunk arrow.RecordBatch, from int, yield func(sources.Batch, error) bool) bool {
	total := int(chunk.NumRows())
	last := false // a single row did not fit before
	for from < total {
		rows := total - from
		if l.parents > 0 {
			rows = min(rows, l.parents)
		}
		given, more := 0, true
		s, err := l.loadBatch(ctx, chunk, from, rows)
		if err == nil {
			given, more, err = l.give(s, yield)
		}
		from += given
		last = last && given == 0
		switch {
		case !more:
			return false
		case err == nil:
			l.grow(total)
		case sources.KindOf(err) == sources.Exhausted && rows-given > 1:
			l.parents, l.calm = (rows-given)/2, 0
			l.pressure.SetLevel(budget.Degraded, fmt.Sprintf("the related rows of %d rows do not fit: %s", rows-given, budget.RefusalText(err)))
		case sources.KindOf(err) == sources.Exhausted && !last:
			// Somebody may give memory back.
			last = true
			l.free()
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

// stepsBeforeGrowth is how many steps must fit before a larger one is tried: one that
// does not fit is asked for in vain.
const stepsBeforeGrowth = 16

// grow lets the steps grow again.
func (l *Loader) grow(total int) {
	if l.parents == 0 {
		return
	}
	if l.calm++; l.calm < stepsBeforeGrowth {
		return
	}
	l.calm = 0
	if l.parents *= 2; l.parents >= total {
		l.parents = 0
	}
}

// free gives back what is only remembered.
func (l *Loader) free() {
	l.work.Lock()
	defer l.work.Unlock()
	l.cache.shed()
}

// rowError says whose related rows do not fit.
func (l *Loader) rowError(err error, chunk arrow.RecordBatch, row int) error {
	if sources.KindOf(err) != sources.Exhausted {
		return err
	}
	var key []string
	var values []arrow.Array
	for _, column := range l.tree.root.Key {
		if at := chunk.Schema().FieldIndices(column); len(at) > 0 {
			key, values = append(key, column), append(values, chunk.Column(at[0]))
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
	return &sources.Error{Op: "load", Table: l.tree.root.Name, Kind: sources.Exhausted,
		Err: fmt.Errorf("the related rows of %s do not fit: %w; give it more memory, or load fewer columns or relations, or a limit of them", which, err)}
}
