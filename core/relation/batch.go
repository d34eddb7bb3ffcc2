package relation

import (
	"context"
	"errors"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// batch is a range of a chunk's rows with the relations loaded for them. It owns
// all of that, and lives until the consumer is done with its last chunk.
type batch struct {
	*rows.Arena
	loader  *Loader
	record  arrow.RecordBatch // the rows, including the columns that only relations need
	root    rows.Set          // the rows of record
	fetched int64             // bytes of related rows, as [sources.Size] counts
	loaded  map[*node]*loadedRelation

	from, to int // the rows [from, to) that the consumer currently has
}

// newBatch returns a batch of n rows of a chunk, without relations. The caller
// releases it.
func (l *Loader) newBatch(chunk arrow.RecordBatch, from, n int) (b *batch, err error) {
	b = &batch{Arena: rows.NewArena(l.workMem), loader: l, loaded: map[*node]*loadedRelation{}}
	_, err = sources.GuardCall("load", l.tree.root.Name, func() (struct{}, error) {
		b.record = rows.Keep(b.Arena, chunk.NewSlice(int64(from), int64(from+n)))
		b.root = rows.Set{Records: []arrow.RecordBatch{b.record}, Refs: b.Refs(n)}
		for i := range b.root.Refs {
			b.root.Refs[i].Row = int32(i)
		}
		return struct{}{}, nil
	})
	if err != nil {
		b.Release()
	}
	return b, err
}

// limitChunkRows limits the rows of the next chunks so that their related rows fit
// a batch: those that do not fit would be fetched in vain.
func (l *Loader) limitChunkRows(rows int, fetched int64) {
	fit := int64(0)
	if fetched > 0 {
		fit = max(1, int64(float64(l.maxBytes)*0.75*float64(rows)/float64(fetched)))
	}
	l.pressure.LimitRows(fit)
}

// hold charges a record to the account of relations until the batch is released.
func (b *batch) hold(record arrow.RecordBatch) arrow.RecordBatch {
	b.OnRelease(b.loader.accounts.Hold(budget.Relations, record))
	return record
}

// loadBatch loads the relations of a range of a chunk's rows. If memory is
// exhausted, it tries once more without cached rows and without optional
// relations. The caller releases the batch.
func (l *Loader) loadBatch(ctx context.Context, chunk arrow.RecordBatch, from, rows int) (*batch, error) {
	if !l.lookups.Acquire(ctx) {
		return nil, sources.ContextError(ctx, "load", l.tree.root.Name)
	}
	defer l.lookups.Unlock()
	for retrying := false; ; retrying = true {
		b, err := l.newBatch(chunk, from, rows)
		if err == nil {
			_, err = sources.GuardCall("load", l.tree.root.Name, func() (struct{}, error) {
				for _, n := range slices.Concat(l.tree.nodes, l.extraNodes) {
					optional := l.preload[n] && !retrying
					if !n.required && !optional {
						continue
					}
					if err := b.ensureLoaded(ctx, n, optional); err != nil {
						return struct{}{}, err
					}
				}
				return struct{}{}, nil
			})
			l.limitChunkRows(rows, b.fetched)
			if err == nil {
				return b, nil
			}
			b.Release()
		}
		if retrying || errors.Is(err, errTooMany) || sources.KindOf(err) != sources.Exhausted {
			return nil, err
		}
		l.cache.evict()
	}
}

// yieldBatch assembles the chunks of a batch, yields them and releases the batch.
// It makes several chunks if one would be too large. It returns how many rows it
// yielded, and whether the consumer wants more; an error is about the row after
// those.
func (l *Loader) yieldBatch(b *batch, yield func(sources.Batch, error) bool) (yielded int, wantsMore bool, err error) {
	l.current = b
	defer func() {
		l.current = nil
		b.Release()
	}()
	total := len(b.root.Refs)
	weights, err := sources.GuardCall("load", l.tree.root.Name, func() ([]int32, error) { return b.weights(), nil })
	if err != nil {
		return 0, true, err
	}
	maxRows := total
	for yielded < total {
		to, bytes := yielded, int64(0)
		for to < total && to-yielded < maxRows && (to == yielded || bytes+int64(weights[to]) <= l.maxBytes) {
			bytes += int64(weights[to])
			to++
		}
		record, dangling, err := l.assembleRows(b, yielded, to)
		if err != nil {
			if sources.KindOf(err) == sources.Exhausted && to-yielded > 1 {
				maxRows = (to - yielded) / 2
				continue
			}
			return yielded, true, err
		}
		for n, count := range dangling {
			l.count(n.target, func(r *Figures) { r.Dangling += count })
		}
		b.from, b.to, yielded = yielded, to, to
		if !rows.YieldOwned(yield, sources.Batch{Record: record}) {
			return yielded, false, nil
		}
	}
	l.updatePreload(b)
	return yielded, true, nil
}

// updatePreload decides which optional relations to load with the next chunk:
// those that the consumer read from this one.
func (l *Loader) updatePreload(b *batch) {
	l.lookups.Lock() // held for the next chunk, which the stream has to wait for anyway
	defer l.lookups.Unlock()
	if l.tree.Strategy != query.Selective {
		return
	}
	for _, n := range slices.Concat(l.tree.nodes, l.extraNodes) {
		l.preload[n] = b.loaded[n] != nil && b.loaded[n].accessed
	}
}

// assembleRows returns the record of rows [from, to) of a batch, which the caller
// releases, and for each relation the number of rows that lead to no row.
func (l *Loader) assembleRows(b *batch, from, to int) (record arrow.RecordBatch, dangling map[*node]int64, err error) {
	dangling = map[*node]int64{}
	record, err = sources.GuardCall("load", l.tree.root.Name, func() (arrow.RecordBatch, error) {
		scratch := rows.NewArena(l.workMem)
		defer scratch.Release()
		part := rows.Keep(scratch, b.record.NewSlice(int64(from), int64(to)))
		columns := slices.Clone(part.Columns()[:l.tree.Shown])
		a := assembler{mem: l.mem, dangling: dangling}
		for _, n := range l.tree.nodes {
			if n.required {
				columns = append(columns, rows.Keep(scratch, a.column(b.loaded[n], sequence(scratch, from, to), false)))
			}
		}
		return array.NewRecordBatch(l.Schema, columns, int64(to-from)), nil
	})
	return record, dangling, err
}

// sequence returns the numbers from, from+1, ..., to-1.
func sequence(arena *rows.Arena, from, to int) []int32 {
	numbers := arena.Ints(to - from)
	for i := range numbers {
		numbers[i] = int32(from + i)
	}
	return numbers
}
