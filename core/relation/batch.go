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

// batch is a run of rows with what was found for them. It owns all of that, and
// lives as long as the consumer has one of its chunks.
type batch struct {
	*rows.Arena
	l       *Loader
	record  arrow.RecordBatch // the rows, with the columns that relations need
	root    rows.Set
	fetched int64 // bytes
	loaded  map[*node]*loadedRelation

	from, to int // the rows that the consumer has
}

func (l *Loader) newBatch(chunk arrow.RecordBatch, from, n int) (s *batch, err error) {
	s = &batch{Arena: rows.NewArena(l.own), l: l, loaded: map[*node]*loadedRelation{}}
	_, err = sources.GuardCall("load", l.tree.root.Name, func() (struct{}, error) {
		s.record = rows.Keep(s.Arena, chunk.NewSlice(int64(from), int64(from+n)))
		s.root = rows.Set{Records: []arrow.RecordBatch{s.record}, Refs: s.Refs(n)}
		for i := range s.root.Refs {
			s.root.Refs[i].Row = int32(i)
		}
		return struct{}{}, nil
	})
	if err != nil {
		s.Release()
	}
	return s, err
}

// learn makes the next chunks of a size whose related rows fit a step: what does
// not is fetched in vain.
func (l *Loader) learn(rows int, fetched int64) {
	fit := int64(0)
	if fetched > 0 {
		fit = max(1, int64(float64(l.maxBytes)*0.75*float64(rows)/float64(fetched)))
	}
	l.pressure.LimitRows(fit)
}

// hold counts a record as the relations' until the step ends.
func (s *batch) hold(record arrow.RecordBatch) arrow.RecordBatch {
	s.OnRelease(s.l.accounts.Hold(budget.Relations, record))
	return record
}

// loadBatch looks up what some rows need. Memory that it is refused it asks for once
// more, without what is only remembered or likely to be asked for.
func (l *Loader) loadBatch(ctx context.Context, chunk arrow.RecordBatch, from, rows int) (*batch, error) {
	l.work.Lock()
	defer l.work.Unlock()
	for frugal := false; ; frugal = true {
		s, err := l.newBatch(chunk, from, rows)
		if err == nil {
			_, err = sources.GuardCall("load", l.tree.root.Name, func() (struct{}, error) {
				for _, n := range slices.Concat(l.tree.Nodes, l.extra) {
					preload := l.wanted[n] && !frugal
					if !n.required && !preload {
						continue
					}
					if err := s.ensure(ctx, n, preload); err != nil {
						return struct{}{}, err
					}
				}
				return struct{}{}, nil
			})
			l.learn(rows, s.fetched)
			if err == nil {
				return s, nil
			}
			s.Release()
		}
		if frugal || errors.Is(err, errTooMany) || sources.KindOf(err) != sources.Exhausted {
			return nil, err
		}
		l.cache.shed()
	}
}

// give assembles the chunks of a step and yields them: one, or as many as it
// takes for each to have about its share of bytes. The step is gone then. It returns how many rows it
// gave, and whether the loop goes on; an error is about the row after those.
func (l *Loader) give(s *batch, yield func(sources.Batch, error) bool) (given int, more bool, err error) {
	l.current = s
	defer func() {
		l.current = nil
		s.Release()
	}()
	total := len(s.root.Refs)
	weights, err := sources.GuardCall("load", l.tree.root.Name, func() ([]int32, error) { return s.weights(), nil })
	if err != nil {
		return 0, true, err
	}
	most := total
	for given < total {
		to, bytes := given, int64(0)
		for to < total && to-given < most && (to == given || bytes+int64(weights[to]) <= l.maxBytes) {
			bytes += int64(weights[to])
			to++
		}
		record, dangling, err := l.assembled(s, given, to)
		if err != nil {
			if sources.KindOf(err) == sources.Exhausted && to-given > 1 {
				most = (to - given) / 2
				continue
			}
			return given, true, err
		}
		for n, count := range dangling {
			l.count(n.target, func(r *Figures) { r.Dangling += count })
		}
		s.from, s.to, given = given, to, to
		if !rows.YieldOwned(yield, record, nil) {
			return given, false, nil
		}
	}
	l.settle(s)
	return given, true, nil
}

// settle decides which optional relations come with the next chunk: those that
// were read of this one.
func (l *Loader) settle(s *batch) {
	l.work.Lock()
	defer l.work.Unlock()
	if l.tree.Strategy != query.Selective {
		return
	}
	for _, n := range slices.Concat(l.tree.Nodes, l.extra) {
		l.wanted[n] = s.loaded[n] != nil && s.loaded[n].touched
	}
}

// assembled makes the record of rows [from, to) of a step.
func (l *Loader) assembled(s *batch, from, to int) (record arrow.RecordBatch, dangling map[*node]int64, err error) {
	dangling = map[*node]int64{}
	record, err = sources.GuardCall("load", l.tree.root.Name, func() (arrow.RecordBatch, error) {
		work := rows.NewArena(l.own)
		defer work.Release()
		part := rows.Keep(work, s.record.NewSlice(int64(from), int64(to)))
		columns := slices.Clone(part.Columns()[:l.tree.Shown])
		a := assembler{mem: l.mem, dangling: dangling}
		for _, n := range l.tree.Nodes {
			if n.required {
				columns = append(columns, rows.Keep(work, a.column(s.loaded[n], sequence(work, from, to), false)))
			}
		}
		return array.NewRecordBatch(l.Schema, columns, int64(to-from)), nil
	})
	return record, dangling, err
}

// sequence is the numbers from one to before the other.
func sequence(s *rows.Arena, from, to int) []int32 {
	all := s.Ints(to - from)
	for i := range all {
		all[i] = int32(from + i)
	}
	return all
}
