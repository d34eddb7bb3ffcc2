package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// chunkOf is the chunk of a record that is about to be given.
func (l *loader) chunkOf(record arrow.RecordBatch) *Chunk {
	c := &Chunk{Record: record, loader: l, columns: map[string]arrow.Array{}}
	if c.step = l.current; c.step != nil {
		c.from, c.to = c.step.from, c.step.to
	}
	return c
}

// Related returns a relation's column for the whole chunk: what an optional
// relation is for, and any other that the chunk's table has. The name is that of
// a relation of the stream's table; what the query asks below it, required or
// optional, is in the column. It is loaded when it is first asked for, unless it
// came with the chunk; that changes nothing but the time it takes.
//
// The column has a value for each row of the chunk's record: a nullable struct,
// or a list of structs. It belongs to the chunk and is valid in the iteration of
// its loop: Retain it to keep it longer. Related may be called from any
// goroutine, within the iteration.
//
// A relation that does not exist is [sources.NotFound]; one that does not fit is
// [sources.Exhausted], and leaves the chunk as it is.
func (c *Chunk) Related(ctx context.Context, name string) (arrow.Array, error) {
	l := c.loader
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
		return c.Record.Column(c.Record.Schema().FieldIndices(name)[0]), nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(l.ctx, func() { stop(context.Cause(l.ctx)) })()
	if c.step == nil {
		if c.step, err = l.newStep(c.Record, 0, int(c.Record.NumRows())); err != nil {
			return nil, err
		}
		c.own = true
		c.from, c.to = 0, int(c.Record.NumRows())
	}
	load := func() (arrow.Array, error) {
		if err := c.step.ensure(ctx, n, true); err != nil {
			return nil, err
		}
		work := newScope(l.own)
		defer work.release()
		a := assembler{mem: l.mem, dangling: map[*loadNode]int64{}}
		if n.required {
			a.dangling = nil
		}
		column := a.column(c.step.loaded[n], sequence(work, c.from, c.to), true)
		for n, count := range a.dangling {
			l.count(n.target, func(r *RelationReceipt) { r.Dangling += count })
		}
		return column, nil
	}
	column, err := sources.Call("load", l.tree.root.Name, load)
	if sources.KindOf(err) == sources.Exhausted && err != nil {
		l.cache.shed()
		column, err = sources.Call("load", l.tree.root.Name, load)
	}
	if err != nil {
		if errors.Is(err, errTooMany) {
			err = fault(sources.Exhausted, "%s: the related rows of %d rows are too many: ask for smaller chunks", name, len(c.step.root.refs))
		}
		return nil, err
	}
	c.step.loaded[n].touched = true
	c.columns[name] = column
	return column, nil
}

// RelatedField is the field of the column that [Chunk.Related] gives for a
// relation. A relation that does not exist is [sources.NotFound].
func (s *Stream) RelatedField(name string) (arrow.Field, error) {
	s.loader.work.Lock()
	defer s.loader.work.Unlock()
	n, err := s.loader.relation(name)
	if err != nil {
		return arrow.Field{}, err
	}
	return n.field(true), nil
}

// hasOptional reports whether something below a relation is not in the record.
func (n *loadNode) hasOptional() bool {
	for _, b := range n.below {
		if !b.required || b.hasOptional() {
			return true
		}
	}
	return false
}

// relation returns the node of a relation of the root, and makes one for a name
// that the query does not have.
func (l *loader) relation(name string) (*loadNode, error) {
	for _, nodes := range [][]*loadNode{l.tree.nodes, l.extra} {
		for _, n := range nodes {
			if n.relation.Name == name {
				return n, nil
			}
		}
	}
	t := l.tree
	q := Query{Table: t.root.Name, Columns: t.scanned, Load: Load{Optional: []Branch{{Name: name}}, Strategy: Lazy, MaxDepth: 1}}
	tree, err := resolve(t.catalog, t.root, q, Options{})
	if err != nil {
		return nil, err
	}
	if len(tree.scanned) > len(t.scanned) {
		return nil, &sources.Error{Op: "load", Table: t.root.Name, Kind: sources.Invalid,
			Err: fmt.Errorf("%s: the chunks do not have its key (%s): name it as optional in the query, or ask for that column too", name, names(tree.scanned[len(t.scanned):]))}
	}
	n := tree.nodes[0]
	l.counts.Lock()
	for _, a := range []*access{n.join, n.target} {
		if a != nil {
			a.figure = len(l.relations)
		}
	}
	l.relations = append(l.relations, RelationReceipt{Path: n.path})
	l.counts.Unlock()
	l.extra = append(l.extra, n)
	return n, nil
}

// end takes back what the chunk gave, once no relation is being loaded for it.
func (c *Chunk) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, column := range c.columns {
		column.Release()
	}
	if c.own {
		c.step.release()
	}
}
