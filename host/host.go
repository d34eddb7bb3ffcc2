// Package host is the package that applications embed: it opens sources by URI
// and runs their streams under one memory budget.
//
// [New] returns a [Host], [Host.Open] opens a source, and [Source.Stream] reads a table
// of it. [Host.Streams] lists the streams and controls them; [Host.Observe] and
// [Host.Subscribe] report what happens to them.
//
// By itself, a host runs sources within the application's process. To run them in
// isolation, an application adds walls to [Options]: package host/process runs sources
// as processes, package wasm runs WebAssembly modules. The code of a wall is linked
// into an application only if it imports that package.
package host

import (
	"cmp"
	"context"
	"errors"
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
	"github.com/penstock-data/penstock/sources/wall"
)

// DefaultMemory is the default of [Options.Memory], in bytes: four streams of
// [core.DefaultMemory].
const DefaultMemory = 4 * core.DefaultMemory

// DefaultOpenTimeout is the default of [Options.OpenTimeout]. It leaves time to
// compile a WebAssembly module for the first time.
const DefaultOpenTimeout = 5 * time.Minute

// Options configures a host. The zero value is ready to use, but it has no linked
// sources, and no walls to run those on the plugin path.
type Options struct {
	// Sources are the sources that are linked into the application, by the name
	// that precedes the colon in a URI. An application carries only the drivers
	// that it names here.
	Sources map[string]sources.Open
	// Walls are the ways in which the host can run sources in isolation:
	// process.Wall() of package host/process and wasm.Wall() of package wasm. If a
	// source needs a wall that is missing, [Host.Open] returns an error of kind
	// [sources.Invalid] that names the package to import.
	Walls []wall.Wall
	// Isolation is where sources run; the zero value is [Default].
	Isolation Isolation
	// Sandboxes limits the processes that sources run in.
	Sandboxes SandboxOptions
	// Memory is the most that all streams and the cache together may hold, in bytes; 0
	// means [DefaultMemory]. The memory of sandboxes is limited by Sandboxes.
	Memory int64
	// Pressure applies to streams whose own options leave it zero; see
	// [budget.Pressure].
	Pressure budget.Pressure
	// Retry and Timeouts apply to streams whose own options leave them zero; see
	// [retry.Policy] and [retry.Timeouts].
	Retry    retry.Policy
	Timeouts retry.Timeouts
	// Breaker configures the circuit breaker that all streams of a source share;
	// see [retry.Breaker].
	Breaker retry.BreakerOptions
	// OpenTimeout is how long [Host.Open] may take; 0 means [DefaultOpenTimeout], and a
	// negative duration means no limit.
	OpenTimeout time.Duration
	// PluginPath lists the directories to search for sources that are not linked in:
	// executables named penstock-source-NAME, and WebAssembly modules named NAME.wasm.
	// nil means [DefaultPluginPath]; an empty list means none. A plugin in a directory that
	// is relative, or that every user of the machine can write to, is an error of kind
	// [sources.Denied] when it is opened; so is one that every user can change or replace.
	PluginPath []string
	// Cache, if non-nil, configures a cache of query results. A stream may then get
	// rows that were read earlier, within [Cache.TTL]. nil means no cache.
	Cache *Cache
	// Logger receives the host's own log and what sources write to standard error.
	// If nil, both are discarded.
	Logger *slog.Logger
}

// Host opens sources and owns the memory budget of their streams. It is safe for
// concurrent use.
type Host struct {
	options   Options
	walls     map[Isolation]wall.Wall // Process and Module
	budget    *budget.Budget
	cache     *cache.Cache // nil if there is none
	registry  registry
	observers observers

	mu     sync.Mutex
	closed bool
	open   map[*Source]struct{}
}

