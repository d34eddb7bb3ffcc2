// Package host is what an application embeds: it opens sources by URI and puts
// one memory budget over all their streams.
//
// See the package's example: a table is read in under 20 lines.
package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/serve"
)

// DefaultMemory is what all streams of a host may hold together when nobody
// says otherwise, in bytes: four streams of [core.DefaultMemory].
const DefaultMemory = 4 * core.DefaultMemory

// DefaultOpenWait is how long opening a source may take when nobody says
// otherwise. Compiling a module for the first time is in it.
const DefaultOpenWait = 5 * time.Minute

// Options are what a host works with.
type Options struct {
	// Sources are the ones that are linked into the application, by the name that
	// stands before the colon of a URI. An application pays for the drivers that
	// it puts here, and for no others.
	Sources map[string]sources.Open
	// Memory is the most that all streams hold together, in bytes; 0 is
	// [DefaultMemory].
	Memory int64
	// Pressure is that of streams whose own options leave it out: see
	// [budget.Pressure].
	Pressure budget.Pressure
	// Retry and Timeouts are those of streams whose own options leave them out, and
	// Breaker says when a source's breaker trips, which all of its streams share:
	// see [retry.Policy], [retry.Timeouts] and [retry.Breaker].
	Retry    retry.Policy
	Timeouts retry.Timeouts
	Breaker  retry.BreakerOptions
	// OpenWait is how long Open may take: 0 is [DefaultOpenWait], and less than 0
	// is for ever.
	OpenWait time.Duration
	// Isolation is the wall between the application and its sources.
	Isolation Isolation
	// Isolates are the bounds of the processes and modules that sources run in.
	Isolates Isolates
	// PluginPath are the directories in which sources are looked for that are not
	// linked in: executables named penstock-source-NAME, and WebAssembly modules
	// named NAME.wasm. nil is [DefaultPluginPath]; an empty list is none.
	PluginPath []string
	// Cache remembers what was read; nil is nothing: nobody is given an old answer
	// who did not ask for that.
	Cache *Cache
	// Logger takes what sources have to say beside their errors; nil discards it.
	Logger *slog.Logger
}

// Host opens sources and holds the budget of their streams. It is safe for
// concurrent use.
type Host struct {
	options  Options
	budget   *budget.Budget
	cache    *cache.Cache // nil where there is none
	registry registry
	watchers watchers

	mu     sync.Mutex
	closed bool
	open   map[*Source]struct{}
}

// New returns a host. The caller closes it.
func New(o Options) (*Host, error) {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(o.Isolation.check(), o.Isolates.check(), o.Pressure.Check(), o.Retry.Check()); err != nil {
		return nil, err
	}
	for name, open := range o.Sources {
		if !isName(name) || open == nil {
			return nil, &sources.Error{Op: "host", Kind: sources.Invalid, Err: fmt.Errorf("%q with %T is not a source", name, open)}
		}
	}
	o.Sources = maps.Clone(o.Sources)
	if o.PluginPath == nil {
		o.PluginPath = DefaultPluginPath()
	}
	budget, err := budget.New("host", o.Memory, nil)
	if err != nil {
		return nil, err
	}
	h := &Host{options: o, budget: budget, open: map[*Source]struct{}{}}
	if o.Cache != nil {
		if h.cache, err = o.Cache.open(h); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Budget is the one over all streams of the host.
func (h *Host) Budget() *budget.Budget { return h.budget }

// Holding says who holds how much now, of all streams together: what counts for
// the host's budget, and beside it the isolates, those too that wait for a
// stream.
func (h *Host) Holding() budget.Breakdown {
	h.mu.Lock()
	open := slices.Collect(maps.Keys(h.open))
	h.mu.Unlock()
	var all budget.Breakdown
	for _, s := range open {
		s.mu.Lock()
		streams := slices.Clone(s.streams)
		s.mu.Unlock()
		for _, stream := range streams {
			all.Add(stream.MemoryByOwner())
		}
	}
	all[budget.Sandboxes] = 0
	for _, i := range h.Isolates() {
		all[budget.Sandboxes] += i.Held
	}
	return all
}

// Open opens the source of a URI: SOURCE:WHERE, as in csv:DIR or
// csv:FILE?header=false, or a URL whose scheme is the source's name, as in
// postgres://user@server/database; a WebAssembly module, as in
// wasm:FILE.wasm?dir=DIR, see [wasm.OpenURI]; or an executable, as in
// plugin:PATH?uri=URI. A URI without a source that the host has is
// [sources.NotFound]; the source's own errors pass through. The caller closes
// the source, or the host.
func (h *Host) Open(ctx context.Context, uri string) (*Source, error) {
	name, config, err := ParseURI(uri)
	if err != nil {
		return nil, &sources.Error{Op: "open", Kind: sources.Invalid, Err: err}
	}
	if serve.InChild() {
		return nil, &sources.Error{Op: "open", Kind: sources.Invalid, Err: errors.New("this process was started by its own program to serve a source: call host.Main first in main")}
	}
	identity := h.identify(name, config)
	open, config, err := h.resolve(name, config)
	if err != nil {
		return nil, err
	}
	opened, err := h.openIn(ctx, open, config)
	if err != nil {
		return nil, err
	}
	s := &Source{Source: opened, host: h, name: name, identity: identity, wall: wallOf(name, h.options.Isolation, opened), opened: time.Now()}
	s.breaker = h.breaker(s)
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.open[s] = struct{}{}
	}
	h.mu.Unlock()
	if closed {
		err := &sources.Error{Op: "open", Kind: sources.Invalid, Err: errors.New("the host is closed")}
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openIn opens a source within the time that it may take.
func (h *Host) openIn(ctx context.Context, open sources.Open, config sources.Config) (sources.Source, error) {
	wait := cmp.Or(h.options.OpenWait, DefaultOpenWait)
	limited, cancel := ctx, context.CancelFunc(func() {})
	if wait > 0 {
		limited, cancel = context.WithTimeout(ctx, wait)
	}
	defer cancel()
	opened, err := sources.GuardCall("open", "", func() (sources.Source, error) { return open(limited, config) })
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return nil, &sources.Error{Op: "open", Kind: sources.Unavailable, Err: fmt.Errorf("the source did not open within %s", wait)}
	}
	return opened, err
}

// breaker makes the breaker of a source's streams, which the host watches.
func (h *Host) breaker(s *Source) *retry.Breaker {
	o := h.options.Breaker
	onChange := o.OnChange
	o.OnChange = func(from, to retry.Circuit) {
		h.options.Logger.Warn("circuit", "source", s.name, "from", from, "to", to)
		h.watchers.tell(Event{Kind: Circuit, Source: s.name, Wall: s.wall, From: from, To: to})
		if onChange != nil {
			onChange(from, to)
		}
	}
	return retry.NewBreaker(o)
}

// Close closes every source that is still open, as [Source.Close] does, and
// refuses to open more. A second Close does nothing.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	open := slices.Collect(maps.Keys(h.open))
	h.mu.Unlock()
	var faults []error
	for _, s := range open {
		faults = append(faults, s.Close())
	}
	if h.cache != nil {
		faults = append(faults, h.cache.Close())
	}
	h.budget.Close()
	return errors.Join(faults...)
}
