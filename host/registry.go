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
)

// keptEnded is how many ended streams the registry keeps.
const keptEnded = 64

// registry holds the host's streams. It is safe for concurrent use.
type registry struct {
	mu    sync.Mutex
	count int64
	names map[string]*Running
	order []*Running // in the order of their opening
}

// Running is a handle to a stream of a host that is open or has ended recently. It lets
// goroutines other than the stream's consumer observe and control the stream. It is
// safe for concurrent use.
type Running struct {
	Name      string // unique among the host's streams
	Source    string // the name that precedes the colon in the source's URI
	Isolation Isolation
	Table     string
	Opened    time.Time

	source *Source
	stream *core.Stream // nil until it is open
}

// reserve enters a stream that is about to be opened under its name, or under a
// new one if it has none.
func (g *registry) reserve(name string, s *Source, table string) (*Running, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.names == nil {
		g.names = map[string]*Running{}
	}
	for given := name; name == "" || given == "" && g.names[name] != nil; {
		g.count++
		name = fmt.Sprintf("%s-%d", table, g.count)
	}
	if other := g.names[name]; other != nil {
		if other.stream == nil || !other.stream.Status().Ended() {
			err := invalid("stream", "another stream is named %q: give each a name of its own", name)
			err.Table = table
			return nil, err
		}
		g.removeLocked(other)
	}
	r := &Running{Name: name, Source: s.name, Isolation: s.isolation, Table: table, Opened: time.Now(), source: s}
	g.names[name] = r
	g.order = append(g.order, r)
	return r, nil
}

// removeLocked removes a stream. The caller holds the lock.
func (g *registry) removeLocked(r *Running) {
	if g.names[r.Name] == r {
		delete(g.names, r.Name)
	}
	g.order = slices.DeleteFunc(g.order, func(x *Running) bool { return x == r })
}

func (g *registry) remove(r *Running) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeLocked(r)
}

// opened sets the stream of an entry, and removes the oldest ended ones if there
// are more than keptEnded.
func (g *registry) opened(r *Running, stream *core.Stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.stream = stream
	excess := -keptEnded
	for _, x := range g.order {
		if x.stream != nil && x.stream.Status().Ended() {
			excess++
		}
	}
	for _, x := range slices.Clone(g.order) {
		if excess > 0 && x.stream != nil && x.stream.Status().Ended() {
			g.removeLocked(x)
			excess--
		}
	}
}

// list returns the streams that are open, and the latest ended ones.
func (g *registry) list() []*Running {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.order), func(r *Running) bool { return r.stream == nil })
}

// Streams returns the streams that are open, and the 64 that have ended last, in the
// order of their opening.
func (h *Host) Streams() []*Running { return h.registry.list() }

// Stream returns the stream with that name, if it is one of [Host.Streams], or nil.
func (h *Host) Stream(name string) *Running {
	h.registry.mu.Lock()
	defer h.registry.mu.Unlock()
	if r := h.registry.names[name]; r != nil && r.stream != nil {
		return r
	}
	return nil
}

// Receipt returns the stream's receipt, see [core.Stream.Receipt].
func (r *Running) Receipt() core.Receipt { return r.stream.Receipt() }

// Pause stops the stream before its next chunk until Resume is called, see
// [core.Stream.Pause].
func (r *Running) Pause() {
	if r.stream.Pause() {
		r.send(EventPaused, nil)
	}
}

// Resume ends a pause, see [core.Stream.Resume].
func (r *Running) Resume() {
	if r.stream.Resume() {
		r.send(EventResumed, nil)
	}
}

// Cancel makes the stream end with an error of kind [sources.Canceled] that wraps
// cause, which may be nil, see [core.Stream.Cancel].
func (r *Running) Cancel(cause error) {
	r.stream.Cancel(cause)
	r.send(EventCanceled, cause)
}

func (r *Running) send(kind EventKind, err error) {
	r.source.host.observers.send(r.event(Event{Kind: kind, Err: err}))
}

func (r *Running) event(e Event) Event {
	e.Stream, e.Source, e.Isolation, e.Table = r.Name, r.Source, r.Isolation, r.Table
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
			h.observers.send(r.event(Event{Kind: EventLevel, Level: &e}))
		},
		Fault: func(f retry.Fault) {
			log.Warn(string(f.Kind), "fault", f.Text, "try", f.Try, "wait", f.Wait)
			h.observers.send(r.event(Event{Kind: EventFault, Fault: &f}))
		},
		Chunk: func(rows, bytes int64) {
			if h.observers.any() {
				h.observers.send(r.event(Event{Kind: EventChunk, Rows: rows, Bytes: bytes}))
			}
		},
		End: func(receipt core.Receipt) {
			level := slog.LevelDebug
			if receipt.Error != "" {
				level = slog.LevelInfo // the stream's consumer gets the error itself
			}
			log.Log(context.Background(), level, "ended", "complete", receipt.Complete, "rows", receipt.Rows, "error", receipt.Error, "retries", receipt.Retries, "took", receipt.Elapsed)
			h.observers.send(r.event(Event{Kind: EventEnded, Receipt: &receipt, Status: r.stream.Status()}))
		},
	}
}
