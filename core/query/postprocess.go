package query

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// Residual is the part of a query that the engine applies, because the table
// cannot.
type Residual struct {
	Columns []string          // of the result, in order
	Where   sources.Predicate // nil means all rows
	OrderBy []sources.Sort
	Limit   int64 // 0 means no limit
}

// PostProcess applies a residual to pages: it filters, sorts, limits and projects.
// Pages that need no change pass through without a copy.
//
// The pages must have at least the columns that the residual names, and the result
// has exactly r.Columns. Sorted pages carry no cursor and are within limits.
// PostProcess allocates from mem, and charges the rows that it retains to
// accounts. If the rows to sort do not fit in memory, the error is of kind
// [sources.Exhausted].
func PostProcess(pages sources.Batches, r Residual, mem memory.Allocator, accounts *budget.Accounts, limits sources.Limits) sources.Batches {
	if r.Where != nil || len(r.OrderBy) > 0 {
		// Drop columns that are no longer needed before rows are copied.
		pages = projectPages(pages, columnsFor(r))
	}
	if r.Where != nil {
		pages = filterPages(pages, r.Where, mem)
	}
	if len(r.OrderBy) > 0 {
		pages = sortPages(pages, r.OrderBy, r.Limit, mem, accounts, limits)
	}
	if r.Limit > 0 {
		pages = limitPages(pages, r.Limit)
	}
	return projectPages(pages, r.Columns)
}

// projectPages reduces pages to the named columns, in that order.
func projectPages(pages sources.Batches, columns []string) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		var in, out *arrow.Schema // of the last page, and of its projection
		var indexes []int
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			if schema := page.Record.Schema(); schema != in {
				in = schema
				out, indexes = projection(schema, columns)
			}
			if out == in {
				if !yield(page, nil) {
					return
				}
				continue
			}
			record := page.Record
			arrays := make([]arrow.Array, len(indexes))
			for i, index := range indexes {
				arrays[i] = record.Column(index)
			}
			page.Record = array.NewRecordBatch(out, arrays, record.NumRows())
			if !rows.YieldOwned(yield, page) {
				return
			}
		}
	}
}

// projection returns the schema of the named columns and their indexes. It returns
// schema itself if the columns are all of its own, in order.
func projection(schema *arrow.Schema, columns []string) (*arrow.Schema, []int) {
	fields, indexes := make([]arrow.Field, len(columns)), make([]int, len(columns))
	same := len(columns) == schema.NumFields()
	for i, name := range columns {
		indexes[i] = schema.FieldIndices(name)[0]
		fields[i] = schema.Field(indexes[i])
		same = same && indexes[i] == i
	}
	if same {
		return schema, indexes
	}
	meta := schema.Metadata()
	return arrow.NewSchema(fields, &meta), indexes
}

// filterPages keeps the rows for which the predicate is true. Of a page without such
// rows it yields an empty one, so that the hops below learn its cursor and that time
// has passed.
func filterPages(pages sources.Batches, where sources.Predicate, mem memory.Allocator) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		var schema *arrow.Schema
		var matches matcher
		var truth []sources.Truth
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
			ranges := trueRanges(truth)
			kept := rows.Count(ranges)
			switch {
			case kept == n:
				if !yield(page, nil) {
					return
				}
				continue
			case kept == 0:
				record = record.NewSlice(0, 0)
			case len(ranges) == 1:
				record = record.NewSlice(int64(ranges[0].From), int64(ranges[0].From+kept))
			default:
				record = rows.CopyRanges(mem, schema, []arrow.RecordBatch{record}, ranges)
			}
			page.Record = record
			if !rows.YieldOwned(yield, page) {
				return
			}
		}
	}
}

// trueRanges returns the ranges of consecutive rows that are true.
func trueRanges(truth []sources.Truth) []rows.Range {
	var ranges []rows.Range
	for i := 0; i < len(truth); {
		if truth[i] != sources.True {
			i++
			continue
		}
		from := i
		for i < len(truth) && truth[i] == sources.True {
			i++
		}
		ranges = append(ranges, rows.Range{From: from, Rows: i - from})
	}
	return ranges
}

// limitPages ends the sequence, and the scan that it reads, after limit rows.
func limitPages(pages sources.Batches, limit int64) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		remaining := limit
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			n := page.Record.NumRows()
			switch {
			case n < remaining:
				if !yield(page, nil) {
					return
				}
				remaining -= n
				continue
			case n > remaining:
				rows.YieldOwned(yield, sources.Batch{Record: page.Record.NewSlice(0, remaining)})
			default:
				yield(page, nil)
			}
			return
		}
	}
}
