package postgres_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// typeProperty asks the source about a column, and compares with what the server answers to
// plain SQL.
type typeProperty struct {
	t     *testing.T
	ses   sources.Session
	table *sources.Table
	conn  *pgx.Conn
	rows  map[string]map[int64]sources.Value // by column and id
	// textual tells of each column whether the server cannot group by it: it has no
	// equality.
	textual map[string]bool
}

// TestEveryTypeIsComparedAsTheServerDoes holds =, <>, <, <=, >, >=, in, orders with a resume
// after every page, and look-ups by keys of every type against the server.
func TestEveryTypeIsComparedAsTheServerDoes(t *testing.T) {
	uri := pgtest.Start(t).Database(t, script(t, "types.sql"), hostileSettings+`
INSERT INTO public.plain SELECT (p).* FROM (SELECT p OPERATOR(public.#=) public.hstore('id', (p.id + 100)::text) AS p FROM public.plain p) s;
INSERT INTO public.nested SELECT (p).* FROM (SELECT p OPERATOR(public.#=) public.hstore('id', (p.id + 100)::text) AS p FROM public.nested p) s;
INSERT INTO public.plain (id, ci, c, n_none, jb, iv, rn, net, m, tz) VALUES
  (201, 'mixed', 'ab', 1.0, '{"b": [1.1, null]}', '24:00:00', '(1.50,]', '10.0.0.1/32', 0.010, '13:00+01'),
  (202, 'MIXED', 'ab ', 1.000, '{"b": [1.10, null]}', '1 day', '(1.5,)', '10.0.0.2', 100, '12:00+00'),
  (203, 'b', 'B', 9.5, '1', '30 days', 'empty', '9.0.0.1', 9, '12:00+00'), (204, 'A', 'a', 100, '2', '1 mon', '[0,1]', '10.0.0.1/8', 25, '12:00-01'),
  (205, 'a', 'A', 'NaN', '10', '-1 mon', '[0,1)', '::', -9, '11:00-01'), (206, 'B', 'b', 'Infinity', '"1"', '0', '[0,1.0)', '10.0.0.1', 9, '11:00');`)
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), "SET search_path = pg_catalog, public, odd; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lc_monetary = 'C'; SET enable_seqscan = on", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	src, ses := open(t, uri, sources.Limits{Rows: 7})
	c, err := src.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"plain", "nested"} {
		p := &typeProperty{t: t, ses: ses, table: c.Table(table), conn: conn, rows: map[string]map[int64]sources.Value{}, textual: map[string]bool{}}
		p.read()
		for _, f := range p.table.Schema.Fields()[1:] {
			p.compare(f)
			p.order(f)
			p.lookUp(f)
		}
	}
}

func (p *typeProperty) read() {
	for b, err := range p.ses.Scan(p.t.Context(), &sources.Query{Table: p.table.Name}) {
		if err != nil {
			p.t.Fatal(err)
		}
		for row := range int(b.Record.NumRows()) {
			for i, f := range b.Record.Schema().Fields() {
				if p.rows[f.Name] == nil {
					p.rows[f.Name] = map[int64]sources.Value{}
				}
				p.rows[f.Name][sources.ValueAt(b.Record.Column(0), row).V.(int64)] = sources.FieldValueAt(f, b.Record.Column(i), row)
			}
		}
	}
	for _, f := range p.table.Schema.Fields() {
		if _, err := p.conn.Exec(p.t.Context(), fmt.Sprintf("SELECT FROM %s GROUP BY %s", p.table.Name, pgx.Identifier{f.Name}.Sanitize())); err != nil {
			p.textual[f.Name] = true
		}
	}
}

// expr returns a column of the alias as the server must compare it: by its type, or by the
// bytes of its text if the source has declared that.
func (p *typeProperty) expr(alias string, f arrow.Field, by sources.Comparer, ordering bool) string {
	column := alias + "." + pgx.Identifier{f.Name}.Sanitize()
	text := sources.Comparable(f.Type, arrow.BinaryTypes.String)
	if p.textual[f.Name] || by == sources.ByCompare && text && ordering {
		return fmt.Sprintf(`(CASE WHEN %s IS NOT NULL THEN format('%%s', %[1]s) END COLLATE "C")`, column)
	}
	return column
}

