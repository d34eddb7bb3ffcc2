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

// loadedRelation is one relation loaded for a set of parent rows. Each related row
// is there once, even if many parents share it; the rows are taken by index when a
// column is made.
type loadedRelation struct {
	node     *node
	keyIndex []int32 // of each parent: the index of its key, or nullKey or absentKey
	// The rows of key k are targetIndexes[starts[k]:starts[k+1]]. If targetIndexes
	// is nil, they are the indexes from starts[k] to starts[k+1] themselves.
	starts        []int32
	targetIndexes []int32
	// dangling counts, for each key of a relation through a join table, the rows
	// of that table that lead to no row; nil if there are none.
	dangling []int32
	targets  rows.Set
	below    []*loadedRelation // parallel to node.below; nil for a relation that is not loaded
	accessed bool              // the consumer has read it
}

const (
	nullKey   = -1 // the key contains NULL
	absentKey = -2 // the other side's type cannot represent the key
)

// ensureLoaded loads a relation of the root and what is below it, unless that is
// done already. Relations below that are optional are loaded only if optional is
// true.
func (b *batch) ensureLoaded(ctx context.Context, n *node, optional bool) error {
	if b.loaded[n] == nil {
		found, err := b.loadRelation(ctx, n, b.root)
		if err != nil {
			return err
		}
		b.loaded[n] = found
	}
	return b.loadBelow(ctx, b.loaded[n], optional)
}

// loadBelow loads the relations below a loaded one. Optional ones are loaded only
// if optional is true.
func (b *batch) loadBelow(ctx context.Context, found *loadedRelation, optional bool) error {
	for i, n := range found.node.below {
		if !n.required && !optional {
			continue
		}
		if found.below[i] == nil {
			below, err := b.loadRelation(ctx, n, found.targets)
			if err != nil {
				return err
			}
			found.below[i] = below
		}
		if err := b.loadBelow(ctx, found.below[i], optional); err != nil {
			return err
		}
	}
	return nil
}

// loadRelation looks up the rows of one relation for a set of parents.
func (b *batch) loadRelation(ctx context.Context, n *node, parents rows.Set) (*loadedRelation, error) {
	first := n.target
	if n.join != nil {
		first = n.join
	}
	keys, keyIndex := b.distinctKeys(first, parents, n.nearIndexes)
	found := &loadedRelation{node: n, keyIndex: keyIndex, below: make([]*loadedRelation, len(n.below))}
	g, err := b.loader.findRows(ctx, b, first, b.loader.storeFor(ctx, n, first), keys)
	if err != nil {
		return nil, err
	}
	found.starts = g.starts
	if n.join == nil {
		found.targets = g.Set
		return found, nil
	}
	far, farKeyIndex := b.distinctKeys(n.target, g.Set, n.farIndexes)
	targets, err := b.loader.findRows(ctx, b, n.target, b.loader.storeFor(ctx, n, n.target), far)
	if err != nil {
		return nil, err
	}
	found.targets = targets.Set
	b.joinThrough(found, farKeyIndex, targets)
	return found, nil
}

// storeFor returns the key store for an access of a relation. With a cache,
// streams share it. Otherwise it belongs to the loader; it is nil if no key can be
// needed by two chunks.
func (l *Loader) storeFor(ctx context.Context, n *node, a *keyAccess) keyStore {
	if shared := l.sharedStore(ctx, a); shared != nil {
		return shared
	}
	across := n.join != nil && a == n.target // several rows of the join table may lead to the same row
	if l.cache.limit == 0 || !n.repeats && !across {
		return nil
	}
	return l.cache.tier(a.tierKey(), a.schema)
}

// tierKey identifies everything that the rows of a key depend on.
func (a *keyAccess) tierKey() string {
	key := fmt.Sprintf("%q by %q: %q of those with %s, order %v, limit %d", a.table.Name, a.key, a.residual.Columns,
		query.PredicateText(query.Conjunction([]sources.Predicate{trueIfNil(a.pushed.Where), trueIfNil(a.residual.Where)})), a.order, a.limit)
	if a.from != nil {
		key += fmt.Sprintf(", keys from %q", *a.from)
	}
	return key
}

// trueIfNil returns p, or a predicate that is always true if p is nil.
func trueIfNil(p sources.Predicate) sources.Predicate {
	if p == nil {
		return sources.And{}
	}
	return p
}

