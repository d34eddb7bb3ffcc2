package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"

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
			rank, alias := t.unused("penstock_rank"), t.unused("penstock_place")
			over := "PARTITION BY " + partition
			if order := b.orderBy(); order != "" {
				over += " ORDER BY " + order
			}
			inner := "t.*"
			for i := range b.terms {
				if b.terms[i].wire.oid == oidTID { // which a subquery does not have
					inner += ", t.ctid AS " + alias
					b.terms[i].expr, b.terms[i].selected = "t."+alias, "t."+alias
				}
			}
			from = fmt.Sprintf("(SELECT %s, pg_catalog.row_number() OVER (%s) AS %s FROM %s%s) AS t", inner, over, rank, from, whereClause(where))
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

// cast returns a value of the type, from a parameter that is sent in the type's own binary
// format, or as text.
func (w wireType) cast(param string) string {
	switch {
	case w.input != "":
		return w.input + "(pg_catalog.textout(" + param + "::pg_catalog.text))"
	case w.own != nil:
		return param + "::pg_catalog.text::" + w.name
	}
	return param + "::" + w.name
}

func whereClause(where []string) string {
	if len(where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(where, " AND ")
}

func (b *statement) param(oid uint32, value []byte) string {
	b.values, b.oids = append(b.values, value), append(b.oids, oid)
	return "$" + strconv.Itoa(len(b.values))
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

// arrayParam adds a parameter with an array of values of a column, in one of its wire types.
func (b *statement) arrayParam(c *column, wire wireType, values []sources.Value) (string, error) {
	oid, cast := wire.param()
	nulls := uint32(0)
	var body []byte
	for _, v := range values {
		raw, err := encode(c, wire, v)
		switch {
		case errors.Is(err, errEqualsNothing):
			raw = nil // predicate removes such values of In
		case err != nil:
			return "", err
		}
		if raw == nil {
			nulls = 1
			body = binary.BigEndian.AppendUint32(body, math.MaxUint32)
			continue
		}
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(raw))), raw...)
	}
	head := binary.BigEndian.AppendUint32(nil, 1)
	if len(values) == 0 {
		head = binary.BigEndian.AppendUint32(nil, 0)
	}
	head = binary.BigEndian.AppendUint32(head, nulls)
	head = binary.BigEndian.AppendUint32(head, oid)
	if len(values) > 0 {
		head = binary.BigEndian.AppendUint32(head, uint32(len(values)))
		head = binary.BigEndian.AppendUint32(head, 1)
	}
	// With OID 0, the cast determines the type of the parameter.
	s := b.param(0, append(head, body...)) + "::" + cast + "[]"
	if cast != wire.name && !wire.single {
		s += "::" + wire.name + "[]"
	}
	return s, nil
}

// equalsAny returns a condition that the column equals an element of an array.
func (c *column) equalsAny(array string) string {
	if c.equalWire.single {
		array = "SELECT " + c.equalWire.cast("x") + " FROM pg_catalog.unnest(" + array + ") AS x"
	}
	return c.equalExpr + c.equalWire.operator(sources.OpEq) + "ANY(" + array + ")"
}

// param returns the type in which values are sent. Numerics are sent as text, which is
// exact, and so are types that are compared by their own operators.
func (w wireType) param() (oid uint32, cast string) {
	if w.oid == oidNumeric || w.own != nil {
		return oidText, "pg_catalog.text"
	}
	return w.oid, w.name
}

// scalarParam adds a parameter with one value, which must not be NULL.
func (b *statement) scalarParam(wire wireType, raw []byte) string {
	if wire.own != nil {
		return wire.cast(b.param(oidText, raw))
	}
	oid, cast := wire.param()
	s := b.param(oid, raw) + "::" + cast
	if cast != wire.name {
		s += "::" + wire.name
	}
	return s
}

// errEqualsNothing is the error for a literal that the column's type cannot hold, so that
// no value equals it: a text with a zero byte, or a label that an enum does not have.
var errEqualsNothing = errors.New("a value that the type of the column cannot hold")

// encode returns a literal for a column in the format of a wire type. The result is nil if
// and only if the literal is NULL.
func encode(c *column, wire wireType, v sources.Value) ([]byte, error) {
	if v.IsNull() {
		return nil, nil
	}
	out := []byte{}
	switch x := v.V.(type) {
	case bool:
		if x {
			return append(out, 1), nil
		}
		return append(out, 0), nil
	case int64:
		switch wire.oid {
		case oidInt2:
			return binary.BigEndian.AppendUint16(out, uint16(x)), nil
		case oidInt4:
			return binary.BigEndian.AppendUint32(out, uint32(x)), nil
		case oidDate:
			return binary.BigEndian.AppendUint32(out, uint32(encodeDate(x))), nil
		case oidTimestamp, oidTimestamptz:
			return binary.BigEndian.AppendUint64(out, uint64(encodeTimestamp(x))), nil
		case oidTime:
			if x < 0 || x > dayMicros {
				return nil, fmt.Errorf("column %q: %d microseconds is not a time of day", c.name, x)
			}
		}
		return binary.BigEndian.AppendUint64(out, uint64(x)), nil
	case float64:
		if wire.oid == oidFloat4 {
			return binary.BigEndian.AppendUint32(out, math.Float32bits(float32(x))), nil
		}
		return binary.BigEndian.AppendUint64(out, math.Float64bits(x)), nil
	case sources.Digits:
		if !c.holdsNumber(x) {
			return nil, errEqualsNothing
		}
		return append(out, x...), nil
	case decimal128.Num:
		return append(out, x.ToString(v.Type.(arrow.DecimalType).GetScale())...), nil
	case decimal256.Num:
		return append(out, x.ToString(v.Type.(arrow.DecimalType).GetScale())...), nil
	case string:
		switch {
		case wire.oid == oidUUID && len(x) != 16:
			return nil, fmt.Errorf("column %q: a UUID must have 16 bytes (got %d)", c.name, len(x))
		case wire.text && !utf8.ValidString(x):
			return nil, fmt.Errorf("column %q: the text %q is not valid UTF-8", c.name, x)
		case wire.text && strings.IndexByte(x, 0) >= 0:
			return nil, errEqualsNothing
		case wire.own != nil && c.codec.labels != nil:
			if _, ok := c.codec.labels[x]; !ok {
				return nil, errEqualsNothing
			}
		}
		return append(out, x...), nil
	}
	return nil, fmt.Errorf("column %q: a literal of type %s is not supported", c.name, v.Type)
}

// PostgreSQL's dates and timestamps have a smaller range than Arrow's. Values outside of
// it are encoded as infinities, which compare in the same way with all readable values.
func encodeDate(days int64) int32 {
	switch d := days - epochDays; {
	case d < -2451545:
		return math.MinInt32
	case d >= 2147483494-2451545:
		return math.MaxInt32
	default:
		return int32(d)
	}
}

func encodeTimestamp(micros int64) int64 {
	const first, end = -211813488000000000, 9223371331200000000
	switch {
	case micros < first+epochMicros:
		return math.MinInt64
	case micros-epochMicros >= end:
		return math.MaxInt64
	}
	return micros - epochMicros
}