// New returns a host. The caller closes it. If the options are not valid, the error is
// of kind [sources.Invalid].
func New(o Options) (*Host, error) {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	walls, err := wallsByIsolation(o.Walls)
	if err := errors.Join(err, o.Isolation.check(walls), o.Sandboxes.check(), o.Pressure.Check(), o.Retry.Check()); err != nil {
		return nil, err
	}
	for name, open := range o.Sources {
		switch {
		case !isName(name):
			return nil, invalid("host", "Sources: %q is not a valid name: use a letter followed by letters, digits, - and _", name)
		case open == nil:
			return nil, invalid("host", "Sources: the function that opens %q is nil", name)
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
	h := &Host{options: o, walls: walls, budget: budget, open: map[*Source]struct{}{}}
	if o.Cache != nil {
		if h.cache, err = o.Cache.open(h); err != nil {
			return nil, err
		}
		if o.Cache.Store != nil && !thisBuild().known {
			o.Logger.Warn("results are cached in memory only: this program was built from files with uncommitted changes")
		}
	}
	return h, nil
}

// invalid returns an error of kind [sources.Invalid].
func invalid(op, format string, args ...any) *sources.Error {
	return sources.Errorf(sources.Invalid, op, "", format, args...)
}

// Budget returns the memory budget of all streams of the host.
func (h *Host) Budget() *budget.Budget { return h.budget }

// MemoryByOwner returns how many bytes all streams together hold now, by owner. Its
// [budget.Sandboxes] are the sandboxes of all sources, including idle ones; they do not
// count toward the host's budget.
func (h *Host) MemoryByOwner() budget.Breakdown {
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
	for _, sandbox := range h.Sandboxes() {
		all[budget.Sandboxes] += sandbox.Held
	}
	return all
}

// Open opens the source that a URI names. The context applies to Open only, not to the
// source. The caller closes the source, or the host. A URI has one of these forms:
//
//   - SOURCE:WHERE, as in csv:DIR or csv:FILE?header=false
//   - a URL whose scheme is the source's name, as in
//     postgres://user@server/database
//   - wasm:FILE.wasm?dir=DIR, a WebAssembly module; package wasm lists the options
//   - plugin:PATH?uri=URI, an executable
//
// If the host has no such source, the error is of kind [sources.NotFound]. If the URI is
// malformed, or needs a wall that is missing from [Options.Walls], it is of kind
// [sources.Invalid]. If opening takes longer than [Options.OpenTimeout], it is of kind
// [sources.Unavailable]. Other errors are those of the source.
func (h *Host) Open(ctx context.Context, uri string) (*Source, error) {
	name, config, err := ParseURI(uri)
	if err != nil {
		return nil, sources.NewError(sources.Invalid, "open", "", err)
	}
	if wall.InChild() {
		return nil, invalid("open", "this process was started by its own program to serve a source: call process.Main first in main (import %s)", wallPackages[Process])
	}
	var id identity
	if h.cache != nil {
		id = h.identify(name, config)
	}
	open, config, err := h.resolve(name, config)
	if err != nil {
		return nil, err
	}
	opened, err := h.openWithin(ctx, open, config)
	if err != nil {
		return nil, err
	}
	s := &Source{Source: opened, host: h, name: name, identity: id, isolation: isolationOf(name, h.options.Isolation, opened), opened: time.Now()}
	s.breaker = h.breaker(s)
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.open[s] = struct{}{}
	}
	h.mu.Unlock()
	if closed {
		return nil, errors.Join(invalid("open", "the host is closed"), s.Close())
	}
	return s, nil
}

// openWithin opens a source within OpenTimeout. A source that opens later is closed.
func (h *Host) openWithin(ctx context.Context, open sources.Open, config sources.Config) (sources.Source, error) {
	timeout := cmp.Or(h.options.OpenTimeout, DefaultOpenTimeout)
	opened, _, err := retry.Call(ctx, nil, timeout, "open", "", func(ctx context.Context) (sources.Source, error) { return open(ctx, config) }, func(late sources.Source, err error) {
		if err != nil {
			return
		}
		if err := late.Close(); err != nil {
			h.options.Logger.Warn("a source that opened too late could not be closed", "error", err)
		}
	})
	return opened, err
}

// breaker returns the breaker that the streams of a source share. Its changes
// are logged and sent to the host's observers.
func (h *Host) breaker(s *Source) *retry.Breaker {
	o := h.options.Breaker
	onChange := o.OnChange
	o.OnChange = func(from, to retry.Circuit) {
		h.options.Logger.Warn("circuit", "source", s.name, "from", from, "to", to)
		h.observers.send(Event{Kind: EventCircuit, Source: s.name, Isolation: s.isolation, From: from, To: to})
		if onChange != nil {
			onChange(from, to)
		}
	}
	return retry.NewBreaker(o)
}

// Close closes every source that is still open, as [Source.Close] does, and the
// cache. It may take as long as Source.Close, and returns the errors of all sources.
// Afterwards Open fails. Calling Close again has no effect.
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
