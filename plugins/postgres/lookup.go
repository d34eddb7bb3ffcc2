package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock-data/penstock/sources"
)

// keyOperator is the operator with which a foreign key compares a column of the target
// table of a look-up with a key.
type keyOperator struct {
	name string // with its schema
	// target and key are the types of the operands; empty if they are polymorphic.
	target, key string
	keyFirst    bool // the key is the left operand
}

// keyPair names a pair of columns that a foreign key compares.
type keyPair struct{ asking, target string }

// keyOperators has the operators of foreign keys, by the table that the keys come from, the
// table that is looked up in, and all pairs of columns.
type keyOperators map[string]map[string]keyOperator // the inner key is the column of the target

// pairsKey returns the key of an entry.
func pairsKey(asking, target string, pairs []keyPair) string {
	pairs = slices.Clone(pairs)
	slices.SortFunc(pairs, func(a, b keyPair) int { return strings.Compare(a.target, b.target) })
	return fmt.Sprintf("%q %q %q", asking, target, pairs)
}

// pairsOf returns the pairs of two lists of columns.
func pairsOf(asking, target []string) []keyPair {
	pairs := make([]keyPair, len(asking))
	for i := range pairs {
		pairs[i] = keyPair{asking[i], target[i]}
	}
	return pairs
}

// add adds the operators of a foreign key of a table, for look-ups in both directions.
func (o keyOperators) add(table string, columns []string, target string, targeted, names, lefts, rights []string) {
	if len(names) != len(columns) {
		return
	}
	forward, reverse := map[string]keyOperator{}, map[string]keyOperator{}
	for i, name := range names {
		forward[targeted[i]] = keyOperator{name: name, target: lefts[i], key: rights[i]}
		reverse[columns[i]] = keyOperator{name: name, target: rights[i], key: lefts[i], keyFirst: true}
	}
	o[pairsKey(table, target, pairsOf(columns, targeted))] = forward
	o[pairsKey(target, table, pairsOf(targeted, columns))] = reverse
}

// ordinalTerm orders the rows of a look-up by the keys that they equal.
var ordinalTerm = term{expr: "k.o", selected: "k.o", wire: wireType{oid: oidInt8, name: "pg_catalog.int8"}}

// ordinalColumn selects the ordinals of keys, which count from 0.
var ordinalColumn = &column{
	name: sources.OrdinalColumn, selectExpr: "(k.o - 1)::pg_catalog.int4",
	codec: &codec{oid: oidInt4, typ: arrow.PrimitiveTypes.Int32, width: 4},
	field: arrow.Field{Name: sources.OrdinalColumn, Type: arrow.PrimitiveTypes.Int32},
}

// keyColumn is a column of a look-up with ordinals.
type keyColumn struct {
	target, asking *column
	wire           wireType // of the keys
	operator       *keyOperator
}

// keyColumns describes how the keys of a look-up with ordinals are compared: with the
// operators of the foreign key, or else with the operator of the target's type.
func (c *catalog) keyColumns(t *table, q *sources.Query) []keyColumn {
	k := q.Keys
	columns := make([]keyColumn, len(k.Columns))
	asking := &table{} // has no columns unless the keys come from a table of this source
	var found map[string]keyOperator
	if k.From != nil && c.tables[k.From.Table] != nil {
		asking = c.tables[k.From.Table]
		found = c.operators[pairsKey(k.From.Table, q.Table, pairsOf(k.From.Columns, k.Columns))]
	}
	for i, name := range k.Columns {
		target := t.columns[name]
		columns[i] = keyColumn{target: target, asking: target, wire: target.equalWire}
		if o, ok := found[name]; ok {
			columns[i].operator = &o
		}
		var from *column
		if k.From != nil {
			from = asking.columns[k.From.Columns[i]]
		}
		switch {
		case from != nil:
			columns[i].asking, columns[i].wire = from, from.equalWire
		case target.equalWire.own != nil && target.codec.labels == nil:
			// Texts of another source may not be values of the type. The labels of an enum are
			// checked without the server.
			columns[i].wire = textWireType
		}
	}
	return columns
}

// castsKeys reports whether keys are cast to the type of the target, which may not be able
// to hold them.
func (k keyColumn) castsKeys() bool {
	return k.operator == nil && k.wire.name != k.target.equalWire.name && k.target.equalWire.name != textWireType.name
}

// condition returns the condition that the target equals a key.
func (k keyColumn) condition(key string) string {
	target := k.target.equalExpr
	if o := k.operator; o != nil {
		if o.target != "" && o.target != k.target.typeName {
			target += "::" + o.target
		}
		if o.key != "" && o.key != k.wire.name {
			key += "::" + o.key
		}
		if o.keyFirst {
			if k.asking.blind != "" { // the collation of the referenced column applies
				key += " COLLATE " + k.asking.blind
			}
			return key + " OPERATOR(" + o.name + ") " + target
		}
		return target + " OPERATOR(" + o.name + ") " + key
	}
	return target + k.target.equalWire.operator(sources.OpEq) + k.castKey(key)
}

// castKey returns a key as a value of the target's type.
func (k keyColumn) castKey(key string) string {
	switch to := k.target.equalWire; to.name {
	case k.wire.name:
		return key
	case textWireType.name:
		return key + "::pg_catalog.text"
	default:
		return to.cast(key + "::pg_catalog.text")
	}
}

