package relation

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// loadedRelation is what was found of one relation for a set of parents. The related
// rows are there once, however many parents share them: they are taken by index
// when a column is made.
type loadedRelation struct {
	node  *node
	keyOf []int32 // of each parent: the number of its key, or one of the two below
	// The rows of key k are list[starts[k]:starts[k+1]], or where there is no list
	// those numbers themselves.
	starts  []int32
	list    []int32
	lost    []int32 // of each key of a relation through a table: rows of that which lead nowhere; nil for none
	targets rows.Set
	below   []*loadedRelation // of the node's relations, nil for one that is not loaded
	touched bool              // the consumer has asked for it
}

const (
	nullKey   = -1 // a NULL
	absentKey = -2 // a value that the other side's type does not have
)

// ensure loads a relation, and what is below it, where that is not done yet.
func (s *batch) ensure(ctx context.Context, n *node, optional bool) error {
	if s.loaded[n] == nil {
		found, err := s.resolve(ctx, n, s.root)
		if err != nil {
			return err
		}
		s.loaded[n] = found
	}
	return s.descend(ctx, s.loaded[n], optional)
}

// descend loads what is below a relation, breadth first within each.
func (s *batch) descend(ctx context.Context, found *loadedRelation, optional bool) error {
	for i, n := range found.node.below {
		if !n.required && !optional {
			continue
		}
		if found.below[i] == nil {
			below, err := s.resolve(ctx, n, found.targets)
			if err != nil {
				return err
			}
			found.below[i] = below
		}
		if err := s.descend(ctx, found.below[i], optional); err != nil {
			return err
		}
	}
	return nil
}

// resolve looks up one relation of a set of parents.
func (s *batch) resolve(ctx context.Context, n *node, parents rows.Set) (*loadedRelation, error) {
	first := n.target
	if n.join != nil {
		first = n.join
	}
	keys, keyOf := s.keysOf(first, parents, n.keys)
	found := &loadedRelation{node: n, keyOf: keyOf, below: make([]*loadedRelation, len(n.below))}
	g, err := s.l.findRows(ctx, s, first, s.l.tier(ctx, n, first), keys)
	if err != nil {
		return nil, err
	}
	found.starts = g.starts
	if n.join == nil {
		found.targets = g.Set
		return found, nil
	}
	far, farOf := s.keysOf(n.target, g.Set, n.far)
	targets, err := s.l.findRows(ctx, s, n.target, s.l.tier(ctx, n, n.target), far)
	if err != nil {
		return nil, err
	}
	found.targets = targets.Set
	s.joinThrough(found, farOf, targets)
	return found, nil
}

// tier is where the rows of a relation are remembered: with a cache in one that
// other streams have too, else nowhere, if no key is asked for in two chunks, or
// in the stream's own.
func (l *Loader) tier(ctx context.Context, n *node, a *keyAccess) keyStore {
	if shared := l.shared(ctx, a); shared != nil {
		return shared
	}
	across := n.join != nil && a == n.target // several rows of the join table lead to one
	if l.cache.limit == 0 || !n.repeats && !across {
		return nil
	}
	return l.cache.tier(a.question(), a.schema)
}

// question is everything that the rows of a key depend on.
func (a *keyAccess) question() string {
	return fmt.Sprintf("%q by %q: %q of those with %s, order %v, limit %d", a.table.Name, a.key, a.rest.Columns,
		query.PredicateText(query.Conjunction([]sources.Predicate{orTrue(a.asked.Where), orTrue(a.rest.Where)})), a.order, a.limit)
}

func orTrue(p sources.Predicate) sources.Predicate {
	if p == nil {
		return sources.And{}
	}
	return p
}

