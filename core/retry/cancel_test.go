package retry_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// pairs returns a source of a table "t" of ten rows, each of which refers to itself.
// onScan, if not nil, is called at the beginning of each scan.
func pairs(t *testing.T, onScan func(q *sources.Query)) sources.Source {
	t.Helper()
	number := arrow.PrimitiveTypes.Int64
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: number}, {Name: "same_id", Type: number}}, nil)
	catalog := &sources.Catalog{Tables: []sources.Table{{Name: "t", Schema: schema, Key: []string{"id"}, Rows: 10, Lookups: []sources.Lookup{{Columns: []string{"id"}}}}}}
	if err := sources.Relate(catalog, []sources.ForeignKey{{Table: "t", Columns: []string{"same_id"}, TargetTable: "t"}}); err != nil {
		t.Fatal(err)
	}
	return sources.Simple(catalog, func(_ context.Context, env sources.Env, q *sources.Query) sources.Batches {
		return sources.FromRows(env, schema, func(yield func(sources.Row, error) bool) {
			if onScan != nil {
				onScan(q)
			}
			for i := range 10 {
				if !yield(sources.Row{Values: []any{i, i}}, nil) {
					return
				}
			}
		})
	})
}

// TestCanceledLookup tests that a stream whose context ends during a look-up ends with
// that error, also though the look-up's scan was left.
func TestCanceledLookup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	source := pairs(t, func(q *sources.Query) {
		if q.Keys != nil {
			cancel()
		}
	})
	stream, err := core.Open(ctx, source, core.Query{Table: "t", Load: query.Load{Required: []query.Branch{{Name: "same"}}}}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var last error
	for _, err := range stream.Chunks() {
		last = err
	}
	if sources.KindOf(last) != sources.Canceled || last == nil || stream.Status() != core.StatusCanceled {
		t.Errorf("%v, status %s", last, stream.Status())
	}
}

// TestCanceledAtTheLimit tests that a context which ends once every row was delivered
// does not make the stream fail.
func TestCanceledAtTheLimit(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := core.Open(ctx, pairs(t, nil), core.Query{Table: "t", Limit: 5}, core.Options{ChunkRows: 5, ReadAhead: ahead}, core.Resources{Budget: coretest.NewBudget(t)})
		if err != nil {
			t.Fatal(err)
		}
		rows := int64(0)
		for chunk, err := range stream.Chunks() {
			if err != nil {
				if sources.KindOf(err) != sources.Canceled {
					t.Errorf("ahead %t: %v", ahead, err)
				}
				break
			}
			rows += chunk.Record.NumRows()
			cancel()
		}
		if rows != 5 || stream.Status() == core.StatusFailed {
			t.Errorf("ahead %t: %d rows, status %s", ahead, rows, stream.Status())
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
}

// canceling cancels a context while its sessions begin, and counts them.
type canceling struct {
	sources.Source
	cancel        context.CancelFunc
	begun, closed atomic.Int64
}

func (c *canceling) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	session, err := c.Source.Begin(ctx, env)
	c.begun.Add(1)
	c.cancel()
	return &countedClose{session, c}, err
}

type countedClose struct {
	sources.Session
	of *canceling
}

func (s *countedClose) Close() error {
	s.of.closed.Add(1)
	return s.Session.Close()
}

// TestCanceledBegin tests that a session which begins as the context ends is closed.
func TestCanceledBegin(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	source := &canceling{Source: pairs(t, nil), cancel: cancel}
	stream, err := core.Open(ctx, source, core.Query{Table: "t"}, core.Options{}, core.Resources{Budget: coretest.NewBudget(t)})
	if err == nil {
		for _, fault := range stream.Chunks() {
			err = fault
		}
		if closing := stream.Close(); closing != nil {
			t.Error(closing)
		}
	}
	if sources.KindOf(err) != sources.Canceled || err == nil {
		t.Errorf("%v", err)
	}
	if source.begun.Load() != 1 || source.closed.Load() != 1 {
		t.Errorf("%d sessions begun, %d closed", source.begun.Load(), source.closed.Load())
	}
}
