package query

import (
	"errors"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// sortPages sorts the rows of pages. It retains all rows, or with a limit those
// that can still be among the first, and then yields them in pages within
// pageLimits. The sort is stable. If the rows do not fit in memory, the error is
// of kind [sources.Exhausted].
func sortPages(pages sources.Batches, order []sources.Sort, limit int64, mem memory.Allocator, accounts *budget.Accounts, pageLimits sources.Limits) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		s := sorter{order: order, limit: limit, accounts: accounts, mem: mem}
		defer s.drop()
		for page, err := range pages {
			if err == nil {
				_, err = sources.GuardCall("", "", func() (struct{}, error) { s.add(page.Record); return struct{}{}, nil })
			}
			if err != nil {
				yield(sources.Batch{}, s.explainRefusal(err))
				return
			}
		}
		if s.schema == nil {
			return
		}
		sorted, err := sources.GuardCall("", "", func() (sortedRows, error) { return s.sortRows(), nil })
		if err != nil {
			yield(sources.Batch{}, s.explainRefusal(err))
			return
		}
		defer sorted.release()
		if s.rows == 0 {
			rows.YieldOwned(yield, sources.Batch{Record: rows.Empty(s.schema)})
			return
		}
		pageRows := max(1, min(pageLimits.Rows, pageLimits.Bytes*s.rows/max(s.bytes, 1)))
		for from := int64(0); from < int64(len(sorted.rows)); from += pageRows {
			to := min(from+pageRows, int64(len(sorted.rows)))
			record, err := sources.GuardCall("", "", func() (arrow.RecordBatch, error) { return s.take(sorted.rows[from:to]), nil })
			if err != nil {
				yield(sources.Batch{}, s.explainRefusal(err))
				return
			}
			if !rows.YieldOwned(yield, sources.Batch{Record: record}) {
				return
			}
		}
	}
}

// sorter holds the rows to sort.
type sorter struct {
	order    []sources.Sort
	limit    int64 // 0 means no limit
	accounts *budget.Accounts
	mem      memory.Allocator

	schema   *arrow.Schema
	pages    []arrow.RecordBatch // the sorter owns a reference to each
	endHolds []func()            // one for each page: ends its charge to accounts
	starts   []int64             // the number of rows before each page
	rows     int64               // in all pages
	bytes    int64               // of all pages, as [sources.Size] counts
}

// compactSlack is how many rows beyond twice the limit are retained before the
// sorter drops those that cannot be among the first.
const compactSlack = 4096

// add retains the rows of a page. With a limit, it drops rows that cannot be among
// the first whenever there are too many of them.
func (s *sorter) add(page arrow.RecordBatch) {
	if s.schema == nil {
		s.schema = page.Schema()
	}
	if page.NumRows() == 0 {
		return
	}
	page.Retain()
	s.own(page)
	if s.limit == 0 || s.rows/2 < s.limit || s.rows-2*s.limit < compactSlack {
		return
	}
	sortedRows := s.sortRows()
	defer sortedRows.release()
	first := sorter{accounts: s.accounts}
	defer first.drop()
	for rowNumbers := range slices.Chunk(sortedRows.rows, int(sources.DefaultLimits.Rows)) {
		first.own(s.take(rowNumbers))
	}
	s.drop()
	s.pages, s.endHolds, s.starts, s.rows, s.bytes = first.pages, first.endHolds, first.starts, first.rows, first.bytes
	first.pages, first.endHolds = nil, nil
}

// own takes over the caller's reference to a page and charges it to accounts.
func (s *sorter) own(page arrow.RecordBatch) {
	s.pages = append(s.pages, page)
	s.endHolds = append(s.endHolds, s.accounts.Hold(budget.PostProcess, page))
	s.starts = append(s.starts, s.rows)
	s.rows += page.NumRows()
	s.bytes += sources.Size(page)
}

// drop releases all pages.
func (s *sorter) drop() {
	for i, page := range s.pages {
		s.endHolds[i]()
		page.Release()
	}
	s.pages, s.endHolds, s.starts, s.rows, s.bytes = nil, nil, nil, 0, 0
}

// sortedRows are row numbers in sorted order, at most as many as the limit. The
// numbers count rows across all pages. The caller releases them.
type sortedRows struct {
	rows   []int64
	buffer *memory.Buffer
}

func (r sortedRows) release() { r.buffer.Release() }