// keysOf returns the distinct keys that rows hold in some columns for an access,
// and of each row the number of its own.
func (s *batch) keysOf(a *keyAccess, n rows.Set, places []int) (*keySet, []int32) {
	work := rows.NewArena(s.Mem)
	defer work.Release()
	columns, given := make([]arrow.Array, len(places)), make([]arrow.Array, len(places))
	for i, place := range places {
		if len(n.Records) == 0 {
			columns[i] = rows.Keep(work, array.MakeArrayOfNull(s.Mem, a.types.Field(i).Type, 0))
			given[i] = columns[i]
			continue
		}
		given[i] = rows.Keep(work, n.Column(s.Mem, place, n.Records[0].Schema().Field(place)))
		columns[i] = rows.Keep(work, castKey(s.Mem, given[i], a.types.Field(i).Type))
	}
	list := encodeKeys(work, columns, given, len(n.Refs))
	keys, keyOf := distinct(s.Arena, list, columns, a.types)
	for row, state := range list.state {
		switch state {
		case keyNull:
			keyOf[row] = nullKey
		case keyAbsent:
			keyOf[row] = absentKey
		}
	}
	return keys, keyOf
}

// joinThrough follows the rows of a join table to the rows at their far end, and
// brings those of each parent into order. found.starts are by the near key, over
// the join table's rows; farOf is the far key of each.
func (s *batch) joinThrough(found *loadedRelation, farOf []int32, targets groups) {
	n := found.node
	total := 0
	for _, far := range farOf {
		if far >= 0 {
			total += int(targets.starts[far+1] - targets.starts[far])
		}
	}
	starts := found.starts
	found.starts, found.list = s.Ints(len(starts)), s.Ints(total)
	work := rows.NewArena(s.Mem)
	defer work.Release()
	a := n.target
	rank := a.ranks(work, targets.Set)
	at := int32(0)
	for k := range len(starts) - 1 {
		from := at
		for _, far := range farOf[starts[k]:starts[k+1]] {
			rows := int32(0)
			if far >= 0 {
				for t := targets.starts[far]; t < targets.starts[far+1]; t++ {
					found.list[at] = t
					at++
					rows++
				}
			}
			if rows == 0 && far != nullKey && !a.filtered {
				if found.lost == nil {
					found.lost = s.Ints(len(starts) - 1)
				}
				found.lost[k]++
			}
		}
		list := found.list[from:at]
		byRank := func(a, b int32) int { return int(rank[a]) - int(rank[b]) }
		if !slices.IsSortedFunc(list, byRank) {
			slices.SortStableFunc(list, byRank)
		}
		if a.limit > 0 {
			at = min(at, from+int32(a.limit))
		}
		found.starts[k+1] = at
	}
	found.list = found.list[:at]
}

// assembler makes columns of what was found.
type assembler struct {
	mem      memory.Allocator
	dangling map[*node]int64 // rows that lead nowhere; nil: nobody counts
}

// column makes a relation's column for parents of those numbers, in their order.
// A negative number is no parent. With the optional relations below it, or
// without.
func (a assembler) column(found *loadedRelation, parents []int32, optional bool) arrow.Array {
	n := found.node
	work := rows.NewArena(a.mem)
	defer work.Release()
	toOne := n.relation.Kind.ToOne()
	total := len(parents)
	if !toOne {
		total = found.rows(parents)
	}
	targets := work.Ints(total)
	var validity, offsets *memory.Buffer
	nulls := 0
	if toOne {
		for i, p := range parents {
			if targets[i] = found.one(p); targets[i] < 0 {
				nulls++
			}
		}
		if nulls > 0 {
			validity = a.bitmap(work, targets)
		}
		if a.dangling != nil && nulls > 0 && n.relation.Kind == sources.BelongsTo && !n.target.filtered {
			for i, p := range parents {
				if p >= 0 && found.keyOf[p] != nullKey && targets[i] < 0 {
					a.dangling[n]++
				}
			}
		}
	} else {
		offsets = memory.NewResizableBuffer(a.mem)
		offsets.Resize(4 * (len(parents) + 1))
		rows.Keep(work, offsets)
		found.many(parents, targets, arrow.GetData[int32](offsets.Bytes()))
		if a.dangling != nil && found.lost != nil {
			for _, p := range parents {
				if p >= 0 && found.keyOf[p] >= 0 {
					if lost := found.lost[found.keyOf[p]]; lost > 0 {
						a.dangling[n] += int64(lost)
					}
				}
			}
		}
	}
	refs := work.Refs(total)
	for i, t := range targets {
		refs[i] = rows.Ref{Record: -1}
		if t >= 0 {
			refs[i] = found.targets.Refs[t]
		}
	}
	children := make([]arrow.ArrayData, 0, len(n.fields)+len(n.below))
	for i, f := range n.fields {
		children = append(children, rows.Keep(work, rows.Take(a.mem, f.Type, f.Nullable, found.targets.Parts(i), refs)).Data())
	}
	for i, b := range n.below {
		if b.required || optional {
			counting := a
			if optional && b.required {
				counting.dangling = nil // it was counted in the record
			}
			children = append(children, rows.Keep(work, counting.column(found.below[i], targets, optional)).Data())
		}
	}
	t := n.field(optional).Type
	row := t
	if !toOne {
		row = t.(*arrow.ListType).Elem()
	}
	rows := array.NewData(row, total, []*memory.Buffer{validity}, children, nulls, 0)
	defer rows.Release()
	if toOne {
		return array.MakeFromData(rows)
	}
	list := array.NewData(t, len(parents), []*memory.Buffer{nil, offsets}, []arrow.ArrayData{rows}, 0, 0)
	defer list.Release()
	return array.MakeFromData(list)
}