// ordinalLookup makes the statement return each row once for every key that it equals, with
// the ordinal of the key. It returns the FROM clause, which includes the conditions.
func (b *statement) ordinalLookup(c *catalog, t *table, q *sources.Query, where []string) (from string, err error) {
	columns := c.keyColumns(t, q)
	arrays, names := make([]string, len(columns)), make([]string, len(columns))
	for i, k := range columns {
		values := keyValues(q.Keys, i)
		if q.Keys.From == nil {
			for row, v := range values {
				fit, ok := sources.Convert(v, sources.FieldType(k.target.field))
				if !ok {
					fit = sources.Null(k.target.field.Type)
				}
				values[row] = fit
			}
		}
		if arrays[i], err = b.arrayParam(k.asking, k.wire, values); err != nil {
			return "", err
		}
		arrays[i] = "pg_catalog.unnest(" + arrays[i] + ")"
		names[i] = "k" + strconv.Itoa(i)
		key := "k." + names[i]
		if k.wire.single {
			key = k.wire.cast(key)
		}
		where = append(where, k.condition(key))
	}
	keys := fmt.Sprintf("ROWS FROM (%s) WITH ORDINALITY AS k(%s, o)", strings.Join(arrays, ", "), strings.Join(names, ", "))
	if q.Keys.LimitPerKey == 0 {
		from = keys + " JOIN " + t.from + " AS t ON " + strings.Join(where, " AND ")
	} else {
		order := b.orderBy()
		inner := "SELECT " + b.allColumns(t) + " FROM " + t.from + " AS t" + whereClause(where)
		if order != "" {
			inner += " ORDER BY " + order
		}
		inner += " LIMIT " + b.param(oidInt8, binary.BigEndian.AppendUint64(nil, uint64(q.Keys.LimitPerKey))) + "::pg_catalog.int8"
		from = keys + " CROSS JOIN LATERAL (" + inner + ") AS t"
	}
	b.columns = append(b.columns, ordinalColumn)
	b.terms = append([]term{ordinalTerm}, b.terms...)
	return from, nil
}

// dropInvalidKeys returns q with NULL for keys that the types of their columns cannot hold.
// The server would fail for them, and has no cast that does not.
func (n *session) dropInvalidKeys(ctx context.Context, m *snapshotConn, t *table, st *sources.Table, q *sources.Query) (*sources.Query, error) {
	if q.Keys == nil || !st.Lookup(q.Keys.Columns).Ordinals {
		return q, nil
	}
	var columns []arrow.Array
	for i, k := range n.c.keyColumns(t, q) {
		if !k.castsKeys() {
			continue
		}
		values := keyValues(q.Keys, i)
		dropped := false
		err := n.eachInvalid(ctx, m, k, values, func(row int) { values[row], dropped = sources.Null(values[row].Type), true })
		if err != nil {
			return nil, err
		}
		if !dropped {
			continue
		}
		if columns == nil {
			columns = slices.Clone(q.Keys.Values.Columns())
		}
		builder := array.NewBuilder(memory.DefaultAllocator, columns[i].DataType())
		defer builder.Release()
		for _, v := range values {
			sources.AppendValue(builder, v)
		}
		columns[i] = builder.NewArray()
	}
	if columns == nil {
		return q, nil
	}
	changed, keys := *q, *q.Keys
	keys.Values = array.NewRecordBatch(q.Keys.Values.Schema(), columns, q.Keys.Values.NumRows())
	changed.Keys = &keys
	return &changed, nil
}

// eachInvalid calls drop for the index of each value that cannot be cast to the type of the
// target. It casts all at once, and divides those that fail.
func (n *session) eachInvalid(ctx context.Context, m *snapshotConn, k keyColumn, values []sources.Value, drop func(row int)) error {
	var check func(from, to int) error
	check = func(from, to int) error {
		b := &statement{}
		keys, err := b.arrayParam(k.asking, k.wire, values[from:to])
		if err != nil {
			return sources.NewError(sources.Invalid, "", "", err)
		}
		b.sql = "SELECT pg_catalog.count(" + k.castKey("x") + ") FROM pg_catalog.unnest(" + keys + ") AS k(x)"
		if m.exported == "" { // there is no savepoint yet
			if _, err := m.conn.Conn().PgConn().Exec(ctx, "SAVEPOINT penstock").ReadAll(); err != nil {
				return n.translateError(ctx, err)
			}
		}
		result := m.conn.Conn().PgConn().ExecParams(ctx, b.sql, b.values, b.oids, b.formats(), nil).Read()
		if result.Err == nil {
			return nil
		}
		if m.rollBack(); m.exported == "" {
			if _, err := m.conn.Conn().PgConn().Exec(ctx, "ROLLBACK TO SAVEPOINT penstock").ReadAll(); err != nil {
				return n.translateError(ctx, err)
			}
		}
		var pg *pgconn.PgError
		switch {
		// A type whose values are names of objects says that there is no such object.
		case !errors.As(result.Err, &pg) || !slices.Contains([]string{"22", "42", "3F", "0A"}, pg.Code[:min(2, len(pg.Code))]):
			return n.translateError(ctx, result.Err)
		case to-from == 1:
			drop(from)
			return nil
		}
		middle := (from + to) / 2
		if err := check(from, middle); err != nil {
			return err
		}
		return check(middle, to)
	}
	if len(values) == 0 {
		return nil
	}
	return check(0, len(values))
}
