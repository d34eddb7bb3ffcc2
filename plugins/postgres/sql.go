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

// statement is a query in SQL. No value is in its text: they are parameters, in
// binary.
type statement struct {
	sql    string
	values [][]byte
	oids   []uint32
	// columns are what the batches have; the values of terms are selected after
	// them, where a cursor needs them.
	columns []*column
	terms   []term
	cursors bool
	// physical says that the rows come as they lie on the disk. Such a scan has
	// no terms: its cursor counts the rows.
	physical bool
	// momentary says that the place of a row means something in the moment alone
	// that the scan sees: by the disk's order, or within a partition.
	momentary bool
	part      part
	seen      []byte // the cursor's moment
	unsorted  bool   // the rows come in the order of the terms without being asked
	skip      uint64 // rows that were given before, where they are counted
}

// term is one of an order.
type term struct {
	expr       string
	oid        uint32 // of its values on the wire
	cast       string // the type's name
	desc       bool
	nullable   bool
	nullsFirst bool
}

// way is how the rows of a query without an order come.
type way uint8

const (
	byOrder      way = iota // of the table's key; as they lie on the disk where it is the whole table
	byDisk                  // as the server reads them from the disk, which it is not asked for but sure to do
	byDiskSorted            // the same, and the server is asked for it
)

// diskTerm is the order of the disk.
var diskTerm = term{expr: "t.ctid", oid: oidTID, cast: "pg_catalog.tid"}

// build makes the statement of a query that was checked.
func build(t *table, st *sources.Table, q *sources.Query, w way) (*statement, error) {
	b := &statement{unsorted: w == byDisk}
	for _, f := range st.ScanSchema(q.Columns).Fields() {
		b.columns = append(b.columns, t.columns[f.Name])
	}
	b.physical = w == byOrder && t.physical(q)
	switch {
	case b.physical:
	case w == byOrder:
		b.terms = t.terms(q.OrderBy)
	default:
		b.terms = []term{diskTerm}
	}
	b.cursors = st.Capabilities.Has(sources.CapResume)

	var where []string
	from := t.from + " AS t"
	if b.physical || w != byOrder || q.Part != nil {
		var err error
		if b.part, err = readPart(q.Part); err != nil {
			return nil, err
		}
		where = append(where, b.part.condition(b)...)
	}
	b.momentary = b.physical || w != byOrder || q.Part != nil || t.heap && t.order == nil
	if q.Where != nil {
		s, err := b.predicate(t, q.Where)
		if err != nil {
			return nil, err
		}
		where = append(where, s)
	}
	if q.Keys != nil {
		s, partition, err := b.keys(t, q.Keys)
		if err != nil {
			return nil, err
		}
		where = append(where, s)
		if q.Keys.LimitPerKey > 0 {
			rank, place := t.unused("penstock_rank"), t.unused("penstock_place")
			over := "PARTITION BY " + partition
			if order := b.orderBy(); order != "" {
				over += " ORDER BY " + order
			}
			inner := "t.*"
			for i := range b.terms {
				if b.terms[i].oid == oidTID { // which the rows of a subquery have not
					inner += ", t.ctid AS " + place
					b.terms[i].expr = "t." + place
				}
			}
			from = fmt.Sprintf("(SELECT %s, pg_catalog.row_number() OVER (%s) AS %s FROM %s%s) AS t", inner, over, rank, from, conjunction(where))
			where = []string{"t." + rank + " <= " + b.param(oidInt8, binary.BigEndian.AppendUint64(nil, uint64(q.Keys.LimitPerKey))) + "::pg_catalog.int8"}
		}
	}
	if q.After != nil {
		last, err := b.resume(q)
		if err != nil {
			return nil, err
		}
		if !b.physical {
			where = append(where, b.after(last))
		}
	}

	var sql strings.Builder
	sql.WriteString("SELECT ")
	for i, c := range b.columns {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString(c.read)
	}
	if b.cursors {
		for i, term := range b.terms {
			if i+len(b.columns) > 0 {
				sql.WriteString(", ")
			}
			sql.WriteString(term.expr)
		}
	}
	sql.WriteString(" FROM " + from + conjunction(where))
	if order := b.orderBy(); order != "" && !b.unsorted {
		sql.WriteString(" ORDER BY " + order)
	}
	if q.Limit > 0 {
		sql.WriteString(" LIMIT " + b.param(oidInt8, binary.BigEndian.AppendUint64(nil, uint64(q.Limit))) + "::pg_catalog.int8")
	}
	if b.skip > 0 {
		sql.WriteString(" OFFSET " + b.param(oidInt8, binary.BigEndian.AppendUint64(nil, b.skip)) + "::pg_catalog.int8")
	}
	b.sql = sql.String()
	return b, nil
}