// sortRows sorts the row numbers. It copies the columns to sort by, since they
// must be contiguous for that.
func (s *sorter) sortRows() sortedRows {
	fields := make([]arrow.Field, len(s.order))
	indexes := make([]int, len(s.order))
	for i, term := range s.order {
		indexes[i] = s.schema.FieldIndices(term.Column)[0]
		fields[i] = s.schema.Field(indexes[i])
	}
	compares := make([]func(i, j int) int, 0, len(s.order))
	ranges := make([]rows.Range, len(s.pages))
	parts := make([]arrow.ArrayData, len(s.pages))
	for i, term := range s.order {
		for j, page := range s.pages {
			parts[j] = page.Column(indexes[i]).Data()
			ranges[j] = rows.Range{Record: j, Rows: int(page.NumRows())}
		}
		key := rows.CopyColumnRanges(s.mem, fields[i].Type, parts, ranges)
		defer key.Release()
		compares = append(compares, OrderComparer(fields[i], key, term))
	}
	buffer := memory.NewResizableBuffer(s.mem)
	buffer.Resize(int(s.rows) * 8)
	numbers := arrow.GetData[int64](buffer.Bytes())
	for i := range numbers {
		numbers[i] = int64(i)
	}
	slices.SortFunc(numbers, func(a, b int64) int {
		for _, compare := range compares {
			if c := compare(int(a), int(b)); c != 0 {
				return c
			}
		}
		return int(a - b)
	})
	if s.limit > 0 && s.limit < int64(len(numbers)) {
		numbers = numbers[:s.limit]
	}
	return sortedRows{rows: numbers, buffer: buffer}
}

// OrderComparer returns a function that compares rows i and j of a column: its result
// is negative if i comes before j in the order of the term, positive if j comes before
// i, and 0 otherwise. The column must outlive the function. A value that has no place
// in the order, see [rows.OrderComparer], is a panic with a [*sources.Error].
func OrderComparer(field arrow.Field, key arrow.Array, term sources.Sort) func(i, j int) int {
	compare := rows.OrderComparer(field, key, key)
	nullOrder := 1
	if term.NullsFirst {
		nullOrder = -1
	}
	hasNulls := key.NullN() > 0
	return func(i, j int) int {
		if hasNulls {
			switch x, y := key.IsNull(i), key.IsNull(j); {
			case x && y:
				return 0
			case x:
				return nullOrder
			case y:
				return -nullOrder
			}
		}
		c := compare(i, j)
		if term.Desc {
			return -c
		}
		return c
	}
}

// take copies the rows with these numbers into a new record. The caller releases
// it.
func (s *sorter) take(rowNumbers []int64) arrow.RecordBatch {
	ranges := make([]rows.Range, 0, len(rowNumbers))
	for _, row := range rowNumbers {
		page, found := slices.BinarySearch(s.starts, row)
		if !found {
			page--
		}
		from := int(row - s.starts[page])
		if n := len(ranges); n > 0 && ranges[n-1].Record == page && ranges[n-1].From+ranges[n-1].Rows == from {
			ranges[n-1].Rows++
			continue
		}
		ranges = append(ranges, rows.Range{Record: page, From: from, Rows: 1})
	}
	return rows.CopyRanges(s.mem, s.schema, s.pages, ranges)
}

// explainRefusal adds to an error of kind [sources.Exhausted] what needed the
// memory, and a remedy.
func (s *sorter) explainRefusal(err error) error {
	if sources.KindOf(err) != sources.Exhausted {
		return err
	}
	// A shortage names a remedy of its own; one remedy is enough.
	var shortage *budget.Shortage
	if errors.As(err, &shortage) && shortage.Refusal != nil {
		err = shortage.Refusal
	} else if e, ok := err.(*sources.Error); ok && e.Op == "" {
		err = e.Err
	}
	names := make([]string, len(s.order))
	for i, term := range s.order {
		names[i] = term.Column
	}
	remedy := "raise the memory limit, or set a limit on the rows"
	if s.limit > 0 {
		remedy = "raise the memory limit, or lower the limit on the rows"
	}
	return sources.Errorf(sources.Exhausted, "sort", "", "sorting by %[2]s does not fit in memory after %[1]d rows, and the source cannot sort: %[3]w; %[4]s", s.rows, strings.Join(names, ", "), err, remedy)
}
