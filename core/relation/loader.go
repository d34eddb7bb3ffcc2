package relation

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/internal/lock"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// LoaderConfig configures a [Loader].
type LoaderConfig struct {
	Tree      *Tree
	Session   *cache.Session // reads the rows, and also looks up if it can do both
	Query     *sources.Query // the query that Session scans
	Scanned   *arrow.Schema  // the schema of the chunks that come in
	Pressure  *budget.Backpressure
	Cache     cache.Use
	ReadAhead bool // look up the next chunk's relations while the consumer has this one
}

// Loader adds relations to chunks. For each relation it looks up the distinct keys
// of a chunk, however many rows the chunk has. It is for one goroutine, except for
// Field, Report and the [Columns] of its chunks.
type Loader struct {
	tree        *Tree
	mainSession *cache.Session  // reads the rows
	mainQuery   *sources.Query  // what mainSession scans
	env         sources.Env     // of mainSession
	Schema      *arrow.Schema   // of the records that the loader yields
	ctx         context.Context // the stream's
	pressure    *budget.Backpressure
	accounts    *budget.Accounts
	mem         memory.Allocator // the stream's budget, for what the consumer gets
	workMem     memory.Allocator // the same, for what stays in the loader
	maxBytes    int64            // of related rows in a batch, unless it is a single row

	// lookups is held while look-ups run, for a chunk or for an optional relation that the
	// consumer asked for.
	lookups       lock.Lock
	lookupSession sources.Session // if mainSession allows one scan at a time; nil until needed
	cache         *keyCache
	cacheUse      cache.Use
	sharedTiers   map[*keyAccess]keyStore // key stores that streams share; nil if there is none for an access
	extraNodes    []*node                 // relations that the query does not name
	preload       map[*node]bool          // optional relations to load with the next chunk

	// The following fields are for the goroutine that ranges over the chunks.

	readAhead bool   // look-ups for the next chunk may run while the consumer has this one
	batchRows int    // the size of batches; 0 means the whole chunk
	fitted    int    // batches since the last one that did not fit
	current   *batch // whose chunk the consumer has; nil if there is none

	figuresMu sync.Mutex
	figures   []Figures
}

// errTooMany ends a batch with more related rows than maxBytes.
var errTooMany = errors.New("one batch has too many related rows")

// Figures are the figures of one relation.
type Figures struct {
	Path       string // the relation's path, such as lines.product
	Lookups    int64  // scans of the related tables
	Keys       int64  // distinct keys of all chunks
	Remembered int64  // of Keys: found in a cache
	Rows       int64  // related rows read
	Skipped    int64  // records that the source skipped, the most in one look-up
	Dangling   int64  // references that lead to no row
}

// NewLoader returns a loader for the stream with the context ctx. The caller
// closes it.
func NewLoader(ctx context.Context, c LoaderConfig) *Loader {
	total, accounts := c.Pressure.Budget(), c.Pressure.Accounts()
	limit := total.Limit()
	l := &Loader{
		tree: c.Tree, mainSession: c.Session, mainQuery: c.Query, env: c.Session.Env(), Schema: c.Tree.schema(c.Scanned), ctx: ctx,
		pressure: c.Pressure, accounts: accounts, mem: total, workMem: accounts.Allocator(budget.Relations), maxBytes: max(limit/8, 1),
		cache: newKeyCache(accounts.Allocator(budget.KeyCache), limit/4, 0), cacheUse: c.Cache, sharedTiers: map[*keyAccess]keyStore{},
		preload: map[*node]bool{}, readAhead: c.ReadAhead, lookups: lock.New(),
	}
	c.Tree.each(func(n *node) {
		l.figures = append(l.figures, Figures{Path: n.path})
		if n.depth == 1 && c.Tree.Strategy == query.Selective {
			l.preload[n] = true
		}
	})
	return l
}

// Connect begins the session for look-ups if they need one of their own. Its
// errors are the source's.
func (l *Loader) Connect(ctx context.Context) error {
	for _, t := range l.tree.tables()[1:] {
		if !l.shares(t) {
			_, err := l.session(ctx, t)
			return err
		}
	}
	return nil
}

// Plans plans a scan of each related table, in a session that looks up in it, and calls
// visit with the plan. Its errors are the source's. It must not run beside look-ups.
func (l *Loader) Plans(ctx context.Context, visit func(t *sources.Table, plan *sources.Plan)) error {
	for _, t := range l.tree.tables()[1:] {
		session, err := l.session(ctx, t)
		if err != nil {
			return err
		}
		plan, err := session.Plan(ctx, &sources.Query{Table: t.Name})
		if err != nil {
			return err
		}
		visit(t, plan)
	}
	return nil
}

// shares reports whether look-ups in a table can use the session that scans the
// root. Both tables must allow two scans at once, and a session that was begun
// with a fixed number of scans must have planned for relations.
func (l *Loader) shares(t *sources.Table) bool {
	return t.MaxScans != 1 && l.tree.root.MaxScans != 1 && (l.env.MaxScans == 0 || len(l.tree.nodes) > 0)
}

// session returns the session for look-ups in a table. A session of the look-ups'
// own joins the snapshot of the main one if the table has snapshots.
func (l *Loader) session(ctx context.Context, t *sources.Table) (sources.Session, error) {
	switch {
	case l.shares(t):
		return l.mainSession, nil
	case l.lookupSession != nil:
		return l.lookupSession, nil
	}
	second, err := l.mainSession.Second(ctx, l.mainQuery)
	if err != nil {
		return nil, err
	}
	l.lookupSession = second
	return second, nil
}

// Close releases the loader's memory and closes its own session. No look-up may be
// running.
func (l *Loader) Close() error {
	l.lookups.Lock()
	defer l.lookups.Unlock()
	l.cache.evict()
	l.cache.limit = 0
	second := l.lookupSession
	l.lookupSession = nil
	if second == nil {
		return nil
	}
	_, err := sources.GuardCall("close", l.tree.root.Name, func() (struct{}, error) { return struct{}{}, second.Close() })
	return err
}

// count updates the figures of a relation.
func (l *Loader) count(a *keyAccess, add func(*Figures)) {
	l.figuresMu.Lock()
	defer l.figuresMu.Unlock()
	add(&l.figures[a.figuresIndex])
}

// Report returns the total number of look-ups and the figures of each relation so
// far, parents first. It is safe for concurrent use.
func (l *Loader) Report() (lookups int64, relations []Figures) {
	l.figuresMu.Lock()
	defer l.figuresMu.Unlock()
	for _, r := range l.figures {
		lookups += r.Lookups
	}
	return lookups, slices.Clone(l.figures)
}
