package host

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/retry"
)

// EventKind is the kind of an [Event].
type EventKind string

// The kinds of events, and the fields that each sets beside At, Kind, Source and
// Isolation. All but EventCircuit and EventHealth are about a stream, and set
// Stream and Table too.
const (
	EventOpened   EventKind = "opened"   // a stream was opened; sets Context
	EventChunk    EventKind = "chunk"    // the consumer has finished a chunk; sets Rows and Bytes
	EventLevel    EventKind = "level"    // a stream changed its level; sets Level
	EventFault    EventKind = "fault"    // a stream's source failed or stalled; sets Fault
	EventPaused   EventKind = "paused"   // a stream was paused by [Running.Pause]
	EventResumed  EventKind = "resumed"  // a stream was resumed by [Running.Resume]
	EventCanceled EventKind = "canceled" // a stream was canceled by [Running.Cancel]; sets Err to its cause
	EventEnded    EventKind = "ended"    // a stream has ended and released its memory; sets Receipt and Status
	EventCircuit  EventKind = "circuit"  // a source's circuit breaker changed its state; sets From and To
	EventHealth   EventKind = "checked"  // a source's health was checked by [Source.Check]; sets Took and Err
)

// Event reports something that happened to a stream or a source. Which of the
// fields after Table are set depends on Kind. Observers share an event, and must not
// modify what it points to.
type Event struct {
	At        time.Time
	Kind      EventKind
	Stream    string // the stream's name; empty for an event of a source
	Source    string // the name that precedes the colon in the source's URI
	Isolation Isolation
	Table     string // the stream's table; empty for an event of a source

	Context context.Context // the context that the stream was opened with, for its trace
	Status  core.Status     // how the stream has ended

	Rows, Bytes int64         // the size of the chunk; bytes as [sources.Size] counts
	Level       *budget.Event // the change of level
	Fault       *retry.Fault  // the problem with the source
	Receipt     *core.Receipt // the stream's final receipt
	From, To    retry.Circuit // the states of the circuit breaker before and after
	Took        time.Duration // how long the check took
	Err         error         // the error of the check, or the cause of the cancellation
}

// observers are the functions that receive a host's events. It is safe for
// concurrent use; without observers an event costs one atomic load.
type observers struct {
	mu  sync.Mutex
	all atomic.Pointer[[]*observer]
}

type observer struct{ receive func(Event) }

func (o *observers) add(receive func(Event)) (remove func()) {
	added := &observer{receive}
	o.change(func(all []*observer) []*observer { return append(all, added) })
	return func() {
		o.change(func(all []*observer) []*observer {
			return slices.DeleteFunc(all, func(x *observer) bool { return x == added })
		})
	}
}

func (o *observers) change(f func([]*observer) []*observer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []*observer
	if now := o.all.Load(); now != nil {
		all = slices.Clone(*now)
	}
	all = f(all)
	o.all.Store(&all)
}

func (o *observers) any() bool {
	all := o.all.Load()
	return all != nil && len(*all) > 0
}

// send calls every observer with the event.
func (o *observers) send(e Event) {
	all := o.all.Load()
	if all == nil {
		return
	}
	e.At = time.Now()
	for _, x := range *all {
		x.receive(e)
	}
}

// Observe registers f to be called for every event of the host's streams and
// sources, until remove is called. f is called on the goroutine where the event
// happens, which waits for f to return. It may be called by several goroutines at
// once. It must not block, and must not call methods of the host, its sources or its
// streams; for a consumer of events that does, use [Host.Subscribe].
func (h *Host) Observe(f func(Event)) (remove func()) { return h.observers.add(f) }

// Subscription delivers events on a channel. It never delays a stream: events
// that do not fit into the channel's buffer are dropped and counted. It is safe
// for concurrent use.
type Subscription struct {
	// Events delivers the events. [Subscription.Close] closes it.
	Events <-chan Event

	events  chan Event
	remove  func()
	dropped atomic.Int64
	mu      sync.Mutex
	closed  bool
}

// Subscribe returns a subscription to the events of the host's streams and sources.
// Its channel buffers the given number of events, or one if that is less. The caller
// closes the subscription.
func (h *Host) Subscribe(buffer int) *Subscription {
	s := &Subscription{events: make(chan Event, max(buffer, 1))}
	s.Events = s.events
	s.remove = h.observers.add(s.put)
	return s
}

func (s *Subscription) put(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	select {
	case s.events <- e:
	default:
		s.dropped.Add(1)
	}
}

// Dropped returns the number of events that were dropped because the buffer was
// full.
func (s *Subscription) Dropped() int64 { return s.dropped.Load() }

// Close ends the subscription. Calling it again has no effect.
func (s *Subscription) Close() {
	s.remove()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.events)
	}
}