// numbers returns the results of a statement, one row per line.
func (p *typeProperty) numbers(sql string) []string {
	p.t.Helper()
	rows, err := p.conn.Query(p.t.Context(), sql)
	if err == nil {
		var lines []string
		if lines, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return slices.Clip(lines)
		}
	}
	p.t.Fatalf("%s: %v", sql, err)
	return nil
}

// samples returns ids of rows whose values differ, without NULL.
func (p *typeProperty) samples(f arrow.Field) []int64 {
	var ids []int64
	seen := map[string]bool{}
	for id, v := range p.rows[f.Name] {
		if !v.IsNull() && id < 100 || !v.IsNull() && id > 200 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	ids = slices.DeleteFunc(ids, func(id int64) bool {
		s := p.rows[f.Name][id].String()
		defer func() { seen[s] = true }()
		return seen[s]
	})
	return ids[:min(len(ids), 6)]
}

func (p *typeProperty) ask(q sources.Query) []string {
	p.t.Helper()
	q.Table, q.Columns = p.table.Name, []string{"id"}
	var all []string
	for { // every page is the first one of its scan
		var page sources.Batch
		n := 0
		for b, err := range p.ses.Scan(p.t.Context(), &q) {
			if err != nil {
				p.t.Errorf("%+v: %v", q, err)
				return nil
			}
			all, page, n = append(all, lines(b.Record)...), b, int(b.Record.NumRows())
			break
		}
		if q.After = page.Cursor; n == 0 || q.After == nil {
			return all
		}
	}
}

func (p *typeProperty) differs(what string, want, got []string) {
	p.t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		p.t.Errorf("%s.%s (-server +source):\n%s", p.table.Name, what, diff)
	}
}

func (p *typeProperty) compare(f arrow.Field) {
	m, ops := sources.MeaningOf(f), p.table.Filters[f.Name]
	ids := p.samples(f)
	if !ops.Has(sources.OpEq) {
		if sources.Comparable(f.Type, f.Type) {
			p.t.Errorf("%s (%s) has no filter", f.Name, f.Type)
		}
		return
	}
	byID := []sources.Sort{{Column: "id"}}
	for _, id := range ids {
		for op := sources.OpEq; op <= sources.OpGe; op++ {
			by, ordering := m.Equality, op != sources.OpEq && op != sources.OpNe
			if ordering {
				by = m.Order
			}
			operator := op.String()
			if own, _ := f.Metadata.GetValue(sources.MetaType); ordering && own == "hstore" {
				operator = "#" + operator + "#" // its operator class has operators of its own
			}
			sql := fmt.Sprintf("SELECT p.id::text FROM %s p, %[1]s x WHERE x.id = %d AND %s %s %s ORDER BY p.id", p.table.Name, id, p.expr("p", f, by, ordering), operator, p.expr("x", f, by, ordering))
			where := sources.Comparison{Column: f.Name, Op: op, Value: p.rows[f.Name][id]}
			p.differs(where.String(), p.numbers(sql), p.ask(sources.Query{Where: where, OrderBy: byID}))
		}
	}
	in, list := sources.In{Column: f.Name}, []string{"-1"}
	for _, id := range ids {
		in.Values, list = append(in.Values, p.rows[f.Name][id]), append(list, fmt.Sprint(id))
	}
	sql := fmt.Sprintf("SELECT p.id::text FROM %s p WHERE EXISTS (SELECT FROM %[1]s x WHERE x.id IN (%s) AND %s = %s) ORDER BY p.id", p.table.Name, strings.Join(list, ", "), p.expr("p", f, m.Equality, false), p.expr("x", f, m.Equality, false))
	p.differs(in.String(), p.numbers(sql), p.ask(sources.Query{Where: in, OrderBy: byID}))
}

