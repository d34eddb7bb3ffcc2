package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// statement is a query in SQL. All values are binary parameters.
type statement struct {
	sql    string
	values [][]byte
	oids   []uint32
	// columns are the columns of the batches. If cursors is set, the values of terms are
	// selected after them.
	columns []*column
	terms   []term
	cursors bool
	// ctidScan tells that rows come in physical order. Such a scan has no terms; its cursors
	// count rows.
	ctidScan bool
	// snapshotBound tells that positions are valid only in the snapshot of the scan, because
	// they depend on the physical order or on a partition.
	snapshotBound  bool
	part           blockRange
	cursorSnapshot []byte // the snapshot of the query's cursor
	implicitOrder  bool   // rows come in the order of the terms without ORDER BY
	offset         uint64 // rows to skip, for a scan whose cursors count rows
}

// term is a term of an order.
type term struct {
	expr       string
	selected   string // the expression in the SELECT list, whose values are sent back as parameters
	wire       wireType
	desc       bool
	row        bool // the values are rows, for which IS NULL is also true if all fields are NULL
	nullable   bool
	nullsFirst bool
}

// rowOrder is the order of the rows of a query without an order.
type rowOrder uint8

const (
	keyOrder        rowOrder = iota // the order of the key, or the physical order for a whole table
	heapOrder                       // the physical order, in which the server reads the table anyway
	heapOrderSorted                 // the physical order, with ORDER BY
)

// ctidTerm is the physical order.
var ctidTerm = term{expr: "t.ctid", selected: "t.ctid", wire: wireType{oid: oidTID, name: "pg_catalog.tid"}}

// buildStatement returns the statement for a query that was checked.
func (c *catalog) buildStatement(t *table, st *sources.Table, q *sources.Query, w rowOrder) (*statement, error) {
	b := &statement{implicitOrder: w == heapOrder}
	for _, f := range st.ScanSchema(q.Columns).Fields() { // without the ordinals of keys
		b.columns = append(b.columns, t.columns[f.Name])
	}
	b.ctidScan = w == keyOrder && t.usesCtidScan(q)
	switch {
	case b.ctidScan:
	case w == keyOrder:
		b.terms = t.terms(q.OrderBy)
	default:
		b.terms = []term{ctidTerm}
	}
	b.cursors = st.Capabilities.Has(sources.CapResume)

	var where []string
	from := t.from + " AS t"
	if b.ctidScan || w != keyOrder || q.Part != nil {
		var err error
		if b.part, err = readPartition(q.Part); err != nil {
			return nil, err
		}
		where = append(where, b.part.condition(b)...)
	}
	b.snapshotBound = b.ctidScan || w != keyOrder || q.Part != nil || t.heap && t.order == nil
	if q.Where != nil {
		s, err := b.predicate(t, q.Where)
		if err != nil {
			return nil, err
		}
		where = append(where, s)
	}
	switch {
	case q.Keys == nil:
	case st.Lookup(q.Keys.Columns).Ordinals:
		var err error
		if from, err = b.ordinalLookup(c, t, q, where); err != nil {
			return nil, err
		}
		where = nil
	default:
		s, partition, err := b.keysCondition(t, q.Keys)
		if err != nil {
			return nil, err
		}
		where = append(where, s)
		if q.Keys.LimitPerKey > 0 {
			rank := t.unused("penstock_rank")
			over := "PARTITION BY " + partition
			if order := b.orderBy(); order != "" {
				over += " ORDER BY " + order
			}
			from = fmt.Sprintf("(SELECT %s, pg_catalog.row_number() OVER (%s) AS %s FROM %s%s) AS t", b.allColumns(t), over, rank, from, whereClause(where))
			where = []string{"t." + rank + " <= " + b.param(oidInt8, binary.BigEndian.AppendUint64(nil, uint64(q.Keys.LimitPerKey))) + "::pg_catalog.int8"}
		}
	}
	if q.After != nil {
		last, err := b.readCursor(q)
		if err != nil {
			return nil, err
		}
		if !b.ctidScan {
			where = append(where, b.afterCondition(last))
		}
	}

	var sql strings.Builder
	sql.WriteString("SELECT ")
	for i, c := range b.columns {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString(c.selectExpr)
	}
	if b.cursors {
		for i, term := range b.terms {
			if i+len(b.columns) > 0 {
				sql.WriteString(", ")
			}
			sql.WriteString(term.selected)
		}
	}
	sql.WriteString(" FROM " + from + whereClause(where))
	if order := b.orderBy(); order != "" && !b.implicitOrder {
		sql.WriteString(" ORDER BY " + order)
	}
	if q.Limit > 0 {
		sql.WriteString(" LIMIT " + b.param(oidInt8, binary.BigEndian.AppendUint64(nil, uint64(q.Limit))) + "::pg_catalog.int8")
	}
	if b.offset > 0 {
		sql.WriteString(" OFFSET " + b.param(oidInt8, binary.BigEndian.AppendUint64(nil, b.offset)) + "::pg_catalog.int8")
	}
	b.sql = sql.String()
	return b, nil
}

// allColumns returns the SELECT list of a subquery with all columns of the table that the
// role may read. If the
// statement uses the physical order, which a subquery does not have, the list has it too,
// and the terms refer to that.
func (b *statement) allColumns(t *table) string {
	names := slices.Sorted(maps.Keys(t.columns))
	for i, name := range names {
		names[i] = "t." + t.columns[name].quoted
	}
	list, place := strings.Join(names, ", "), t.unused("penstock_place")
	for i := range b.terms {
		if b.terms[i].wire.oid == oidTID {
			list += ", t.ctid AS " + place
			b.terms[i].expr, b.terms[i].selected = "t."+place, "t."+place
		}
	}
	return list
}

