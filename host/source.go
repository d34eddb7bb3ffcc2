package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// Source is an open source of a host. It is safe for concurrent use.
type Source struct {
	// Source is the source itself, for its catalogue. A session that is begun
	// here directly is the caller's own to close, before the source.
	sources.Source

	host     *Host
	name     string
	identity query.Fingerprint
	wall     Wall
	opened   time.Time
	breaker  *retry.Breaker

	mu      sync.Mutex
	closing bool           // no stream is opened any more
	opening sync.WaitGroup // streams that are being opened
	streams []*core.Stream // those that may not have ended

	closeMu sync.Mutex // one Close at a time
	closed  bool
}

// Stream returns the stream of a query, like [core.Open], with the host's budget
// and cache and the source's breaker. [Host.Observe] reports what happens to it.
//
// The host's Pressure, Retry and Timeouts apply where the options have none, and a
// stream without a name gets one. If the host has no room for another stream,
// Stream waits or fails as Options.Pressure says.
func (s *Source) Stream(ctx context.Context, q core.Query, o core.Options) (*core.Stream, error) {
	if o.Pressure == (budget.Pressure{}) {
		o.Pressure = s.host.options.Pressure
	}
	if o.Retry == (retry.Policy{}) {
		o.Retry = s.host.options.Retry
	}
	if o.Timeouts == (retry.Timeouts{}) {
		o.Timeouts = s.host.options.Timeouts
	}
	if o.Timeouts.Call == 0 {
		o.Timeouts.Call = s.callLimit()
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil, &sources.Error{Op: "stream", Table: q.Table, Kind: sources.Invalid, Err: fmt.Errorf("the source %q is closed", s.name)}
	}
	s.opening.Add(1)
	s.mu.Unlock()
	defer s.opening.Done()
	running, err := s.host.registry.enter(o.Name, s, q.Table)
	if err != nil {
		return nil, err
	}
	o.Name = running.Name
	stream, err := core.Open(ctx, s.Source, q, o, core.Resources{
		Budget: s.host.budget, Breaker: s.breaker, Cache: s.host.cache, SourceID: s.identity, Observer: running.observer(),
	})
	if err != nil {
		s.host.registry.drop(running)
		return nil, err
	}
	s.host.registry.opened(running, stream)
	s.host.watchers.tell(running.event(Event{Kind: Opened, Context: ctx}))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams = append(slices.DeleteFunc(s.streams, ended), stream)
	return stream, nil
}

// callLimit is how long a call may take where nobody says: one to a module may
// have to compile it.
func (s *Source) callLimit() time.Duration {
	if s.wall == WallModule {
		return compileTime
	}
	if limit := s.host.options.Timeouts.Call; limit > 0 {
		return limit
	}
	return retry.DefaultCallTimeout
}

func ended(s *core.Stream) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// loopWait is how long Close waits for a loop that was told to end. A loop that
// waits for its source ends within a second; one whose consumer is busy ends
// when the consumer asks for the next chunk.
const loopWait = 10 * time.Second

// Close waits for streams that are being opened, closes those that are still
// open and then the source. Streams
// whose loops run in other goroutines end with an error of kind
// [sources.Canceled]; a consumer that does not come back to its loop within ten
// seconds is an error that names its table, and its source stays open. A second
// Close does nothing.
func (s *Source) Close() error {
	s.closeMu.Lock()
	defer s.closeMu.Unlock()
	if s.closed {
		return nil
	}
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.opening.Wait()
	var faults []error
	for _, stream := range s.streams {
		faults = append(faults, stream.Close())
	}
	wait := time.NewTimer(loopWait)
	defer wait.Stop()
	for _, stream := range s.streams {
		select {
		case <-stream.Done():
		case <-wait.C:
			faults = append(faults, &sources.Error{Op: "close", Table: stream.Receipt().Table, Kind: sources.Invalid,
				Err: errors.New("the stream is still in its loop: leave the loop before the source is closed")})
			return errors.Join(faults...)
		}
	}
	s.closed, s.streams = true, nil
	_, err := sources.GuardCall("close", "", func() (struct{}, error) { return struct{}{}, s.Source.Close() })
	s.host.mu.Lock()
	delete(s.host.open, s)
	s.host.mu.Unlock()
	return errors.Join(append(faults, err)...)
}