func (p *typeProperty) order(f arrow.Field) {
	m := sources.MeaningOf(f)
	if !sources.Comparable(f.Type, f.Type) && m.CanOrder() {
		return // Check refuses it
	}
	for _, s := range []sources.Sort{{Column: f.Name}, {Column: f.Name, Desc: true}, {Column: f.Name, NullsFirst: true}} {
		words := ""
		if s.Desc {
			words = " DESC"
		}
		if s.NullsFirst {
			words += " NULLS FIRST"
		} else {
			words += " NULLS LAST"
		}
		sql := fmt.Sprintf("SELECT p.id::text FROM %s p ORDER BY %s%s, p.id", p.table.Name, p.expr("p", f, m.Order, true), words)
		p.differs(fmt.Sprintf("order by %+v", s), p.numbers(sql), p.ask(sources.Query{OrderBy: []sources.Sort{s}}))
	}
}

func (p *typeProperty) lookUp(f arrow.Field) {
	l := p.table.Lookup([]string{f.Name})
	if l == nil {
		if sources.Comparable(f.Type, f.Type) {
			p.t.Errorf("%s (%s) has no look-up", f.Name, f.Type)
		}
		return
	}
	ids := p.samples(f)
	if len(ids) == 0 {
		return
	}
	ids = append(ids, 0, ids[0]) // a NULL and a duplicate
	values := make([]sources.Value, len(ids))
	asking := make([]string, len(ids))
	for i, id := range ids {
		values[i], asking[i] = p.rows[f.Name][id], fmt.Sprint(id)
	}
	keys := keysOf(f, values)
	defer keys.Release()
	m := sources.MeaningOf(f)
	matches := fmt.Sprintf("FROM unnest(ARRAY[%s]) WITH ORDINALITY k(id, o) JOIN %s x ON x.id = k.id JOIN %[2]s p ON %s = %s",
		strings.Join(asking, ", "), p.table.Name, p.expr("p", f, m.Equality, false), p.expr("x", f, m.Equality, false))
	q := sources.Query{Keys: &sources.Keys{Columns: []string{f.Name}, Values: keys, From: &sources.KeyOrigin{Table: p.table.Name, Columns: []string{f.Name}}}}
	if !l.Ordinals {
		got := p.ask(q)
		p.differs("keys "+f.Name, p.numbers("SELECT DISTINCT p.id::text COLLATE \"C\" "+matches+" ORDER BY 1"), slices.Sorted(slices.Values(got)))
		return
	}
	p.differs("keys "+f.Name, p.numbers("SELECT p.id || '|' || (k.o - 1) "+matches+" ORDER BY k.o, p.id"), p.ask(q))
	q.Keys.From = nil
	p.differs("keys from elsewhere "+f.Name, p.numbers("SELECT p.id || '|' || (k.o - 1) "+matches+" ORDER BY k.o, p.id"), p.ask(q))
	q.Keys.LimitPerKey, q.OrderBy = 2, []sources.Sort{{Column: "id", Desc: true}}
	limited := "SELECT id || '|' || (o - 1) FROM (SELECT p.id, k.o, row_number() OVER (PARTITION BY k.o ORDER BY p.id DESC) AS n " + matches + ") s WHERE n <= 2 ORDER BY o, id DESC"
	p.differs("keys "+f.Name+" with a limit", p.numbers(limited), p.ask(q))
}

// keysOf returns a record of one column with the values.
func keysOf(f arrow.Field, values []sources.Value) arrow.RecordBatch {
	f.Type = sources.ValueType(f.Type)
	f.Nullable = true
	return keyRecord([]arrow.Field{f}, func(row, _ int) sources.Value { return values[row] }, len(values))
}

func keyRecord(fields []arrow.Field, at func(row, column int) sources.Value, rows int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for row := range rows {
		for i := range fields {
			v := at(row, i)
			v.Type = cmp.Or[arrow.DataType](v.Type, fields[i].Type)
			sources.AppendValue(b.Field(i), v)
		}
	}
	return b.NewRecordBatch()
}
