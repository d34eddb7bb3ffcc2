// Package unruly is a CSV source that misbehaves as its options say, for command chaos. It
// has the tables of the directory that its URI names.
package unruly

import (
	"bytes"
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// Faults are the values of the option fault, with what each does to a scan after the
// number of pages that the option after has.
var Faults = []string{
	"trap",      // the process or module is ended by an invalid instruction
	"exit",      // the process or module ends as if all were well
	"endless",   // the last page is yielded for ever
	"stderr",    // megabytes are written to standard error before each page
	"huge",      // one page has all rows many times
	"schema",    // the columns have other names
	"type",      // a column has another type
	"unordered", // the table claims that it sorts, and does not
	"estimates", // the numbers of rows of the catalog and the plan are absurd
	"drip",      // empty pages follow for ever, with the cursor of the page before
	"drops",     // an empty page precedes each page
	"fork",      // the source starts processes that do not end
}

// Open opens the source. Its options are fault and after; the others are those of the CSV
// source.
func Open(ctx context.Context, c sources.Config) (sources.Source, error) {
	inner := sources.Config{URI: c.URI, Options: maps.Clone(c.Options)}
	fault := inner.Options["fault"]
	after, err := strconv.Atoi(inner.Options["after"])
	if err != nil || !slices.Contains(Faults, fault) {
		return nil, sources.Errorf(sources.Invalid, "open", "", "the options fault=%s&after=%s are not valid", fault, inner.Options["after"])
	}
	delete(inner.Options, "fault")
	delete(inner.Options, "after")
	s, err := csv.Open(ctx, inner)
	if err != nil {
		return nil, err
	}
	if fault == "fork" {
		if err := fork(); err != nil {
			return nil, err
		}
	}
	return &source{Source: testkit.Wrap(s, change(fault, after)), fault: fault}, nil
}

// source changes what the catalog says.
type source struct {
	sources.Source
	fault string
}

func (s *source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	c, err := s.Source.Catalog(ctx)
	if err != nil || s.fault != "unordered" && s.fault != "estimates" {
		return c, err
	}
	lie := *c
	lie.Tables = slices.Clone(c.Tables)
	for i := range lie.Tables {
		if s.fault == "unordered" {
			lie.Tables[i].Capabilities |= sources.CapSort
		} else {
			lie.Tables[i].Rows = 1 << 60
		}
	}
	return &lie, nil
}

func (s *source) Begin(ctx context.Context, env sources.Env) (sources.Session, error) {
	inner, err := s.Source.Begin(ctx, env)
	if err != nil {
		return nil, err
	}
	return &session{Session: inner, fault: s.fault}, nil
}

type session struct {
	sources.Session
	fault string
}

// withoutOrder returns a query without the order that the table only claims to have.
func (s *session) withoutOrder(q *sources.Query) *sources.Query {
	if s.fault != "unordered" {
		return q
	}
	plain := *q
	plain.OrderBy, plain.Limit = nil, 0
	return &plain
}

func (s *session) Plan(ctx context.Context, q *sources.Query) (*sources.Plan, error) {
	p, err := s.Session.Plan(ctx, s.withoutOrder(q))
	if err == nil && s.fault == "estimates" {
		lie := *p
		lie.Rows, lie.Bytes = 3, 1<<62
		p = &lie
	}
	return p, err
}

func (s *session) Scan(ctx context.Context, q *sources.Query) sources.Batches {
	return s.Session.Scan(ctx, s.withoutOrder(q))
}

// change returns the change of a scan that a fault makes.
func change(fault string, after int) testkit.Change {
	return func(ctx context.Context, env sources.Env, q *sources.Query, scan sources.Batches) sources.Batches {
		return func(yield func(sources.Batch, error) bool) {
			pages, cursor := 0, q.After
			for page, err := range scan {
				if err == nil && pages >= after && !misbehave(ctx, env, fault, page, cursor, yield) {
					return
				}
				pages++
				cursor = slices.Clone(page.Cursor)
				if !yield(page, err) {
					return
				}
			}
		}
	}
}

// misbehave does what the fault is, and reports whether the scan goes on with the page. The
// cursor is that of the page before.
func misbehave(ctx context.Context, env sources.Env, fault string, page sources.Batch, cursor sources.Cursor, yield func(sources.Batch, error) bool) bool {
	empty := func() bool {
		none := page
		none.Record = page.Record.NewSlice(0, 0)
		defer none.Record.Release()
		none.Skipped, none.Cursor = sources.Skipped{}, cursor
		return yield(none, nil)
	}
	switch fault {
	case "trap":
		trap()
	case "exit":
		os.Exit(0)
	case "endless":
		for yield(page, nil) && ctx.Err() == nil {
		}
		return false
	case "stderr":
		_, _ = os.Stderr.Write(bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog.\x1b[31m\n"), 40_000))
	case "huge":
		record := many(env, page.Record)
		defer record.Release()
		page.Record = record
		yield(page, nil)
		return false
	case "schema", "type":
		record := disguise(page.Record, fault)
		defer record.Release()
		page.Record = record
		yield(page, nil)
		return false
	case "drip":
		for empty() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return false
	case "drops":
		return empty()
	}
	return true
}

// many returns a record with so many copies of the first text or number of another one
// that its memory is beyond that of a stream of command chaos.
func many(env sources.Env, of arrow.RecordBatch) arrow.RecordBatch {
	const rows = 1 << 20
	columns := make([]arrow.Array, of.NumCols())
	for i, field := range of.Schema().Fields() {
		b := array.NewBuilder(env.Mem, field.Type)
		defer b.Release()
		if field.Nullable {
			b.AppendNulls(rows)
		} else {
			b.AppendEmptyValues(rows)
		}
		columns[i] = b.NewArray()
		defer columns[i].Release()
	}
	return array.NewRecordBatch(of.Schema(), columns, rows)
}

// disguise returns a record whose first column has another name or type than that of r.
func disguise(r arrow.RecordBatch, fault string) arrow.RecordBatch {
	fields, columns := slices.Clone(r.Schema().Fields()), slices.Clone(r.Columns())
	if len(fields) == 0 {
		r.Retain()
		return r
	}
	if fault == "schema" {
		fields[0].Name += "?"
	} else {
		// The same bytes, under a type of the same width.
		fields[0].Type = arrow.PrimitiveTypes.Uint64
		old := columns[0].Data()
		data := array.NewData(fields[0].Type, old.Len(), old.Buffers(), nil, old.NullN(), old.Offset())
		defer data.Release()
		columns[0] = array.MakeFromData(data)
		defer columns[0].Release()
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, r.NumRows())
}
