package coretest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/penstock-data/penstock/sources"
)

// Restricted is a source whose tables can do less than those of the source it
// wraps, and whose scans fail if a query asks for more. It counts what is asked of
// it. It is safe for concurrent use.
type Restricted struct {
	sources.Source
	catalog *sources.Catalog

	Scans        atomic.Int64 // scans that ran
	KeyedScans   atomic.Int64 // scans with keys, among Scans
	OpenSessions atomic.Int64 // sessions that are not closed
}

// Restrict returns source with a copy of its catalog in which change has been
// applied to every table. change must not modify slices or maps in place.
func Restrict(t testing.TB, source sources.Source, change func(*sources.Table)) *Restricted {
	t.Helper()
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &Restricted{Source: source, catalog: &sources.Catalog{Tables: slices.Clone(catalog.Tables)}}
	for i := range r.catalog.Tables {
		change(&r.catalog.Tables[i])
	}
	return r
}

// Catalog returns the changed catalog.
func (r *Restricted) Catalog(context.Context) (*sources.Catalog, error) { return r.catalog, nil }

// Begin begins a session of the wrapped source.
func (r *Restricted) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := r.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	r.OpenSessions.Add(1)
	return &restrictedSession{Session: session, source: r}, nil
}

type restrictedSession struct {
	sources.Session
	source *Restricted

	mu      sync.Mutex
	running int // scans
}

func (s *restrictedSession) Close() error {
	s.source.OpenSessions.Add(-1)
	return s.Session.Close()
}

func (s *restrictedSession) addRunning(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += n
	return s.running
}

func (s *restrictedSession) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		table, err := s.source.catalog.Check(q)
		running := s.addRunning(1)
		defer s.addRunning(-1)
		if err == nil && table.MaxScans > 0 && running > table.MaxScans {
			err = errors.New("more scans at once than the table allows")
		}
		if err != nil {
			yield(sources.Batch{}, err)
			return
		}
		s.source.Scans.Add(1)
		if q.Keys != nil {
			s.source.KeyedScans.Add(1)
		}
		s.Session.Scan(ctx, q)(yield)
	}
}
