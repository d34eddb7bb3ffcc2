package query

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// sortPages holds all rows, or with a limit only those that may be among the first
// so many, and gives them in order. Rows that compare equal stay in the order in
// which they came. What does not fit is [sources.Exhausted].
func sortPages(pages sources.Batches, order []sources.Sort, limit int64, mem memory.Allocator, l *budget.Accounts, page sources.Limits) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		s := sorter{order: order, limit: limit, accounts: l, mem: mem}
		defer s.drop()
		for page, err := range pages {
			if err == nil {
				_, err = sources.GuardCall("", "", func() (struct{}, error) { s.add(page.Record); return struct{}{}, nil })
			}
			if err != nil {
				yield(sources.Batch{}, s.explain(err))
				return
			}
		}
		if s.schema == nil {
			return
		}
		ranks, err := sources.GuardCall("", "", func() (ranks, error) { return s.rank(), nil })
		if err != nil {
			yield(sources.Batch{}, s.explain(err))
			return
		}
		defer ranks.release()
		if s.rows == 0 {
			rows.YieldOwned(yield, rows.Empty(s.schema), nil)
			return
		}
		step := max(1, min(page.Rows, page.Bytes*s.rows/max(s.bytes, 1)))
		for from := int64(0); from < int64(len(ranks.rows)); from += step {
			to := min(from+step, int64(len(ranks.rows)))
			record, err := sources.GuardCall("", "", func() (arrow.RecordBatch, error) { return s.pick(ranks.rows[from:to]), nil })
			if err != nil {
				yield(sources.Batch{}, s.explain(err))
				return
			}
			if !rows.YieldOwned(yield, record, nil) {
				return
			}
		}
	}
}

// sorter holds the rows to sort.
type sorter struct {
	order    []sources.Sort
	limit    int64 // 0 is none
	accounts *budget.Accounts
	mem      memory.Allocator

	schema  *arrow.Schema
	pages   []arrow.RecordBatch // retained
	counted []func()            // ends the count of each
	starts  []int64             // of each page, the number of rows before it
	rows    int64
	bytes   int64
}

// compactRows is how many rows more than twice the limit are held before those
// that cannot be among the first are given up.
const compactRows = 4096

func (s *sorter) add(page arrow.RecordBatch) {
	if s.schema == nil {
		s.schema = page.Schema()
	}
	if page.NumRows() == 0 {
		return
	}
	page.Retain()
	s.hold(page)
	if s.limit == 0 || s.rows/2 < s.limit || s.rows-2*s.limit < compactRows {
		return
	}
	ranks := s.rank()
	defer ranks.release()
	best := sorter{accounts: s.accounts}
	defer best.drop()
	for rows := range slices.Chunk(ranks.rows, int(sources.DefaultLimits.Rows)) {
		best.hold(s.pick(rows))
	}
	s.drop()
	s.pages, s.counted, s.starts, s.rows, s.bytes = best.pages, best.counted, best.starts, best.rows, best.bytes
	best.pages, best.counted = nil, nil
}

// hold takes a record over.
func (s *sorter) hold(page arrow.RecordBatch) {
	s.pages = append(s.pages, page)
	s.counted = append(s.counted, s.accounts.Hold(budget.Shape, page))
	s.starts = append(s.starts, s.rows)
	s.rows += page.NumRows()
	s.bytes += sources.Size(page)
}

func (s *sorter) drop() {
	for i, page := range s.pages {
		s.counted[i]()
		page.Release()
	}
	s.pages, s.counted, s.starts, s.rows, s.bytes = nil, nil, nil, 0, 0
}

// ranks are the numbers of the rows that are held, in order, and as many of
// them as the limit lets through.
type ranks struct {
	rows   []int64
	buffer *memory.Buffer
}

func (r ranks) release() { r.buffer.Release() }

// rank sorts the numbers of the rows by their keys, which are copied together
// for that.
func (s *sorter) rank() ranks {
	fields := make([]arrow.Field, len(s.order))
	places := make([]int, len(s.order))
	for i, term := range s.order {
		places[i] = s.schema.FieldIndices(term.Column)[0]
		fields[i] = s.schema.Field(places[i])
	}
	compares := make([]func(i, j int) int, 0, len(s.order))
	spans := make([]rows.Range, len(s.pages))
	parts := make([]arrow.ArrayData, len(s.pages))
	for i, term := range s.order {
		for j, page := range s.pages {
			parts[j] = page.Column(places[i]).Data()
			spans[j] = rows.Range{Record: j, Rows: int(page.NumRows())}
		}
		key := rows.CopyColumnRanges(s.mem, fields[i].Type, parts, spans)
		defer key.Release()
		compares = append(compares, OrderComparer(key, term))
	}
	buffer := memory.NewResizableBuffer(s.mem)
	buffer.Resize(int(s.rows) * 8)
	rows := arrow.GetData[int64](buffer.Bytes())
	for i := range rows {
		rows[i] = int64(i)
	}
	slices.SortFunc(rows, func(a, b int64) int {
		for _, compare := range compares {
			if c := compare(int(a), int(b)); c != 0 {
				return c
			}
		}
		return int(a - b)
	})
	if s.limit > 0 && s.limit < int64(len(rows)) {
		rows = rows[:s.limit]
	}
	return ranks{rows: rows, buffer: buffer}
}

// OrderComparer compares two rows of a key as a term of the order says.
func OrderComparer(key arrow.Array, term sources.Sort) func(i, j int) int {
	compare := rows.Comparer(key, key)
	nulls := 1
	if term.NullsFirst {
		nulls = -1
	}
	hasNulls := key.NullN() > 0
	return func(i, j int) int {
		if hasNulls {
			switch x, y := key.IsNull(i), key.IsNull(j); {
			case x && y:
				return 0
			case x:
				return nulls
			case y:
				return -nulls
			}
		}
		c := compare(i, j)
		if term.Desc {
			return -c
		}
		return c
	}
}

// pick copies the rows of these numbers together.
func (s *sorter) pick(count []int64) arrow.RecordBatch {
	spans := make([]rows.Range, 0, len(count))
	for _, row := range count {
		page, found := slices.BinarySearch(s.starts, row)
		if !found {
			page--
		}
		from := int(row - s.starts[page])
		if n := len(spans); n > 0 && spans[n-1].Record == page && spans[n-1].From+spans[n-1].Rows == from {
			spans[n-1].Rows++
			continue
		}
		spans = append(spans, rows.Range{Record: page, From: from, Rows: 1})
	}
	return rows.CopyRanges(s.mem, s.schema, s.pages, spans)
}

// explain says of a refusal what it stood in the way of, and what helps.
func (s *sorter) explain(err error) error {
	if sources.KindOf(err) != sources.Exhausted {
		return err
	}
	// The remedy is said once, at the end.
	var short *budget.Shortage
	if errors.As(err, &short) && short.Refusal != nil {
		err = short.Refusal
	} else if e, ok := err.(*sources.Error); ok && e.Op == "" {
		err = e.Err
	}
	names := make([]string, len(s.order))
	for i, term := range s.order {
		names[i] = term.Column
	}
	remedy := "give it more memory, or a limit"
	if s.limit > 0 {
		remedy = "give it more memory, or a smaller limit"
	}
	return &sources.Error{Op: "sort", Kind: sources.Exhausted,
		Err: fmt.Errorf("%d rows by %s do not fit, and the source does not sort itself: %w; %s", s.rows, strings.Join(names, ", "), err, remedy)}
}
