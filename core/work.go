package core

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// Work is a part of a query that somebody does.
type Work struct {
	Columns []string `json:"columns,omitempty"` // the ones that are chosen; none where all come
	Where   string   `json:"where,omitempty"`
	OrderBy string   `json:"order_by,omitempty"`
	Limit   int64    `json:"limit,omitempty"` // of a relation: for each key
}

// RelationPlan says how one relation is loaded.
type RelationPlan struct {
	Path     string `json:"path"`
	Kind     string `json:"kind"`
	Depth    int    `json:"depth"`
	Required bool   `json:"required"`
	On       string `json:"on"` // as in customer_id = customers.id
	// Steps are the questions for each chunk: one, or two where the relation goes
	// through a join table.
	Steps     []LookupPlan   `json:"steps"`
	Rows      *int64         `json:"rows"`  // for each chunk
	Bytes     *int64         `json:"bytes"` // for each chunk
	Relations []RelationPlan `json:"relations"`
}

// LookupPlan is one question of a relation.
type LookupPlan struct {
	Table string   `json:"table"`
	By    []string `json:"by"`
	// Scan says that the table finds no rows by these columns: it is read as a
	// whole for each chunk.
	Scan bool `json:"scan"`
	// KeysAtOnce is how many keys one look-up takes; 0 is any number.
	KeysAtOnce int `json:"keys_at_once"`
	// Keys and Lookups are for each chunk, at most: what is remembered is not
	// asked again.
	Keys       *int64 `json:"keys"`
	Lookups    *int64 `json:"lookups"`
	Remembered bool   `json:"remembered"`
	Source     Work   `json:"source"`
	Engine     Work   `json:"engine"`
	Detail     string `json:"detail,omitempty"`
}

func workOf(q *sources.Query) Work {
	return Work{Columns: q.Columns, Where: predicateText(q.Where), OrderBy: orderText(q.OrderBy), Limit: q.Limit}
}

// work is what is left to the engine: also to choose columns, where the table
// does not or where it gives more than are shown.
func (r residue) work(table *sources.Table, projected bool, shown int) Work {
	w := Work{Where: predicateText(r.where), OrderBy: orderText(r.orderBy), Limit: r.limit}
	if shown = min(shown, len(r.columns)); !sameColumns(table, r.columns[:shown]) && (!projected || shown < len(r.columns)) {
		w.Columns = r.columns[:shown]
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

func orderText(order []sources.Sort) string {
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

func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// widthOf is about how many bytes a row of the fields has: a guess for texts.
func widthOf(fields []arrow.Field) int64 {
	var n int64
	for _, f := range fields {
		switch t := keyType(f.Type).(type) {
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
