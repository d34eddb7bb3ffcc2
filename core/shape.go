package core

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// residue is the part of a query that its table did not take.
type residue struct {
	columns []string // the result's, in order
	where   sources.Predicate
	orderBy []sources.Sort
	limit   int64 // 0 is none
}

// shape does to pages what the table did not: it filters, sorts, limits and
// projects. What there is nothing to do to passes through without a copy. The
// pages hold at least the columns that the residue names. Those that come out
// hold the result's, and carry no cursor once the engine has sorted them.
func shape(pages sources.Batches, r residue, mem memory.Allocator, l *ledger, page sources.Limits) sources.Batches {
	if r.where != nil || len(r.orderBy) > 0 {
		// What nobody looks at any more is not worth a copy.
		pages = project(pages, columnsFor(r))
	}
	if r.where != nil {
		pages = filter(pages, r.where, mem)
	}
	if len(r.orderBy) > 0 {
		pages = sorted(pages, r.orderBy, r.limit, mem, l, page)
	}
	if r.limit > 0 {
		pages = limited(pages, r.limit)
	}
	return project(pages, r.columns)
}

// project gives the named columns in their order.
func project(pages sources.Batches, columns []string) sources.Batches {
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
			if !pass(yield, array.NewRecordBatch(to, arrays, record.NumRows()), page.Cursor) {
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

// filter keeps the rows for which the predicate is true. A page of which
// nothing is left is dropped, but one, if nothing of any is.
func filter(pages sources.Batches, where sources.Predicate, mem memory.Allocator) sources.Batches {
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
			rows := int(record.NumRows())
			if cap(truth) < rows {
				truth = make([]sources.Truth, rows)
			}
			truth = truth[:rows]
			matches.match(record, truth)
			spans := trueSpans(truth)
			kept := countRows(spans)
			if kept == 0 {
				continue
			}
			yielded = true
			switch {
			case kept == rows:
				if !yield(page, nil) {
					return
				}
				continue
			case len(spans) == 1:
				record = record.NewSlice(int64(spans[0].from), int64(spans[0].from+kept))
			default:
				record = gather(mem, schema, []arrow.RecordBatch{record}, spans)
			}
			if !pass(yield, record, page.Cursor) {
				return
			}
		}
		if !yielded && schema != nil {
			pass(yield, emptyRecord(schema), nil)
		}
	}
}

// trueSpans are the runs of rows that are true.
func trueSpans(truth []sources.Truth) []span {
	var spans []span
	for i := 0; i < len(truth); {
		if truth[i] != sources.True {
			i++
			continue
		}
		from := i
		for i < len(truth) && truth[i] == sources.True {
			i++
		}
		spans = append(spans, span{from: from, rows: i - from})
	}
	return spans
}

// limited ends after so many rows, and with it what is before it.
func limited(pages sources.Batches, limit int64) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		left := limit
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			rows := page.Record.NumRows()
			switch {
			case rows < left:
				if !yield(page, nil) {
					return
				}
				left -= rows
				continue
			case rows > left:
				pass(yield, page.Record.NewSlice(0, left), nil)
			default:
				yield(page, nil)
			}
			return
		}
	}
}
