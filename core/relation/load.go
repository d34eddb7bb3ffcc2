package relation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// LoaderConfig configures a [Loader].
type LoaderConfig struct {
	Tree      *Tree
	Session   *cache.Session // reads the rows, and looks up where it can do both
	Query     *sources.Query // what Session scans
	Scanned   *arrow.Schema  // of the rows that come in
	Pressure  *budget.Backpressure
	Cache     cache.Use
	ReadAhead bool // look up the relations of the next chunk while the consumer has this one
}

// Loader is the hop that adds relations to chunks: the distinct keys of a chunk
// become one look-up for each relation, whatever the number of rows.
type Loader struct {
	tree     *Tree
	main     *cache.Session  // the one that reads the rows
	asked    *sources.Query  // what it reads
	env      sources.Env     // of it
	Schema   *arrow.Schema   // of the records that it yields
	ctx      context.Context // the stream's
	pressure *budget.Backpressure
	accounts *budget.Accounts
	mem      memory.Allocator // the stream's budget: for what the consumer gets
	own      memory.Allocator // the same, for what stays here
	maxBytes int64            // bytes of related rows in one step, but for a single parent's

	// work is held while look-ups run: by the hop, or by a consumer that asks for
	// an optional relation.
	work    sync.Mutex
	second  sources.Session // for look-ups, where the main one takes one scan at a time
	cache   *keyCache
	caching cache.Use
	tiers   map[*keyAccess]keyStore // those that other streams have too
	extra   []*node                 // relations that the query does not name
	wanted  map[*node]bool          // optional relations that come with the next chunk

	// These are for the goroutine that ranges.
	ahead   bool // look-ups of the next chunk may run while the consumer has this one
	parents int  // how many rows a step takes; 0 is the whole chunk
	calm    int  // steps since the last one that did not fit
	current *batch

	counts    sync.Mutex
	relations []Figures
}

// errTooMany ends a step that fetched more than its share.
var errTooMany = errors.New("the related rows of one step are too many")

// Figures is what one relation took.
type Figures struct {
	Path       string
	Lookups    int64
	Keys       int64
	Remembered int64
	Rows       int64
	Skipped    int64
	Dangling   int64
}

// NewLoader returns the loader of a stream, whose context is ctx. The caller
// closes it.
func NewLoader(ctx context.Context, c LoaderConfig) *Loader {
	total, accounts := c.Pressure.Budget(), c.Pressure.Accounts()
	limit := total.Limit()
	l := &Loader{
		tree: c.Tree, main: c.Session, asked: c.Query, env: c.Session.Env(), Schema: c.Tree.schema(c.Scanned), ctx: ctx,
		pressure: c.Pressure, accounts: accounts, mem: total, own: accounts.Allocator(budget.Relations), maxBytes: max(limit/8, 1),
		cache: newKeyCache(accounts.Allocator(budget.KeyCache), limit/4, 0), caching: c.Cache, tiers: map[*keyAccess]keyStore{},
		wanted: map[*node]bool{}, ahead: c.ReadAhead,
	}
	c.Tree.each(func(n *node) {
		l.relations = append(l.relations, Figures{Path: n.path})
		if n.depth == 1 && c.Tree.Strategy == query.Selective {
			l.wanted[n] = true
		}
	})
	return l
}

// Connect begins the session for look-ups where they need one of their own, so
// that the stream has what it needs from the start.
func (l *Loader) Connect(ctx context.Context) error {
	for _, t := range l.tree.tables()[1:] {
		if !l.shares(t) {
			_, err := l.session(ctx, t)
			return err
		}
	}
	return nil
}

// shares reports whether a table may be scanned in the session whose scan of the
// root is under way: its tables must take two at once, and where it was begun for
// several partitions, also for what nobody had named.
func (l *Loader) shares(t *sources.Table) bool {
	return t.Scans != 1 && l.tree.root.Scans != 1 && (l.env.Scans == 0 || len(l.tree.Nodes) > 0)
}

// session returns the session for look-ups in a table. A second one joins the
// moment of the first where the table can snapshot.
func (l *Loader) session(ctx context.Context, t *sources.Table) (sources.Session, error) {
	switch {
	case l.shares(t):
		return l.main, nil
	case l.second != nil:
		return l.second, nil
	}
	second, err := l.main.Second(ctx, l.asked)
	if err != nil {
		return nil, err
	}
	l.second = second
	return second, nil
}

// Close gives back what is held, once nothing reads any more.
func (l *Loader) Close() error {
	l.free()
	l.work.Lock()
	defer l.work.Unlock()
	l.cache.limit = 0
	second := l.second
	l.second = nil
	if second == nil {
		return nil
	}
	_, err := sources.Call("close", l.tree.root.Name, func() (struct{}, error) { return struct{}{}, second.Close() })
	return err
}

func (l *Loader) count(a *keyAccess, add func(*Figures)) {
	l.counts.Lock()
	defer l.counts.Unlock()
	add(&l.relations[a.figures])
}

// Report returns what the loader did so far: all look-ups, and the figures of each
// relation, parents first.
func (l *Loader) Report() (lookups int64, relations []Figures) {
	l.counts.Lock()
	defer l.counts.Unlock()
	for _, r := range l.relations {
		lookups += r.Lookups
	}
	return lookups, slices.Clone(l.relations)
}

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
	_, err = sources.Call("load", l.tree.root.Name, func() (struct{}, error) {
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
			_, err = sources.Call("load", l.tree.root.Name, func() (struct{}, error) {
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
	weights, err := sources.Call("load", l.tree.root.Name, func() ([]int32, error) { return s.weights(), nil })
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
	record, err = sources.Call("load", l.tree.root.Name, func() (arrow.RecordBatch, error) {
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
