package host

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// Source is an open source of a host. It is safe for concurrent use.
type Source struct {
	// Source is the source itself. A session that is begun on it directly, not by
	// Stream, must be closed before the source.
	sources.Source

	host      *Host
	name      string
	identity  identity
	isolation Isolation
	opened    time.Time
	breaker   *retry.Breaker
	late      retry.LateCalls

	mu      sync.Mutex
	closing bool           // no more streams can be opened
	opening sync.WaitGroup // calls of Stream and Check in progress
	streams []*core.Stream // includes all that have not ended

	closeMu sync.Mutex // one Close at a time
	closed  bool
}

// Catalog returns the [sources.NormalizeCatalog] of the source. If the source does not
// respond in time, see [retry.Timeouts], the error is of kind [sources.Unavailable]. If
// a name in the catalog is too long, it is of kind [sources.Invalid].
func (s *Source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	catalog, _, err := retry.Call(ctx, &s.late, s.callTimeout(), "catalog", "", s.Source.Catalog, nil)
	if err == nil {
		err = sources.CheckCatalog(catalog)
	}
	if err != nil {
		return nil, err
	}
	return sources.NormalizeCatalog(catalog), nil
}

// Stream returns the stream of a query, as [core.Open] does, with the host's budget
// and cache and the source's breaker. [Host.Observe] reports what happens to it. ctx
// applies to the whole stream.
//
// If the Pressure, Retry or Timeouts of the options are zero, those of the host apply.
// A stream without a name gets one. If the host has no memory for another stream,
// Stream waits up to [budget.Pressure.MaxWait], and then returns an error of kind
// [sources.Exhausted]. If an open stream of the host has the same name, or the source
// is closed, the error is of kind [sources.Invalid]. Other errors are those of Open.
func (s *Source) Stream(ctx context.Context, q core.Query, o core.Options) (*core.Stream, error) {
	o = s.withDefaults(o)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil, sources.Errorf(sources.Invalid, "stream", q.Table, "the source %q is closed", s.name)
	}
	s.opening.Add(1)
	s.mu.Unlock()
	defer s.opening.Done()
	running, err := s.host.registry.reserve(o.Name, s, q.Table)
	if err != nil {
		return nil, err
	}
	o.Name = running.Name
	resources := s.identity.resources()
	resources.Budget, resources.Breaker, resources.Cache, resources.Observer = s.host.budget, s.breaker, s.host.cache, running.observer()
	resources.LateCalls = &s.late
	if s.identity.isOutdated() {
		o.Caching.Mode = cache.ModeBypass
	}
	stream, err := core.Open(ctx, s.Source, q, o, resources)
	if err != nil {
		s.host.registry.remove(running)
		return nil, err
	}
	s.host.registry.opened(running, stream)
	s.host.observers.send(running.event(Event{Kind: EventOpened, Context: ctx}))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams = append(slices.DeleteFunc(s.streams, ended), stream)
	return stream, nil
}

// withDefaults returns the options of a stream, with those of the host where they are
// zero.
func (s *Source) withDefaults(o core.Options) core.Options {
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
		o.Timeouts.Call = s.callTimeout()
	}
	return o
}

// Explain returns how a stream of a query would execute, as [core.Explain] does, with the
// defaults of the host for the options.
func (s *Source) Explain(ctx context.Context, q core.Query, o core.Options) (*core.Explanation, error) {
	return core.Explain(ctx, counted{s.Source, &s.late}, q, s.withDefaults(o))
}

// counted is a source for [core.Explain], whose late calls are counted.
type counted struct {
	sources.Source
	late *retry.LateCalls
}

func (c counted) LateCalls() *retry.LateCalls { return c.late }

// callTimeout is the timeout of calls to the source for streams that set none: a
// call to a module may have to compile it first.
func (s *Source) callTimeout() time.Duration {
	if s.isolation == Module {
		return moduleCallTimeout
	}
	if timeout := s.host.options.Timeouts.Call; timeout > 0 {
		return timeout
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

// loopTimeout is how long Close waits for the loop of a canceled stream. A loop
// that waits for its source ends within a second; a loop whose consumer is busy
// ends when the consumer asks for the next chunk.
const loopTimeout = 10 * time.Second

// Close closes the streams that are still open, including those that are being
// opened, and then the source. A loop that runs on another goroutine ends with an
// error of kind [sources.Canceled] when its consumer asks for the next chunk. If a
// consumer does not do so within ten seconds, Close returns an error that names its
// table, and the source stays open; Close may then be called again. If a call to the
// source was given up and has not returned, or if closing the source takes too long, see
// [retry.Timeouts], Close returns an error of kind [sources.Unavailable], and the source
// is closed when the call returns. Calling Close afterwards has no effect.
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
	s.mu.Lock()
	streams := slices.Clone(s.streams)
	s.mu.Unlock()
	var faults []error
	for _, stream := range streams {
		faults = append(faults, stream.Close())
	}
	wait := time.NewTimer(loopTimeout)
	defer wait.Stop()
	for _, stream := range streams {
		select {
		case <-stream.Done():
		case <-wait.C:
			faults = append(faults, sources.Errorf(sources.Invalid, "close", stream.Receipt().Table, "the stream's loop is still running: leave the loop before closing the source"))
			return errors.Join(faults...)
		}
	}
	s.closed = true
	s.mu.Lock()
	s.streams = nil
	s.mu.Unlock()
	err := s.closeSource()
	s.host.mu.Lock()
	delete(s.host.open, s)
	s.host.mu.Unlock()
	return errors.Join(append(faults, err)...)
}

// closeSource closes the source itself. If calls to it have not returned, it is closed
// when they do.
func (s *Source) closeSource() error {
	if late := s.late.Count(); late > 0 {
		s.late.After(func() {
			if _, err := sources.GuardCall("close", "", func() (struct{}, error) { return struct{}{}, s.Source.Close() }); err != nil {
				s.host.options.Logger.Warn("a source could not be closed", "source", s.name, "error", err)
			}
		})
		return sources.Errorf(sources.Unavailable, "close", "", "%d calls to the source %q were given up and have not returned: it is closed when they do", late, s.name)
	}
	_, _, err := retry.Call(context.Background(), nil, s.callTimeout(), "close", "", func(context.Context) (struct{}, error) { return struct{}{}, s.Source.Close() }, nil)
	return err
}
