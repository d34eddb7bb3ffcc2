package cache_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/sources"
)

// counted is a source of one table, "items", whose rows depend on its version. It
// counts what is asked of it. Its fields that are not atomic must not change while
// it is read.
type counted struct {
	rows      atomic.Int64
	version   atomic.Int64 // in the text of the first row; 0 is none
	begun     atomic.Int64 // sessions that were begun
	open      atomic.Int64 // sessions that are not closed
	scans     atomic.Int64 // scans that were begun
	plans     atomic.Int64 // plans that were made
	pageRows  int64
	breakAt   atomic.Int64              // scans fail after so many rows; 0 is never
	onRow     func(i int)               // called before each row, unless nil
	refuse    atomic.Bool               // Begin fails
	closeErr  error                     // of closing a session
	estimated int64                     // bytes of a scan, in plans
	silent    bool                      // plans have no version
	identity  string                    // of the catalog
	rowsOf    func(version int64) int64 // number of rows; nil means that of rows
}

// newCounted returns a source of that many rows, in pages of 100.
func newCounted(rows int64) *counted {
	c := &counted{pageRows: 100}
	c.rows.Store(rows)
	return c
}

func (c *counted) Catalog(context.Context) (*sources.Catalog, error) {
	if c.identity == "" {
		return countedCatalog, nil
	}
	return &sources.Catalog{Tables: countedCatalog.Tables, Identity: c.identity}, nil
}

// countedCatalog is the catalog of every counted source, without its identity.
var countedCatalog = &sources.Catalog{Tables: []sources.Table{{Name: "items", Schema: coretest.ItemSchema, Rows: -1}}}

func (c *counted) Close() error { return nil }

func (c *counted) Begin(_ context.Context, env sources.Env) (sources.Session, error) {
	if c.refuse.Load() {
		return nil, sources.Errorf(sources.Denied, "begin", "items", "not you")
	}
	c.begun.Add(1)
	c.open.Add(1)
	return &countedSession{counted: c, env: env}, nil
}

type countedSession struct {
	*counted
	env sources.Env
}

func (s *countedSession) Close() error {
	s.open.Add(-1)
	return s.closeErr
}

func (s *countedSession) Plan(context.Context, *sources.Query) (*sources.Plan, error) {
	s.plans.Add(1)
	plan := &sources.Plan{Rows: -1, Bytes: s.estimated}
	if v := s.version.Load(); v > 0 && !s.silent {
		plan.Version = fmt.Sprint(v)
	}
	return plan, nil
}

func (s *countedSession) Scan(ctx context.Context, _ *sources.Query) sources.Batches {
	env := s.env
	env.Page.Rows = min(env.Page.Rows, s.pageRows)
	return func(yield func(sources.Batch, error) bool) {
		s.scans.Add(1)
		sources.FromRows(env, coretest.ItemSchema, s.all(ctx))(yield)
	}
}

func (s *countedSession) all(ctx context.Context) iter.Seq2[sources.Row, error] {
	version, rows := s.version.Load(), s.rows.Load()
	if s.rowsOf != nil {
		rows = s.rowsOf(version)
	}
	return func(yield func(sources.Row, error) bool) {
		for i := range rows {
			if s.onRow != nil {
				s.onRow(int(i))
			}
			if ctx.Err() != nil {
				yield(sources.Row{}, sources.NewError(sources.Canceled, "", "", context.Cause(ctx)))
				return
			}
			if at := s.breakAt.Load(); at > 0 && i >= at {
				yield(sources.Row{}, sources.Errorf(sources.Unavailable, "", "", "the cable is cut"))
				return
			}
			row := sources.Row{Values: []any{i, strings.Repeat("x", int(i%50))}}
			if i == 0 {
				row.Values[1] = fmt.Sprint("version ", version)
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// readItems reads a stream of table "items" to its end and returns its receipt.
func readItems(t *testing.T, source sources.Source, o core.Options, r core.Resources) core.Receipt {
	t.Helper()
	stream := coretest.Open(t, source, core.Query{Table: "items"}, o, r)
	if _, err := coretest.IDs(stream); err != nil {
		t.Fatal(err)
	}
	return stream.Receipt()
}