// unused makes a name that no column has.
func (t *table) unused(name string) string {
	for t.columns[name] != nil {
		name += "_"
	}
	return name
}

// terms is the whole order of a scan: what is asked, then the table's key.
func (t *table) terms(order []sources.Sort) []term {
	var terms []term
	seen := map[string]bool{}
	for _, s := range order {
		c := t.columns[s.Column]
		if seen[s.Column] {
			continue
		}
		seen[s.Column] = true
		terms = append(terms, term{expr: c.compared, oid: c.wire.oid, cast: c.wire.name, desc: s.Desc, nullable: c.field.Nullable, nullsFirst: s.NullsFirst})
	}
	for _, name := range t.order {
		if c := t.columns[name]; !seen[name] {
			terms = append(terms, term{expr: c.key, oid: c.wire.oid, cast: c.wire.name})
		}
	}
	if t.order == nil && t.heap {
		terms = append(terms, diskTerm)
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

// after is the condition that a row comes after the one whose terms are given.
func (b *statement) after(last [][]byte) string {
	params := make([]string, len(last))
	plain := true // one row comparison says it all, and an index can take it
	for i, t := range b.terms {
		plain = plain && !t.nullable && t.desc == b.terms[0].desc
		if last[i] != nil {
			params[i] = b.param(t.oid, last[i]) + "::" + t.cast
		}
	}
	if plain {
		exprs := make([]string, len(b.terms))
		for i, t := range b.terms {
			exprs[i] = t.expr
		}
		return "(" + strings.Join(exprs, ", ") + ")" + beyond(b.terms[0].desc) + "(" + strings.Join(params, ", ") + ")"
	}
	var either []string
	equal := ""
	for i, t := range b.terms {
		var later, same string
		if last[i] == nil {
			same = t.expr + " IS NULL"
			if later = "false"; t.nullsFirst {
				later = t.expr + " IS NOT NULL"
			}
		} else {
			same = t.expr + " = " + params[i]
			later = t.expr + beyond(t.desc) + params[i]
			if t.nullable && !t.nullsFirst {
				later = "(" + later + " OR " + t.expr + " IS NULL)"
			}
		}
		either = append(either, "("+equal+later+")")
		equal += same + " AND "
	}
	return "(" + strings.Join(either, " OR ") + ")"
}

func beyond(desc bool) string {
	if desc {
		return " < "
	}
	return " > "
}

func conjunction(where []string) string {
	if len(where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(where, " AND ")
}

func (b *statement) param(oid uint32, value []byte) string {
	b.values, b.oids = append(b.values, value), append(b.oids, oid)
	return "$" + strconv.Itoa(len(b.values))
}

// keys returns the condition of a look-up, and the list that tells its keys
// apart.
func (b *statement) keys(t *table, k *sources.Keys) (where, partition string, err error) {
	if len(b.values)+len(k.Columns) > 60000 {
		return "", "", errors.New("too many parameters")
	}
	exprs, arrays := make([]string, len(k.Columns)), make([]string, len(k.Columns))
	for i, name := range k.Columns {
		c := t.columns[name]
		values := make([]sources.Value, k.Values.NumRows())
		for row := range values {
			values[row] = sources.ValueAt(k.Values.Column(i), row)
		}
		exprs[i] = c.equal
		if arrays[i], err = b.array(c, values); err != nil {
			return "", "", err
		}
	}
	partition = strings.Join(exprs, ", ")
	if len(exprs) == 1 {
		return t.columns[k.Columns[0]].among(arrays[0]), partition, nil
	}
	names := make([]string, len(exprs))
	for i := range names {
		names[i] = "k" + strconv.Itoa(i)
	}
	list := strings.Join(names, ", ")
	return fmt.Sprintf("(%s) IN (SELECT %s FROM ROWS FROM (pg_catalog.unnest(%s)) AS k(%s))", partition, list, strings.Join(arrays, "), pg_catalog.unnest("), list), partition, nil
}

// array is a parameter of many values of a column.
func (b *statement) array(c *column, values []sources.Value) (string, error) {
	oid, cast := c.param()
	nulls := uint32(0)
	var body []byte
	for _, v := range values {
		raw, err := encode(c, v)
		switch {
		case errors.Is(err, errNul):
			raw = nil // no text has a zero byte, so nothing equals it; for In, see there
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
	// The parameter's own type is left to the cast, by a zero OID.
	s := b.param(0, append(head, body...)) + "::" + cast + "[]"
	if cast != c.wire.name {
		s += "::" + c.wire.name + "[]"
	}
	return s, nil
}

// among is the condition that the column equals an element of an array. That of
// a bpchar says it twice: in the type's own way, which an index serves but which
// does not see the padding, and byte by byte.
func (c *column) among(array string) string {
	condition := c.equal + " = ANY(" + array + ")"
	if c.form.oid == oidBpchar {
		return "(t." + c.quoted + " = ANY(" + array + "::pg_catalog.bpchar[]) AND " + condition + ")"
	}
	return condition
}

// param is the type in which a literal of the column is sent. A numeric goes as
// its text, which PostgreSQL reads exactly.
func (c *column) param() (oid uint32, cast string) {
	if c.wire.oid == oidNumeric {
		return oidText, "pg_catalog.text"
	}
	return c.wire.oid, c.wire.name
}

// scalar is a parameter of one value that is not NULL.
func (b *statement) scalar(c *column, raw []byte) string {
	oid, cast := c.param()
	s := b.param(oid, raw) + "::" + cast
	if cast != c.wire.name {
		s += "::" + c.wire.name
	}
	return s
}

var errNul = errors.New("a text with a zero byte")

// encode gives a literal in PostgreSQL's binary form: nil for NULL, and never
// nil for another.
func encode(c *column, v sources.Value) ([]byte, error) {
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
		switch c.wire.oid {
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
				return nil, fmt.Errorf("column %q: %d microseconds are no time of day", c.name, x)
			}
		}
		return binary.BigEndian.AppendUint64(out, uint64(x)), nil
	case float64:
		if c.wire.oid == oidFloat4 {
			return binary.BigEndian.AppendUint32(out, math.Float32bits(float32(x))), nil
		}
		return binary.BigEndian.AppendUint64(out, math.Float64bits(x)), nil
	case decimal128.Num:
		return append(out, x.ToString(v.Type.(arrow.DecimalType).GetScale())...), nil
	case decimal256.Num:
		return append(out, x.ToString(v.Type.(arrow.DecimalType).GetScale())...), nil
	case string:
		switch {
		case c.wire.oid == oidUUID && len(x) != 16:
			return nil, fmt.Errorf("column %q: a uuid of %d bytes", c.name, len(x))
		case c.wire.text && !utf8.ValidString(x):
			return nil, fmt.Errorf("column %q: the text %q is not UTF-8", c.name, x)
		case c.wire.text && strings.IndexByte(x, 0) >= 0:
			return nil, errNul
		}
		return append(out, x...), nil
	}
	return nil, fmt.Errorf("column %q: a literal of type %s", c.name, v.Type)
}

// PostgreSQL's dates and timestamps are fewer than Arrow's. What lies beyond
// compares as an infinity does with every value that can be read.
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
