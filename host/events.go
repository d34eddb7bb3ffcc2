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

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	Opened    EventKind = "opened"    // a stream
	Chunked   EventKind = "chunk"     // the consumer is done with one: Rows and Bytes
	Levelled  EventKind = "level"     // a stream changed its level: Level
	Faulted   EventKind = "fault"     // a stream's source failed or stalled: Fault
	Held      EventKind = "paused"    // somebody paused a stream
	Released  EventKind = "resumed"   // and let it go on
	Cancelled EventKind = "cancelled" // somebody cancelled a stream
	Ended     EventKind = "ended"     // a stream, and has given everything back: Receipt
	Circuit   EventKind = "circuit"   // a source's breaker changed its state: From and To
	Checked   EventKind = "checked"   // a source was asked whether it works: Took, Err
)

// Event is something that happened to a stream or a source. Which of the last
// fields are set is the kind's to say.
type Event struct {
	At     time.Time
	Kind   EventKind
	Stream string // its name; empty where it is about a source
	Source string // the name before the colon of its URI
	Wall   Wall
	Table  string

	// Context is the one that the stream was opened with, and its trace: of Opened
	// alone.
	Context context.Context
	Status  core.Status // of a stream that has Ended

	Rows, Bytes int64
	Level       *budget.Event
	Fault       *retry.Fault
	Receipt     *core.Receipt
	From, To    retry.Circuit
	Took        time.Duration
	Err         error
}

// watchers are those who want to know. It is safe for concurrent use, and costs a
// look at one word where there are none.
type watchers struct {
	mu  sync.Mutex
	all atomic.Pointer[[]*watcher]
}

type watcher struct{ tell func(Event) }

func (w *watchers) add(tell func(Event)) (remove func()) {
	one := &watcher{tell}
	w.change(func(all []*watcher) []*watcher { return append(all, one) })
	return func() {
		w.change(func(all []*watcher) []*watcher {
			return slices.DeleteFunc(all, func(x *watcher) bool { return x == one })
		})
	}
}

func (w *watchers) change(f func([]*watcher) []*watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*watcher
	if now := w.all.Load(); now != nil {
		all = slices.Clone(*now)
	}
	all = f(all)
	w.all.Store(&all)
}

func (w *watchers) any() bool {
	all := w.all.Load()
	return all != nil && len(*all) > 0
}

func (w *watchers) tell(e Event) {
	all := w.all.Load()
	if all == nil {
		return
	}
	e.At = time.Now()
	for _, one := range *all {
		one.tell(e)
	}
}

// Observe has f called for every event of the host's streams and sources, on the
// goroutine where it happens: it holds that up until it returns, and must neither
// wait nor ask the host, its sources or its streams for anything. The result ends
// it. See [Host.Subscribe] for a channel.
func (h *Host) Observe(f func(Event)) (remove func()) { return h.watchers.add(f) }

// Subscription is a channel of events that never holds a stream up: what its
// reader is too slow for is lost, and counted.
type Subscription struct {
	// Events is closed by Close.
	Events <-chan Event

	events  chan Event
	remove  func()
	dropped atomic.Int64
	mu      sync.Mutex
	closed  bool
}

// Subscribe returns a subscription with room for so many events that wait to be
// read, at least one. The caller closes it.
func (h *Host) Subscribe(room int) *Subscription {
	s := &Subscription{events: make(chan Event, max(room, 1))}
	s.Events = s.events
	s.remove = h.watchers.add(s.put)
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

// Dropped is how many events were lost because nobody read them in time.
func (s *Subscription) Dropped() int64 { return s.dropped.Load() }

// Close ends the subscription. A second Close does nothing.
func (s *Subscription) Close() {
	s.remove()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.events)
	}
}
