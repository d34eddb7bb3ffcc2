package host

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/host/process"
	"github.com/penstock-data/penstock/sources"
)

// Wall is what stands between the application and a source.
type Wall string

// The walls of open sources.
const (
	WallNone    Wall = "inproc"  // nothing: it runs within the application
	WallProcess Wall = "process" // processes of its own
	WallModule  Wall = "wasm"    // WebAssembly modules, in processes of their own or within the application
)

// keptEnded is how many streams that have ended the registry remembers.
const keptEnded = 64

// registry knows the host's streams. It is safe for concurrent use.
type registry struct {
	mu    sync.Mutex
	count int64
	names map[string]*Running
	order []*Running // as they were opened
}

// Running is a stream in the host's registry, running or not: what watches and
// steers it beside its consumer. It is safe for concurrent use.
type Running struct {
	Name   string // unique among the host's
	Source string // the name before the colon of its URI
	Wall   Wall
	Table  string
	Opened time.Time

	source *Source
	stream *core.Stream // nil while it is being opened
}

// Health is a stream as it is now. Its JSON names are stable.
type Health struct {
	Name     string           `json:"name"`
	Source   string           `json:"source"`
	Wall     Wall             `json:"wall"`
	Table    string           `json:"table"`
	Status   core.Status      `json:"status"`
	Opened   time.Time        `json:"opened"`
	Progress core.Progress    `json:"progress"`
	Held     budget.Breakdown `json:"held"` // bytes by holder
	Limit    int64            `json:"limit_bytes"`
	Retries  int64            `json:"retries"`
	Stalls   int64            `json:"stalls"`
	Error    string           `json:"error,omitempty"`
}

// enter takes a stream's name before the stream is opened.
func (g *registry) enter(name string, s *Source, table string) (*Running, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.names == nil {
		g.names = map[string]*Running{}
	}
	for given := name; name == "" || given == "" && g.names[name] != nil; {
		g.count++
		name = fmt.Sprintf("%s-%d", table, g.count)
	}
	if was := g.names[name]; was != nil {
		if was.stream == nil || !was.stream.Status().Ended() {
			return nil, &sources.Error{Op: "stream", Table: table, Kind: sources.Invalid, Err: fmt.Errorf("there is a stream named %q already", name)}
		}
		g.forget(was)
	}
	r := &Running{Name: name, Source: s.name, Wall: s.wall, Table: table, Opened: time.Now(), source: s}
	g.names[name] = r
	g.order = append(g.order, r)
	return r, nil
}

// forget drops a stream. The caller holds the lock.
func (g *registry) forget(r *Running) {
	if g.names[r.Name] == r {
		delete(g.names, r.Name)
	}
	g.order = slices.DeleteFunc(g.order, func(x *Running) bool { return x == r })
}

func (g *registry) drop(r *Running) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(r)
}

// opened fills in the stream, and lets go of the oldest ones that have ended.
func (g *registry) opened(r *Running, stream *core.Stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.stream = stream
	over := -keptEnded
	for _, x := range g.order {
		if x.stream != nil && x.stream.Status().Ended() {
			over++
		}
	}
	for _, x := range slices.Clone(g.order) {
		if over > 0 && x.stream != nil && x.stream.Status().Ended() {
			g.forget(x)
			over--
		}
	}
}

// list returns the streams that are open or have ended lately.
func (g *registry) list() []*Running {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.order), func(r *Running) bool { return r.stream == nil })
}

// Streams are the host's streams as they were opened, and the latest ones that
// have ended.
func (h *Host) Streams() []*Running { return h.registry.list() }

// Stream returns the stream of that name, or nil.
func (h *Host) Stream(name string) *Running {
	h.registry.mu.Lock()
	defer h.registry.mu.Unlock()
	if r := h.registry.names[name]; r != nil && r.stream != nil {
		return r
	}
	return nil
}

// Health says how the stream is now.
func (r *Running) Health() Health {
	receipt := r.stream.Receipt()
	return Health{
		Name: r.Name, Source: r.Source, Wall: r.Wall, Table: r.Table, Opened: r.Opened, Status: r.stream.Status(),
		Progress: r.stream.Progress(), Held: r.stream.MemoryByOwner(), Limit: receipt.LimitBytes,
		Retries: receipt.Retries, Stalls: receipt.Stalls, Error: receipt.Error,
	}
}

// Receipt is the stream's.
func (r *Running) Receipt() core.Receipt { return r.stream.Receipt() }

// Pause holds the stream before its next chunk, see [core.Stream.Pause].
func (r *Running) Pause() {
	if r.stream.Pause() {
		r.tell(Held, nil)
	}
}

// Resume lets a paused stream go on.
func (r *Running) Resume() {
	if r.stream.Resume() {
		r.tell(Released, nil)
	}
}

// Cancel ends the stream, see [core.Stream.Cancel].
func (r *Running) Cancel(cause error) {
	r.stream.Cancel(cause)
	r.tell(Cancelled, cause)
}

func (r *Running) tell(kind EventKind, err error) {
	r.source.host.watchers.tell(r.event(Event{Kind: kind, Err: err}))
}

