package query

import (
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/sources"
)

// Work describes the part of a query that a source or the engine does, as a plan
// shows it.
type Work struct {
	Columns []string `json:"columns,omitempty"` // the columns to select; empty means all
	Where   string   `json:"where,omitempty"`
	OrderBy string   `json:"order_by,omitempty"`
	Limit   int64    `json:"limit,omitempty"` // of a relation: for each key
}

// WorkOf describes a query that is pushed down to its table.
func WorkOf(table *sources.Table, q *sources.Query) Work {
	return Work{Columns: q.Columns, Where: sources.DescribePredicate(q.Where, table.Schema), OrderBy: OrderText(q.OrderBy), Limit: q.Limit}
}

// Work describes the residual of a query on a table. shown is how many columns of
// the residual belong to the result. The engine selects columns if the table does
// not (projected is false), or if a scan returns more than the result shows.
func (r Residual) Work(table *sources.Table, projected bool, shown int) Work {
	w := Work{Where: sources.DescribePredicate(r.Where, table.Schema), OrderBy: OrderText(r.OrderBy), Limit: r.Limit}
	if shown = min(shown, len(r.Columns)); !sameColumns(table, r.Columns[:shown]) && (!projected || shown < len(r.Columns)) {
		w.Columns = r.Columns[:shown]
	}
	return w
}

// sameColumns reports whether the columns are all of the table's, in its order.
func sameColumns(table *sources.Table, columns []string) bool {
	if len(columns) != table.Schema.NumFields() {
		return false
	}
	for i, f := range table.Schema.Fields() {
		if f.Name != columns[i] {
			return false
		}
	}
	return true
}

// OrderText returns an order as text, as in "name desc, id".
func OrderText(order []sources.Sort) string {
	terms := make([]string, len(order))
	for i, s := range order {
		terms[i] = s.Column
		if s.Desc {
			terms[i] += " desc"
		}
		if s.NullsFirst {
			terms[i] += " nulls first"
		}
	}
	return strings.Join(terms, ", ")
}

var lineBreaks = strings.NewReplacer("\n", `\n`, "\r", `\r`)

// OneLine returns a text with its line breaks escaped: what a source says must not look
// like another line of a plan.
func OneLine(text string) string { return lineBreaks.Replace(text) }

// Known returns a pointer to an estimate; nil if n is negative, which means
// unknown.
func Known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// RowWidth estimates the bytes of a row with these fields. The sizes of texts and
// nested values are guesses.
func RowWidth(fields []arrow.Field) int64 {
	var n int64
	for _, f := range fields {
		switch t := sources.ValueType(f.Type).(type) {
		case *arrow.BooleanType:
			n++
		case arrow.FixedWidthDataType:
			n += int64(t.BitWidth() / 8)
		default:
			n += 4 + 16
		}
	}
	return n
}

// Write writes one line that lists the work after a label. limitSuffix follows the
// limit. Write does nothing if there is no work.
func (w Work) Write(line func(string, ...any), label, limitSuffix string) {
	var parts []string
	if w.Columns != nil {
		parts = append(parts, "columns "+strings.Join(w.Columns, ", "))
	}
	if w.Where != "" {
		parts = append(parts, "where "+w.Where)
	}
	if w.OrderBy != "" {
		parts = append(parts, "order by "+w.OrderBy)
	}
	if w.Limit > 0 {
		parts = append(parts, "limit "+strconv.FormatInt(w.Limit, 10)+limitSuffix)
	}
	if len(parts) > 0 {
		line("%s: %s", label, strings.Join(parts, "; "))
	}
}

// FormatAmount returns estimated rows and bytes as text, as in "about 3 rows, 84
// B". A nil estimate is unknown.
func FormatAmount(rows, bytes *int64) string {
	if rows == nil {
		return "an unknown number of rows"
	}
	text := "about " + FormatCount(*rows, "row")
	if bytes != nil {
		text += ", " + budget.FormatBytes(*bytes)
	}
	return text
}

// FormatCount returns a count with its noun, as in "1 row" or "2 rows".
func FormatCount(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.FormatInt(n, 10) + " " + noun + "s"
}