// unused returns a name that no column has.
func (t *table) unused(name string) string {
	for t.columns[name] != nil {
		name += "_"
	}
	return name
}

// terms returns the order of a scan: the order of the query and then the table's key.
func (t *table) terms(order []sources.Sort) []term {
	var terms []term
	seen := map[string]bool{}
	for _, s := range order {
		c := t.columns[s.Column]
		if seen[s.Column] {
			continue
		}
		seen[s.Column] = true
		terms = append(terms, term{expr: c.compareExpr, selected: c.keysetExpr(c.compareExpr), wire: c.wire, desc: s.Desc, row: c.row, nullable: c.field.Nullable, nullsFirst: s.NullsFirst})
	}
	for _, name := range t.order {
		if c := t.columns[name]; !seen[name] {
			terms = append(terms, term{expr: c.orderExpr, selected: c.keysetExpr(c.orderExpr), wire: c.wire})
		}
	}
	if t.order == nil && t.heap {
		terms = append(terms, ctidTerm)
	}
	return terms
}

func (b *statement) orderBy() string {
	parts := make([]string, len(b.terms))
	for i, t := range b.terms {
		parts[i] = t.expr
		if t.desc {
			parts[i] += " DESC"
		}
		switch {
		case !t.nullable:
		case t.nullsFirst:
			parts[i] += " NULLS FIRST"
		default:
			parts[i] += " NULLS LAST"
		}
	}
	return strings.Join(parts, ", ")
}

// afterCondition returns a condition for rows after the one with the given values of the
// terms.
func (b *statement) afterCondition(last [][]byte) string {
	params := make([]string, len(last))
	plain := true // a single row comparison suffices, which an index supports
	for i, t := range b.terms {
		// A row comparison takes one name of an operator for all columns.
		plain = plain && !t.nullable && t.desc == b.terms[0].desc && (t.wire.own == nil || len(b.terms) == 1)
		if last[i] != nil {
			params[i] = t.wire.cast(b.param(t.wire.oid, last[i]))
		}
	}
	if plain {
		exprs := make([]string, len(b.terms))
		for i, t := range b.terms {
			exprs[i] = t.expr
		}
		return "(" + strings.Join(exprs, ", ") + ")" + b.terms[0].after() + "(" + strings.Join(params, ", ") + ")"
	}
	var either []string
	equal := ""
	for i, t := range b.terms {
		var later, same string
		if last[i] == nil {
			same = t.isNull()
			if later = "false"; t.nullsFirst {
				later = "NOT " + t.isNull()
			}
		} else {
			same = t.expr + t.wire.operator(sources.OpEq) + params[i]
			later = t.expr + t.after() + params[i]
			if t.nullable && !t.nullsFirst {
				later = "(" + later + " OR " + t.isNull() + ")"
			}
		}
		either = append(either, "("+equal+later+")")
		equal += same + " AND "
	}
	condition := "(" + strings.Join(either, " OR ") + ")"
	if first := b.terms[0]; !first.nullable { // with this, an index finds the beginning
		reached := sources.OpGe
		if first.desc {
			reached = sources.OpLe
		}
		condition = "(" + first.expr + first.wire.operator(reached) + params[0] + " AND " + condition + ")"
	}
	return condition
}

// isNull returns the condition that the value of the term is NULL.
func (t term) isNull() string {
	if t.row {
		return "(" + t.expr + " IS NOT DISTINCT FROM NULL)"
	}
	return "(" + t.expr + " IS NULL)"
}

// after returns the operator for values that come after another one.
func (t term) after() string {
	if t.desc {
		return t.wire.operator(sources.OpLt)
	}
	return t.wire.operator(sources.OpGt)
}

func whereClause(where []string) string {
	if len(where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(where, " AND ")
}

// keysCondition returns the condition of a lookup, and the expressions of the key for
// PARTITION BY.
func (b *statement) keysCondition(t *table, k *sources.Keys) (where, partition string, err error) {
	if len(b.values)+len(k.Columns) > 60000 {
		return "", "", errors.New("too many parameters")
	}
	exprs, arrays := make([]string, len(k.Columns)), make([]string, len(k.Columns))
	for i, name := range k.Columns {
		c := t.columns[name]
		exprs[i] = c.equalExpr
		if arrays[i], err = b.arrayParam(c, c.equalWire, keyValues(k, i)); err != nil {
			return "", "", err
		}
	}
	partition = strings.Join(exprs, ", ")
	if len(exprs) == 1 {
		return t.columns[k.Columns[0]].equalsAny(arrays[0]), partition, nil
	}
	names := make([]string, len(exprs))
	for i := range names {
		names[i] = "k" + strconv.Itoa(i)
	}
	list := strings.Join(names, ", ")
	return fmt.Sprintf("(%s) IN (SELECT %s FROM ROWS FROM (pg_catalog.unnest(%s)) AS k(%s))", partition, list, strings.Join(arrays, "), pg_catalog.unnest("), list), partition, nil
}

// keyValues returns a column of keys.
func keyValues(k *sources.Keys, column int) []sources.Value {
	values := make([]sources.Value, k.Values.NumRows())
	for row := range values {
		values[row] = sources.FieldValueAt(k.Values.Schema().Field(column), k.Values.Column(column), row)
	}
	return values
}