// bitmap has a bit for every target that there is.
func (a assembler) bitmap(work *rows.Arena, targets []int32) *memory.Buffer {
	b := memory.NewResizableBuffer(a.mem)
	b.Resize(int(bitutil.BytesForBits(int64(len(targets)))))
	rows.Keep(work, b)
	for i, t := range targets {
		if t >= 0 {
			bitutil.SetBit(b.Bytes(), i)
		}
	}
	return b
}

// of returns where the list has the targets of a parent.
func (l *loadedRelation) of(parent int32) (from, to int32) {
	if parent < 0 || l.keyOf[parent] < 0 {
		return 0, 0
	}
	return l.starts[l.keyOf[parent]], l.starts[l.keyOf[parent]+1]
}

func (l *loadedRelation) target(i int32) int32 {
	if l.list == nil {
		return i
	}
	return l.list[i]
}

// one is the only target of a parent, or -1.
func (l *loadedRelation) one(parent int32) int32 {
	from, to := l.of(parent)
	if from == to {
		return -1
	}
	return l.target(from)
}

// rows is how many targets parents have together.
func (l *loadedRelation) rows(parents []int32) int {
	total := 0
	for _, p := range parents {
		from, to := l.of(p)
		total += int(to - from)
	}
	if total > math.MaxInt32 {
		panic(&sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("%d related rows do not fit one chunk", total)})
	}
	return total
}

// many writes the targets of parents, and where those of each end.
func (l *loadedRelation) many(parents, targets, ends []int32) {
	at := int32(0)
	for i, p := range parents {
		from, to := l.of(p)
		for t := from; t < to; t++ {
			targets[at] = l.target(t)
			at++
		}
		ends[i+1] = at
	}
}

// weights is about how many bytes the required relations of each row take.
func (s *batch) weights() []int32 {
	total := s.Ints(len(s.root.Refs))
	for _, n := range s.l.tree.Nodes {
		if n.required {
			addWeights(total, s.loaded[n].weigh(s, len(total)))
		}
	}
	return total
}

func addWeights(to, more []int32) {
	for i, w := range more {
		to[i] = int32(min(int64(to[i])+int64(w), math.MaxInt32))
	}
}

// weigh is about how many bytes each parent's part of a column takes.
func (l *loadedRelation) weigh(s *batch, parents int) []int32 {
	each := s.Ints(len(l.targets.Refs))
	var bytes, rows int64
	for _, r := range l.targets.Records {
		bytes += sources.Size(r)
		rows += r.NumRows()
	}
	for i := range each {
		each[i] = int32(min(bytes/max(rows, 1), math.MaxInt32))
	}
	for i, b := range l.node.below {
		if b.required {
			addWeights(each, l.below[i].weigh(s, len(each)))
		}
	}
	weights := s.Ints(parents)
	for p := range weights {
		sum := int64(8)
		from, to := l.of(int32(p))
		for t := from; t < to; t++ {
			sum += int64(each[l.target(t)])
		}
		weights[p] = int32(min(sum, math.MaxInt32))
	}
	return weights
}
