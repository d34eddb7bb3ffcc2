package relation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/internal/lock"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Columns gives access to the relations of one chunk, as columns that the chunk
// owns. It is safe for concurrent use.
type Columns struct {
	loader *Loader
	record arrow.RecordBatch

	calls     lock.Lock // held while Column runs
	batch     *batch    // contains the chunk's rows; nil until a relation is loaded
	ownsBatch bool      // release batch with the chunk
	from, to  int       // the chunk's rows are [from, to) of the batch
	columns   map[*node]arrow.Array
	closed    bool
}

// Related returns the relations of the chunk that the loader yielded last. The
// caller closes them with the chunk.
func (l *Loader) Related(record arrow.RecordBatch) *Columns {
	c := &Columns{loader: l, record: record, calls: lock.New(), columns: map[*node]arrow.Array{}}
	if c.batch = l.current; c.batch != nil {
		c.from, c.to = c.batch.from, c.batch.to
	}
	return c
}

// Column returns a relation's column, and loads it if it did not come with the
// chunk. The column is valid until Close. If there is no such relation, the error
// is of kind [sources.NotFound]; after Close, [sources.Invalid]. If the relation
// does not fit in memory, the error is of kind [sources.Exhausted], and the chunk
// stays usable. If ctx or the stream ends, also while other look-ups run, it is of kind
// [sources.Canceled].
func (c *Columns) Column(ctx context.Context, name string) (arrow.Array, error) {
	l := c.loader
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(l.ctx, func() { stop(context.Cause(l.ctx)) })()
	if !c.calls.Acquire(ctx) {
		return nil, sources.ContextError(ctx, "load", l.tree.root.Name)
	}
	defer c.calls.Unlock()
	if !l.lookups.Acquire(ctx) {
		return nil, sources.ContextError(ctx, "load", l.tree.root.Name)
	}
	defer l.lookups.Unlock()
	errorf := func(kind sources.Kind, format string, args ...any) error {
		return sources.Errorf(kind, "load", l.tree.root.Name, format, args...)
	}
	if c.closed {
		return nil, errorf(sources.Invalid, "%s: the chunk is no longer valid: read its relations within its iteration of the loop", name)
	}
	n, err := l.relation(name)
	if err != nil {
		return nil, err
	}
	if column := c.columns[n]; column != nil {
		return column, nil
	}
	if n.required && !n.hasOptional() {
		return c.record.Column(c.record.Schema().FieldIndices(n.branch.Name)[0]), nil
	}
	if c.batch == nil {
		if c.batch, err = l.newBatch(c.record, 0, int(c.record.NumRows())); err != nil {
			return nil, err
		}
		c.ownsBatch = true
		c.from, c.to = 0, int(c.record.NumRows())
	}
	load := func() (arrow.Array, error) {
		if err := c.batch.ensureLoaded(ctx, n, true); err != nil {
			return nil, err
		}
		scratch := rows.NewArena(l.workMem)
		defer scratch.Release()
		a := assembler{mem: l.mem, dangling: map[*node]int64{}}
		if n.required {
			a.dangling = nil
		}
		column := a.column(c.batch.loaded[n], sequence(scratch, c.from, c.to), true)
		for n, count := range a.dangling {
			l.count(n.target, func(r *Figures) { r.Dangling += count })
		}
		return column, nil
	}
	column, err := sources.GuardCall("load", l.tree.root.Name, load)
	if sources.KindOf(err) == sources.Exhausted && err != nil {
		l.cache.evict()
		column, err = sources.GuardCall("load", l.tree.root.Name, load)
	}
	if err != nil {
		if errors.Is(err, errTooMany) {
			err = errorf(sources.Exhausted, "%s: %d rows have too many related rows: lower ChunkRows", name, len(c.batch.root.Refs))
		}
		return nil, err
	}
	c.batch.loaded[n].accessed = true
	c.columns[n] = column
	return column, nil
}

// Field returns the field of a relation's column, including the optional relations
// below it. If there is no such relation, the error is of kind [sources.NotFound].
func (l *Loader) Field(name string) (arrow.Field, error) {
	l.lookups.Lock()
	defer l.lookups.Unlock()
	n, err := l.relation(name)
	if err != nil {
		return arrow.Field{}, err
	}
	return n.field(true), nil
}

// hasOptional reports whether a relation below is not part of the record.
func (n *node) hasOptional() bool {
	for _, b := range n.below {
		if !b.required || b.hasOptional() {
			return true
		}
	}
	return false
}

// relation returns the node of a relation of the root. It makes one if the query
// does not name the relation.
func (l *Loader) relation(name string) (*node, error) {
	t := l.tree
	relation, err := t.root.FindRelation(name)
	if err != nil {
		return nil, sources.NewError(sources.KindOf(err), "load", t.root.Name, fmt.Errorf("%s: %w", name, cause(err)))
	}
	for _, n := range slices.Concat(t.nodes, l.extraNodes) {
		if n.relation == relation {
			return n, nil
		}
	}
	tree, err := Resolve(t.catalog, t.root, t.Scanned, query.Load{Optional: []query.Branch{{Name: name}}}, query.Lazy, 1, t.pushdown)
	if err != nil {
		return nil, err
	}
	if len(tree.Scanned) > len(t.Scanned) {
		return nil, sources.Errorf(sources.Invalid, "load", t.root.Name, "%s: the chunks lack its key (%s): list the relation in Load.Optional, or add the column to the query", name, strings.Join(tree.Scanned[len(t.Scanned):], ", "))
	}
	n := tree.nodes[0]
	l.figuresMu.Lock()
	for _, a := range []*keyAccess{n.join, n.target} {
		if a != nil {
			a.figuresIndex = len(l.figures)
		}
	}
	l.figures = append(l.figures, Figures{Path: n.path})
	l.figuresMu.Unlock()
	l.extraNodes = append(l.extraNodes, n)
	return n, nil
}

// Close releases the columns. It waits for a call of Column that is running.
func (c *Columns) Close() {
	c.calls.Lock()
	defer c.calls.Unlock()
	c.closed = true
	for _, column := range c.columns {
		column.Release()
	}
	if c.ownsBatch {
		c.batch.Release()
	}
}