// distinctKeys returns the distinct keys that rows have in the columns with those
// indexes, and the index of each row's key: nullKey or absentKey if it has none.
func (b *batch) distinctKeys(a *keyAccess, set rows.Set, indexes []int) (*keySet, []int32) {
	scratch := rows.NewArena(b.Mem)
	defer scratch.Release()
	columns, original := make([]arrow.Array, len(indexes)), make([]arrow.Array, len(indexes))
	for i, index := range indexes {
		if len(set.Records) == 0 {
			columns[i] = rows.Keep(scratch, array.MakeArrayOfNull(b.Mem, a.keyTypes.Field(i).Type, 0))
			original[i] = columns[i]
			continue
		}
		field := set.Records[0].Schema().Field(index)
		original[i] = rows.Keep(scratch, set.Column(b.Mem, index, field))
		columns[i] = rows.Keep(scratch, castKey(b.Mem, field, original[i], a.keyTypes.Field(i)))
	}
	list := encodeKeys(scratch, columns, original, len(set.Refs))
	keys, keyIndex := distinct(b.Arena, list, columns, a.keyTypes)
	for row, state := range list.state {
		switch state {
		case keyNull:
			keyIndex[row] = nullKey
		case keyAbsent:
			keyIndex[row] = absentKey
		}
	}
	return keys, keyIndex
}

// joinThrough replaces the rows of a join table in found by the rows that they
// lead to, in the order of the relation for each key. found.starts index the join
// table's rows; farKeyIndex has the index of each one's key in targets.
func (b *batch) joinThrough(found *loadedRelation, farKeyIndex []int32, targets groups) {
	n := found.node
	total := 0
	for _, far := range farKeyIndex {
		if far >= 0 {
			total += int(targets.starts[far+1] - targets.starts[far])
		}
	}
	starts := found.starts
	found.starts, found.targetIndexes = b.Ints(len(starts)), b.Ints(total)
	scratch := rows.NewArena(b.Mem)
	defer scratch.Release()
	a := n.target
	rank := a.ranks(scratch, targets.Set)
	end := int32(0)
	for k := range len(starts) - 1 {
		from := end
		for _, far := range farKeyIndex[starts[k]:starts[k+1]] {
			rows := int32(0)
			if far >= 0 {
				for t := targets.starts[far]; t < targets.starts[far+1]; t++ {
					found.targetIndexes[end] = t
					end++
					rows++
				}
			}
			if rows == 0 && far != nullKey && !a.filtered {
				if found.dangling == nil {
					found.dangling = b.Ints(len(starts) - 1)
				}
				found.dangling[k]++
			}
		}
		list := found.targetIndexes[from:end]
		byRank := func(i, j int32) int { return int(rank[i]) - int(rank[j]) }
		if !a.joinOrder && !slices.IsSortedFunc(list, byRank) {
			slices.SortStableFunc(list, byRank)
		}
		if a.limit > 0 {
			end = min(end, from+int32(a.limit))
		}
		found.starts[k+1] = end
	}
	found.targetIndexes = found.targetIndexes[:end]
}

// assembler makes columns from loaded relations.
type assembler struct {
	mem      memory.Allocator
	dangling map[*node]int64 // counts rows that lead to no row; nil disables counting
}

// column returns a relation's column for the parents with those indexes, in that
// order; a negative index is no parent. The column includes the optional relations
// below if optional is true. The caller releases it.
func (a assembler) column(found *loadedRelation, parents []int32, optional bool) arrow.Array {
	n := found.node
	scratch := rows.NewArena(a.mem)
	defer scratch.Release()
	toOne := n.relation.Kind.ToOne()
	total := len(parents)
	if !toOne {
		total = found.targetCount(parents)
	}
	targets := scratch.Ints(total)
	var validity, offsets *memory.Buffer
	nulls := 0
	if toOne {
		for i, p := range parents {
			if targets[i] = found.firstTarget(p); targets[i] < 0 {
				nulls++
			}
		}
		if nulls > 0 {
			validity = a.validityBitmap(scratch, targets)
		}
		if a.dangling != nil && nulls > 0 && n.relation.Kind == sources.BelongsTo && !n.target.filtered {
			for i, p := range parents {
				if p >= 0 && found.keyIndex[p] != nullKey && targets[i] < 0 {
					a.dangling[n]++
				}
			}
		}
	} else {
		offsets = memory.NewResizableBuffer(a.mem)
		offsets.Resize(4 * (len(parents) + 1))
		rows.Keep(scratch, offsets)
		found.writeTargets(parents, targets, arrow.GetData[int32](offsets.Bytes()))
		if a.dangling != nil && found.dangling != nil {
			for _, p := range parents {
				if p >= 0 && found.keyIndex[p] >= 0 {
					if rowsLost := found.dangling[found.keyIndex[p]]; rowsLost > 0 {
						a.dangling[n] += int64(rowsLost)
					}
				}
			}
		}
	}
	refs := scratch.Refs(total)
	for i, target := range targets {
		refs[i] = rows.Ref{Record: -1}
		if target >= 0 {
			refs[i] = found.targets.Refs[target]
		}
	}
	children := make([]arrow.ArrayData, 0, len(n.fields)+len(n.below))
	for i, f := range n.fields {
		children = append(children, rows.Keep(scratch, rows.Take(a.mem, f.Type, f.Nullable, found.targets.Parts(i), refs)).Data())
	}
	for i, child := range n.below {
		if child.required || optional {
			counting := a
			if optional && child.required {
				counting.dangling = nil // counted when the record was made
			}
			children = append(children, rows.Keep(scratch, counting.column(found.below[i], targets, optional)).Data())
		}
	}
	columnType := n.field(optional).Type
	rowType := columnType
	if !toOne {
		rowType = columnType.(*arrow.ListType).Elem()
	}
	rows := array.NewData(rowType, total, []*memory.Buffer{validity}, children, nulls, 0)
	defer rows.Release()
	if toOne {
		return array.MakeFromData(rows)
	}
	list := array.NewData(columnType, len(parents), []*memory.Buffer{nil, offsets}, []arrow.ArrayData{rows}, 0, 0)
	defer list.Release()
	return array.MakeFromData(list)
}

