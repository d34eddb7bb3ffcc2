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
	return t.MaxScans != 1 && l.tree.root.MaxScans != 1 && (l.env.MaxScans == 0 || len(l.tree.Nodes) > 0)
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
	_, err := sources.GuardCall("close", l.tree.root.Name, func() (struct{}, error) { return struct{}{}, second.Close() })
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
