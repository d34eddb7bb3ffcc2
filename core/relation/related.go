package relation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Columns gives the relations of one chunk, as columns that belong to it. It is
// safe for concurrent use.
type Columns struct {
	l      *Loader
	record arrow.RecordBatch

	mu       sync.Mutex
	step     *batch // that has the chunk's rows; nil until a relation is loaded
	own      bool   // the step ends with the chunk
	from, to int    // the chunk's rows among the step's
	columns  map[string]arrow.Array
	over     bool
}

// Related returns the relations of the chunk that the loader has just yielded.
func (l *Loader) Related(record arrow.RecordBatch) *Columns {
	c := &Columns{l: l, record: record, columns: map[string]arrow.Array{}}
	if c.step = l.current; c.step != nil {
		c.from, c.to = c.step.from, c.step.to
	}
	return c
}

// Column returns a relation's column, and loads it where it did not come with the
// chunk. A relation that does not exist is [sources.NotFound]; one that does not
// fit is [sources.Exhausted], and leaves the chunk as it is.
func (c *Columns) Column(ctx context.Context, name string) (arrow.Array, error) {
	l := c.l
	c.mu.Lock()
	defer c.mu.Unlock()
	l.work.Lock()
	defer l.work.Unlock()
	fault := func(kind sources.Kind, format string, args ...any) error {
		return &sources.Error{Op: "load", Table: l.tree.root.Name, Kind: kind, Err: fmt.Errorf(format, args...)}
	}
	if c.over {
		return nil, fault(sources.Invalid, "%s: the chunk is over: its relations are read within its iteration of the loop", name)
	}
	if column := c.columns[name]; column != nil {
		return column, nil
	}
	n, err := l.relation(name)
	if err != nil {
		return nil, err
	}
	if n.required && !n.hasOptional() {
		return c.record.Column(c.record.Schema().FieldIndices(name)[0]), nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(l.ctx, func() { stop(context.Cause(l.ctx)) })()
	if c.step == nil {
		if c.step, err = l.newBatch(c.record, 0, int(c.record.NumRows())); err != nil {
			return nil, err
		}
		c.own = true
		c.from, c.to = 0, int(c.record.NumRows())
	}
	load := func() (arrow.Array, error) {
		if err := c.step.ensure(ctx, n, true); err != nil {
			return nil, err
		}
		work := rows.NewArena(l.own)
		defer work.Release()
		a := assembler{mem: l.mem, dangling: map[*node]int64{}}
		if n.required {
			a.dangling = nil
		}
		column := a.column(c.step.loaded[n], sequence(work, c.from, c.to), true)
		for n, count := range a.dangling {
			l.count(n.target, func(r *Figures) { r.Dangling += count })
		}
		return column, nil
	}
	column, err := sources.GuardCall("load", l.tree.root.Name, load)
	if sources.KindOf(err) == sources.Exhausted && err != nil {
		l.cache.shed()
		column, err = sources.GuardCall("load", l.tree.root.Name, load)
	}
	if err != nil {
		if errors.Is(err, errTooMany) {
			err = fault(sources.Exhausted, "%s: the related rows of %d rows are too many: ask for smaller chunks", name, len(c.step.root.Refs))
		}
		return nil, err
	}
	c.step.loaded[n].touched = true
	c.columns[name] = column
	return column, nil
}

// Field returns the field of a relation's column, with the optional relations
// below it. A relation that does not exist is [sources.NotFound].
func (l *Loader) Field(name string) (arrow.Field, error) {
	l.work.Lock()
	defer l.work.Unlock()
	n, err := l.relation(name)
	if err != nil {
		return arrow.Field{}, err
	}
	return n.field(true), nil
}

// hasOptional reports whether something below a relation is not in the record.
func (n *node) hasOptional() bool {
	for _, b := range n.below {
		if !b.required || b.hasOptional() {
			return true
		}
	}
	return false
}

// relation returns the node of a relation of the root, and makes one for a name
// that the query does not have.
func (l *Loader) relation(name string) (*node, error) {
	for _, nodes := range [][]*node{l.tree.Nodes, l.extra} {
		for _, n := range nodes {
			if n.relation.Name == name {
				return n, nil
			}
		}
	}
	t := l.tree
	tree, err := Resolve(t.catalog, t.root, t.Scanned, query.Load{Optional: []query.Branch{{Name: name}}}, query.Lazy, 1)
	if err != nil {
		return nil, err
	}
	if len(tree.Scanned) > len(t.Scanned) {
		return nil, &sources.Error{Op: "load", Table: t.root.Name, Kind: sources.Invalid,
			Err: fmt.Errorf("%s: the chunks do not have its key (%s): name it as optional in the query, or ask for that column too", name, strings.Join(tree.Scanned[len(t.Scanned):], ", "))}
	}
	n := tree.Nodes[0]
	l.counts.Lock()
	for _, a := range []*keyAccess{n.join, n.target} {
		if a != nil {
			a.figures = len(l.relations)
		}
	}
	l.relations = append(l.relations, Figures{Path: n.path})
	l.counts.Unlock()
	l.extra = append(l.extra, n)
	return n, nil
}

// Close takes back what the chunk gave, once no relation is being loaded for it.
func (c *Columns) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, column := range c.columns {
		column.Release()
	}
	if c.own {
		c.step.Release()
	}
}