// validityBitmap returns a bitmap in which the bit of each target that exists is
// set.
func (a assembler) validityBitmap(scratch *rows.Arena, targets []int32) *memory.Buffer {
	bitmap := memory.NewResizableBuffer(a.mem)
	bitmap.Resize(int(bitutil.BytesForBits(int64(len(targets)))))
	rows.Keep(scratch, bitmap)
	for i, t := range targets {
		if t >= 0 {
			bitutil.SetBit(bitmap.Bytes(), i)
		}
	}
	return bitmap
}

// targetRange returns the range of a parent's targets.
func (l *loadedRelation) targetRange(parent int32) (from, to int32) {
	if parent < 0 || l.keyIndex[parent] < 0 {
		return 0, 0
	}
	return l.starts[l.keyIndex[parent]], l.starts[l.keyIndex[parent]+1]
}

// target returns the index of the row at position i of a range.
func (l *loadedRelation) target(i int32) int32 {
	if l.targetIndexes == nil {
		return i
	}
	return l.targetIndexes[i]
}

// firstTarget returns the index of a parent's only target, or -1.
func (l *loadedRelation) firstTarget(parent int32) int32 {
	from, to := l.targetRange(parent)
	if from == to {
		return -1
	}
	return l.target(from)
}

// targetCount returns the number of targets of all parents together.
func (l *loadedRelation) targetCount(parents []int32) int {
	total := 0
	for _, p := range parents {
		from, to := l.targetRange(p)
		total += int(to - from)
	}
	if total > math.MaxInt32 {
		panic(sources.Errorf(sources.Exhausted, "", "", "one chunk cannot have %d related rows: lower ChunkRows", total))
	}
	return total
}

// writeTargets writes the targets of parents, and the end of each parent's targets
// to ends[i+1].
func (l *loadedRelation) writeTargets(parents, targets, ends []int32) {
	at := int32(0)
	for i, p := range parents {
		from, to := l.targetRange(p)
		for t := from; t < to; t++ {
			targets[at] = l.target(t)
			at++
		}
		ends[i+1] = at
	}
}

// weights estimates the bytes that the required relations of each row take.
func (b *batch) weights() []int32 {
	total := b.Ints(len(b.root.Refs))
	for _, n := range b.loader.tree.nodes {
		if n.required {
			addWeights(total, b.loaded[n].weigh(b, len(total)))
		}
	}
	return total
}

// addWeights adds more to to, up to the maximum of an int32.
func addWeights(to, more []int32) {
	for i, w := range more {
		to[i] = int32(min(int64(to[i])+int64(w), math.MaxInt32))
	}
}

// weigh estimates the bytes that each parent's part of the column takes.
func (l *loadedRelation) weigh(b *batch, parents int) []int32 {
	each := b.Ints(len(l.targets.Refs))
	var bytes, rows int64
	for _, r := range l.targets.Records {
		bytes += sources.Size(r)
		rows += r.NumRows()
	}
	for i := range each {
		each[i] = int32(min(bytes/max(rows, 1), math.MaxInt32))
	}
	for i, child := range l.node.below {
		if child.required {
			addWeights(each, l.below[i].weigh(b, len(each)))
		}
	}
	weights := b.Ints(parents)
	for p := range weights {
		sum := int64(8)
		from, to := l.targetRange(int32(p))
		for t := from; t < to; t++ {
			sum += int64(each[l.target(t)])
		}
		weights[p] = int32(min(sum, math.MaxInt32))
	}
	return weights
}
