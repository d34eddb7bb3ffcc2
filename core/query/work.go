package query

import (
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/core/budget"
	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// Work is a part of a query that somebody does.
type Work struct {
	Columns []string `json:"columns,omitempty"` // the ones that are chosen; none where all come
	Where   string   `json:"where,omitempty"`
	OrderBy string   `json:"order_by,omitempty"`
	Limit   int64    `json:"limit,omitempty"` // of a relation: for each key
}

func WorkOf(q *sources.Query) Work {
	return Work{Columns: q.Columns, Where: PredicateText(q.Where), OrderBy: OrderText(q.OrderBy), Limit: q.Limit}
}

// Work is what is left to the engine: also to choose columns, where the table
// does not or where it gives more than are shown.
func (r Residual) Work(table *sources.Table, projected bool, shown int) Work {
	w := Work{Where: PredicateText(r.Where), OrderBy: OrderText(r.OrderBy), Limit: r.Limit}
	if shown = min(shown, len(r.Columns)); !sameColumns(table, r.Columns[:shown]) && (!projected || shown < len(r.Columns)) {
		w.Columns = r.Columns[:shown]
	}
	return w
}

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

func Known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// RowWidth is about how many bytes a row of the fields has: a guess for texts.
func RowWidth(fields []arrow.Field) int64 {
	var n int64
	for _, f := range fields {
		switch t := rows.ValueType(f.Type).(type) {
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

// Write writes what somebody does, where it is something.
func (w Work) Write(line func(string, ...any), who, limit string) {
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
		parts = append(parts, "limit "+strconv.FormatInt(w.Limit, 10)+limit)
	}
	if len(parts) > 0 {
		line("%s: %s", who, strings.Join(parts, "; "))
	}
}

func FormatAmount(rows, bytes *int64) string {
	if rows == nil {
		return "nobody knows how many rows"
	}
	text := "about " + FormatCount(*rows, "row")
	if bytes != nil {
		text += ", " + budget.FormatBytes(*bytes)
	}
	return text
}

func FormatCount(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatInt(n, 10) + " " + what + "s"
}