func (r *Running) event(e Event) Event {
	e.Stream, e.Source, e.Wall, e.Table = r.Name, r.Source, r.Wall, r.Table
	return e
}

// observer returns the functions by which the host logs what happens to the
// stream, and reports it to [Host.Observe].
func (r *Running) observer() core.Observer {
	h := r.source.host
	log := h.options.Logger.With("stream", r.Name, "source", r.Source)
	return core.Observer{
		Level: func(e budget.Event) {
			log.Info("level", "from", e.From, "to", e.To, "why", e.Why)
			h.watchers.tell(r.event(Event{Kind: Levelled, Level: &e}))
		},
		Fault: func(f retry.Fault) {
			log.Warn(string(f.Kind), "fault", f.Text, "try", f.Try, "wait", f.Wait)
			h.watchers.tell(r.event(Event{Kind: Faulted, Fault: &f}))
		},
		Chunk: func(rows, bytes int64) {
			if h.watchers.any() {
				h.watchers.tell(r.event(Event{Kind: Chunked, Rows: rows, Bytes: bytes}))
			}
		},
		End: func(receipt core.Receipt) {
			level := slog.LevelDebug
			if receipt.Error != "" {
				level = slog.LevelInfo // whoever reads the stream has the error
			}
			log.Log(context.Background(), level, "ended", "complete", receipt.Complete, "rows", receipt.Rows, "error", receipt.Error, "retries", receipt.Retries, "took", receipt.Elapsed)
			h.watchers.tell(r.event(Event{Kind: Ended, Receipt: &receipt, Status: r.stream.Status()}))
		},
	}
}

// SourceHealth is an open source as it is now. Its JSON names are stable.
type SourceHealth struct {
	Source  string        `json:"source"` // the name before the colon of its URI
	Wall    Wall          `json:"wall"`
	Circuit retry.Circuit `json:"circuit"`
	// Until is when a source whose circuit is open may be tried next.
	Until    time.Time `json:"until,omitzero"`
	Streams  int       `json:"streams"` // that have not ended
	Isolates []Isolate `json:"isolates,omitempty"`
}

// Health says how the source is, without asking it.
func (s *Source) Health() SourceHealth {
	state, until := s.breaker.State()
	s.mu.Lock()
	streams := 0
	for _, stream := range s.streams {
		if !ended(stream) {
			streams++
		}
	}
	s.mu.Unlock()
	return SourceHealth{Source: s.name, Wall: s.wall, Circuit: state, Until: until, Streams: streams, Isolates: s.Isolates()}
}

// checkMemory is what a check's session may hold: it reads nothing.
const checkMemory = 1 << 20

// Check asks the source whether it works: it begins a session and ends it. The
// error is the source's.
func (s *Source) Check(ctx context.Context) error {
	started := time.Now()
	err := s.check(ctx)
	s.host.watchers.tell(Event{Kind: Checked, Source: s.name, Wall: s.wall, Took: time.Since(started), Err: err})
	return err
}

func (s *Source) check(ctx context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return &sources.Error{Op: "check", Kind: sources.Invalid, Err: fmt.Errorf("the source %q is closed", s.name)}
	}
	s.opening.Add(1)
	s.mu.Unlock()
	defer s.opening.Done()
	ctx, cancel := context.WithTimeoutCause(ctx, s.callLimit(), &sources.Error{Op: "check", Kind: sources.Unavailable, Err: fmt.Errorf("no answer within %s", s.callLimit())})
	defer cancel()
	budget, err := budget.New("check", checkMemory, s.host.budget)
	if err != nil {
		return err
	}
	defer budget.Close()
	session, err := sources.GuardCall("check", "", func() (sources.Session, error) { return s.Begin(ctx, sources.Env{Mem: budget}) })
	if err != nil {
		return err
	}
	_, err = sources.GuardCall("check", "", func() (struct{}, error) { return struct{}{}, session.Close() })
	return err
}

// HostHealth is the whole host as it is now. Its JSON names are stable.
type HostHealth struct {
	// Good is whether every source may be asked.
	Good    bool           `json:"good"`
	Memory  int64          `json:"memory_bytes"` // that all streams hold
	Limit   int64          `json:"limit_bytes"`
	Sources []SourceHealth `json:"sources"`
	Streams []Health       `json:"streams"`
}

// Health says how everything is, without asking any source.
func (h *Host) Health() HostHealth {
	all := HostHealth{Good: true, Memory: h.budget.Held(), Limit: h.budget.Limit()}
	for _, s := range h.sources() {
		health := s.Health()
		all.Good = all.Good && health.Circuit != retry.CircuitOpen
		all.Sources = append(all.Sources, health)
	}
	for _, r := range h.Streams() {
		all.Streams = append(all.Streams, r.Health())
	}
	return all
}

// sources are the open ones, by name.
func (h *Host) sources() []*Source {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Source
	for s := range h.open {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Source) int { return a.opened.Compare(b.opened) })
	return all
}

// wallOf says what stands before an open source.
func wallOf(name string, isolation Isolation, opened sources.Source) Wall {
	_, behind := opened.(interface{ Isolates() []process.Usage })
	switch {
	case name == "wasm" || isolation == Module:
		return WallModule
	case behind:
		return WallProcess
	}
	return WallNone
}
