package host

import (
	"context"
	"slices"
	"time"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/retry"
	"github.com/penstock-data/penstock/sources"
)

// Health is the current state of a stream. Its JSON names are stable.
type Health struct {
	Name      string           `json:"name"`
	Source    string           `json:"source"` // the name that precedes the colon in the source's URI
	Isolation Isolation        `json:"wall"`
	Table     string           `json:"table"`
	Status    core.Status      `json:"status"`
	Opened    time.Time        `json:"opened"`
	Progress  core.Progress    `json:"progress"`
	Held      budget.Breakdown `json:"held"`            // the stream's memory, in bytes by owner
	Limit     int64            `json:"limit_bytes"`     // the stream's memory limit
	Retries   int64            `json:"retries"`         // as in [core.Receipt]
	Stalls    int64            `json:"stalls"`          // as in [core.Receipt]
	Error     string           `json:"error,omitempty"` // the error that ended the stream, if any
}

// Health returns the current state of the stream.
func (r *Running) Health() Health {
	receipt := r.stream.Receipt()
	return Health{
		Name: r.Name, Source: r.Source, Isolation: r.Isolation, Table: r.Table, Opened: r.Opened, Status: r.stream.Status(),
		Progress: r.stream.Progress(), Held: r.stream.MemoryByOwner(), Limit: receipt.LimitBytes,
		Retries: receipt.Retries, Stalls: receipt.Stalls, Error: receipt.Error,
	}
}

// SourceHealth is the current state of an open source. Its JSON names are stable.
type SourceHealth struct {
	Source    string        `json:"source"` // the name that precedes the colon in the source's URI
	Isolation Isolation     `json:"wall"`
	Circuit   retry.Circuit `json:"circuit"`
	// Until is when the source may be tried again, if its circuit is open.
	Until     time.Time `json:"until,omitzero"`
	Streams   int       `json:"streams"` // streams that have not ended
	Sandboxes []Sandbox `json:"isolates,omitempty"`
}

// Health returns the current state of the source. It makes no request to the
// source; [Source.Check] does.
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
	return SourceHealth{Source: s.name, Isolation: s.isolation, Circuit: state, Until: until, Streams: streams, Sandboxes: s.Sandboxes()}
}

// checkMemory is the memory limit of a check's session, which reads no rows.
const checkMemory = 1 << 20

// Check tests whether the source works: it begins a session and ends it. The error is
// that of the source. If the source does not respond in time, see
// [retry.Timeouts.Call], the error is of kind [sources.Unavailable].
func (s *Source) Check(ctx context.Context) error {
	started := time.Now()
	err := s.check(ctx)
	s.host.observers.send(Event{Kind: EventHealth, Source: s.name, Isolation: s.isolation, Took: time.Since(started), Err: err})
	return err
}

func (s *Source) check(ctx context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return invalid("check", "the source %q is closed", s.name)
	}
	s.opening.Add(1)
	s.mu.Unlock()
	defer s.opening.Done()
	budget, err := budget.New("check", checkMemory, s.host.budget)
	if err != nil {
		return err
	}
	calls := s.late.Child()
	defer func() { calls.After(budget.Close) }()
	session, _, err := retry.Call(ctx, calls, s.callTimeout(), "check", "", func(ctx context.Context) (sources.Session, error) {
		return s.Begin(ctx, sources.Env{Mem: budget})
	}, func(late sources.Session, err error) {
		if err == nil {
			_ = late.Close() // the caller was told that the session did not begin
		}
	})
	if err != nil {
		return err
	}
	_, _, err = retry.Call(context.WithoutCancel(ctx), calls, s.callTimeout(), "check", "", func(context.Context) (struct{}, error) { return struct{}{}, session.Close() }, nil)
	return err
}

// HostHealth is the current state of a host. Its JSON names are stable.
type HostHealth struct {
	// Good is true if no source's circuit is open.
	Good    bool           `json:"good"`
	Memory  int64          `json:"memory_bytes"` // held by all streams and the cache
	Limit   int64          `json:"limit_bytes"`  // [Options.Memory]
	Sources []SourceHealth `json:"sources"`      // in the order of their opening
	Streams []Health       `json:"streams"`      // as in [Host.Streams]
}

// Health returns the current state of the host, its sources and its streams. It
// makes no request to any source.
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

// sources returns the open sources in the order of their opening.
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
