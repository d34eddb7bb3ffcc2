package query

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// Residual is the part of a query that its table did not take.
type Residual struct {
	Columns []string // the result's, in order
	Where   sources.Predicate
	OrderBy []sources.Sort
	Limit   int64 // 0 is none
}

// PostProcess does to pages what the table did not: it filters, sorts, limits and
// projects. What there is nothing to do to passes through without a copy. The
// pages hold at least the columns that the residue names. Those that come out
// hold the result's, and carry no cursor once the engine has sorted them.
func PostProcess(pages sources.Batches, r Residual, mem memory.Allocator, l *budget.Accounts, page sources.Limits) sources.Batches {
	if r.Where != nil || len(r.OrderBy) > 0 {
		// What nobody looks at any more is not worth a copy.
		pages = projectPages(pages, columnsFor(r))
	}
	if r.Where != nil {
		pages = filterPages(pages, r.Where, mem)
	}
	if len(r.OrderBy) > 0 {
		pages = sortPages(pages, r.OrderBy, r.Limit, mem, l, page)
	}
	if r.Limit > 0 {
		pages = limitPages(pages, r.Limit)
	}
	return projectPages(pages, r.Columns)
}

// projectPages gives the named columns in their order.
func projectPages(pages sources.Batches, columns []string) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		var from, to *arrow.Schema // of the last page, and what became of it
		var places []int
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			if schema := page.Record.Schema(); schema != from {
				from = schema
				to, places = projection(schema, columns)
			}
			if to == from {
				if !yield(page, nil) {
					return
				}
				continue
			}
			record := page.Record
			arrays := make([]arrow.Array, len(places))
			for i, place := range places {
				arrays[i] = record.Column(place)
			}
			if !rows.YieldOwned(yield, array.NewRecordBatch(to, arrays, record.NumRows()), page.Cursor) {
				return
			}
		}
	}
}

// projection returns the schema of the named columns and their places; the
// schema itself where they are all of it in order.
func projection(schema *arrow.Schema, columns []string) (*arrow.Schema, []int) {
	fields, places := make([]arrow.Field, len(columns)), make([]int, len(columns))
	same := len(columns) == schema.NumFields()
	for i, name := range columns {
		places[i] = schema.FieldIndices(name)[0]
		fields[i] = schema.Field(places[i])
		same = same && places[i] == i
	}
	if same {
		return schema, places
	}
	meta := schema.Metadata()
	return arrow.NewSchema(fields, &meta), places
}

// filterPages keeps the rows for which the predicate is true. A page of which
// nothing is left is dropped, but one, if nothing of any is.
func filterPages(pages sources.Batches, where sources.Predicate, mem memory.Allocator) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		var schema *arrow.Schema
		var matches matcher
		var truth []sources.Truth
		yielded := false
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			record := page.Record
			if schema != record.Schema() {
				schema = record.Schema()
				matches = compileMatcher(where, schema)
			}
			n := int(record.NumRows())
			if cap(truth) < n {
				truth = make([]sources.Truth, n)
			}
			truth = truth[:n]
			matches.match(record, truth)
			spans := trueSpans(truth)
			kept := rows.Count(spans)
			if kept == 0 {
				continue
			}
			yielded = true
			switch {
			case kept == n:
				if !yield(page, nil) {
					return
				}
				continue
			case len(spans) == 1:
				record = record.NewSlice(int64(spans[0].From), int64(spans[0].From+kept))
			default:
				record = rows.CopyRanges(mem, schema, []arrow.RecordBatch{record}, spans)
			}
			if !rows.YieldOwned(yield, record, page.Cursor) {
				return
			}
		}
		if !yielded && schema != nil {
			rows.YieldOwned(yield, rows.Empty(schema), nil)
		}
	}
}

// trueSpans are the runs of rows that are true.
func trueSpans(truth []sources.Truth) []rows.Range {
	var spans []rows.Range
	for i := 0; i < len(truth); {
		if truth[i] != sources.True {
			i++
			continue
		}
		from := i
		for i < len(truth) && truth[i] == sources.True {
			i++
		}
		spans = append(spans, rows.Range{From: from, Rows: i - from})
	}
	return spans
}

// limitPages ends after so many rows, and with it what is before it.
func limitPages(pages sources.Batches, limit int64) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		left := limit
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			n := page.Record.NumRows()
			switch {
			case n < left:
				if !yield(page, nil) {
					return
				}
				left -= n
				continue
			case n > left:
				rows.YieldOwned(yield, page.Record.NewSlice(0, left), nil)
			default:
				yield(page, nil)
			}
			return
		}
	}
}
