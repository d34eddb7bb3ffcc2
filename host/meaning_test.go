package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/plugins/postgres"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit/pgtest"
)

// everyType asks the questions of the tests below about every column of a table: each
// comparison with some of the column's values, lists, and every order.
type everyType struct {
	source sources.Source
	table  *sources.Table
	rows   []map[string]sources.Value
	// truth returns the ids that a question has by another authority, in order, or
	// false if the authority cannot answer it.
	truth func(t *testing.T, column, op string, literals []int, order string) ([]int64, bool)
}

func newEveryType(t *testing.T, source sources.Source, table string) *everyType {
	t.Helper()
	c, err := source.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := &everyType{source: source, table: c.Table(table)}
	stream, err := core.Open(t.Context(), source, core.Query{Table: table, OrderBy: []sources.Sort{{Column: "id"}}}, core.Options{}, core.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		for row := range int(chunk.Record.NumRows()) {
			values := map[string]sources.Value{}
			for i, f := range chunk.Record.Schema().Fields() {
				values[f.Name] = sources.FieldValueAt(f, chunk.Record.Column(i), row)
			}
			e.rows = append(e.rows, values)
		}
	}
	return e
}

// ask returns the ids of the rows of an answer, in order.
func (e *everyType) ask(ctx context.Context, q core.Query, noPushdown bool) (ids []int64, err error) {
	q.Table, q.Columns = e.table.Name, []string{"id"}
	stream, err := core.Open(ctx, e.source, q, core.Options{NoPushdown: noPushdown}, core.Resources{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return nil, err
		}
		for row := range int(chunk.Record.NumRows()) {
			id, _ := sources.Convert(sources.ValueAt(chunk.Record.Column(0), row), arrow.PrimitiveTypes.Int64)
			ids = append(ids, id.V.(int64))
		}
	}
	return ids, nil
}

// both asks with the source's help and without it, and compares the answers: they are
// equal, or both are refused.
func (e *everyType) both(t *testing.T, what string, q core.Query) (ids []int64, answered bool) {
	t.Helper()
	pushed, err := e.ask(t.Context(), q, false)
	own, ownErr := e.ask(t.Context(), q, true)
	switch {
	case (err == nil) != (ownErr == nil):
		t.Errorf("%s: pushed down: %v; not pushed down: %v", what, err, ownErr)
	case err != nil && sources.KindOf(err) != sources.Invalid:
		t.Errorf("%s: %v", what, err)
	case err == nil:
		if diff := cmp.Diff(pushed, own); diff != "" {
			t.Errorf("%s (-pushed down +not):\n%s", what, diff)
		}
		return pushed, true
	}
	return nil, false
}

// run asks everything, and returns how many questions were answered and held against
// the truth.
func (e *everyType) run(t *testing.T) (answered, held int) {
	t.Helper()
	check := func(what string, q core.Query, column, op string, literals []int, order string) {
		ids, ok := e.both(t, what, q)
		if !ok {
			return
		}
		answered++
		if e.truth == nil {
			return
		}
		want, ok := e.truth(t, column, op, literals, order)
		if !ok {
			return
		}
		held++
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("%s (-the source's own answer +penstock's):\n%s", what, diff)
		}
	}
	byID := []sources.Sort{{Column: "id"}}
	ops := []sources.Op{sources.OpEq, sources.OpNe, sources.OpLt, sources.OpLe, sources.OpGt, sources.OpGe}
	for _, f := range e.table.Schema.Fields() {
		if f.Name == "id" {
			continue
		}
		var picked []int // rows whose values are literals
		for i, row := range e.rows {
			if v := row[f.Name]; !v.IsNull() && len(picked) < 3 && sources.Comparable(v.Type, sources.FieldType(f)) {
				picked = append(picked, i)
			}
		}
		for _, i := range picked {
			v := e.rows[i][f.Name]
			for _, op := range ops {
				what := fmt.Sprintf("%s %s %s", f.Name, op, v)
				check(what, core.Query{Where: sources.Comparison{Column: f.Name, Op: op, Value: v}, OrderBy: byID}, f.Name, op.String(), []int{i}, "id")
			}
		}
		if len(picked) > 0 {
			in := sources.In{Column: f.Name}
			for _, i := range picked {
				in.Values = append(in.Values, e.rows[i][f.Name])
			}
			check(in.String(), core.Query{Where: in, OrderBy: byID}, f.Name, "in", picked, "id")
			negated := sources.Not{Predicate: in}
			check(negated.String(), core.Query{Where: negated, OrderBy: byID}, f.Name, "not in", picked, "id")
		}
		for _, desc := range []bool{false, true} {
			order := []sources.Sort{{Column: f.Name, Desc: desc, NullsFirst: desc}, {Column: "id"}}
			what, text := f.Name+" nulls last, id", "%s nulls last, id"
			if desc {
				what, text = f.Name+" desc nulls first, id", "%s desc nulls first, id"
			}
			check("order by "+what, core.Query{OrderBy: order}, f.Name, "", nil, text)
			check("order by "+what+" limit 3", core.Query{OrderBy: order, Limit: 3}, f.Name, "", nil, text+" limit 3")
		}
	}
	return answered, held
}

// noOperatorClass are the columns of boxes and paths. The operators of these types compare
// areas and numbers of points, and belong to no operator class. They compare as text.
var noOperatorClass = []string{"bx", "pa"}

// TestEveryTypeOfPostgres holds every comparison of every type against the server's own
// answer, with and without push-down.
func TestEveryTypeOfPostgres(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("..", "plugins", "postgres", "testdata", "types.sql"))
	if err != nil {
		t.Fatal(err)
	}
	uri := pgtest.Start(t).Database(t, string(script), `CREATE TABLE twin AS SELECT * FROM plain; ALTER TABLE twin ADD PRIMARY KEY (id)`)
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	source, err := postgres.Open(t.Context(), sources.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	e := newEveryType(t, source, "plain")
	// Text keeps byte order, whatever its collation.
	bytewise := []string{"t", "v", "v0", "nm", "c", "c1"}
	e.truth = func(t *testing.T, column, op string, literals []int, order string) ([]int64, bool) {
		t.Helper()
		if slices.Contains(noOperatorClass, column) {
			return nil, false
		}
		quoted := pgx.Identifier{column}.Sanitize()
		sql := "SELECT id FROM plain"
		ordered := quoted
		if slices.Contains(bytewise, column) {
			ordered += ` COLLATE "C"`
		}
		values := make([]string, len(literals))
		for i, row := range literals {
			values[i] = fmt.Sprintf("(SELECT x.%s FROM plain x WHERE x.id = %d)", quoted, e.rows[row]["id"].V)
		}
		switch op {
		case "":
		case "in", "not in":
			sql += fmt.Sprintf(" WHERE %s %s (%s)", quoted, op, strings.Join(values, ", "))
		case "=", "<>":
			sql += fmt.Sprintf(" WHERE %s %s %s", quoted, op, values[0])
		default:
			sql += fmt.Sprintf(" WHERE %s %s %s", ordered, op, values[0])
		}
		if strings.Contains(order, "%s") {
			order = fmt.Sprintf(order, ordered)
		}
		return serverIDs(t, conn, sql+" ORDER BY "+order)
	}
	answered, held := e.run(t)
	t.Logf("%d columns, %d questions answered, %d of them held against the server", e.table.Schema.NumFields(), answered, held)
	if held < 500 {
		t.Errorf("only %d questions were held against the server", held)
	}
}

// serverIDs returns the ids that a statement selects, or false if it is not valid,
// because the type has no such operator.
func serverIDs(t *testing.T, conn *pgx.Conn, sql string) ([]int64, bool) {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		return nil, false
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, false
	}
	if len(ids) == 0 {
		return nil, true
	}
	return ids, true
}

// TestEveryKeyOfPostgres declares a relation by every column, and holds the related
// rows against the server's own join.
func TestEveryKeyOfPostgres(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("..", "plugins", "postgres", "testdata", "types.sql"))
	if err != nil {
		t.Fatal(err)
	}
	uri := pgtest.Start(t).Database(t, string(script), `CREATE TABLE twin AS SELECT * FROM plain; ALTER TABLE twin ADD PRIMARY KEY (id); INSERT INTO twin SELECT (p).* FROM (SELECT p #= hstore('id', (id + 100)::text) AS p FROM plain p) s`)
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	plain, err := postgres.Open(t.Context(), sources.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	c, err := plain.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fields := c.Table("plain").Schema.Fields()
	_ = plain.Close()
	loaded := 0
	for _, f := range fields {
		if f.Name == "id" || slices.Contains(noOperatorClass, f.Name) { // id: a relation to one row
			continue
		}
		source, err := postgres.Open(t.Context(), sources.Config{URI: uri, Options: map[string]string{"relation": fmt.Sprintf("twin.%s->plain.%[1]s", f.Name)}})
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		got, err := relatedIDs(t, source, "twin")
		quoted := pgx.Identifier{f.Name}.Sanitize()
		var want []string
		rows, serverErr := conn.Query(t.Context(), fmt.Sprintf("SELECT p.id || ': ' || string_agg(q.id::text, ' ' ORDER BY q.id) FROM plain p JOIN twin q ON p.%s = q.%[1]s GROUP BY p.id ORDER BY p.id", quoted))
		if serverErr == nil {
			want, serverErr = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		switch {
		case err != nil && sources.KindOf(err) == sources.Invalid:
			t.Logf("%s (%s) is refused: %v", f.Name, f.Type, err)
		case err != nil:
			t.Errorf("%s: %v", f.Name, err)
		case serverErr != nil:
			t.Logf("%s: the server cannot join: %v", f.Name, serverErr)
		default:
			loaded++
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-server +penstock):\n%s", f.Name, diff)
			}
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d of %d columns were loaded as keys", loaded, len(fields))
	if loaded < 40 {
		t.Errorf("only %d columns were loaded as keys", loaded)
	}
}

// relatedIDs lists the ids of the rows of plain that have related rows, with the ids of
// those.
func relatedIDs(t *testing.T, source sources.Source, relation string) ([]string, error) {
	t.Helper()
	q := core.Query{Table: "plain", Columns: []string{"id"}, OrderBy: []sources.Sort{{Column: "id"}}, Load: query.Load{Required: []query.Branch{{Name: relation, Columns: []string{"id"}}}}}
	stream, err := core.Open(t.Context(), source, q, core.Options{}, core.Resources{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	var out []string
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return nil, err
		}
		lists := chunk.Record.Column(1).(*array.List)
		ids := lists.ListValues().(*array.Struct).Field(0)
		for row := range int(chunk.Record.NumRows()) {
			from, to := lists.ValueOffsets(row)
			if from == to {
				continue
			}
			line := chunk.Record.Column(0).ValueStr(row) + ":"
			for i := from; i < to; i++ {
				line += " " + ids.ValueStr(int(i))
			}
			out = append(out, line)
		}
	}
	return out, nil
}

// TestEveryTypeOfCSV asks about every type that a CSV file can declare, with and
// without push-down.
func TestEveryTypeOfCSV(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("t.csv", `id,b,i,n,f,s,d,ti,ts,y
1,true,-5,1.50,1e300,Mark,2020-02-29,23:59:59,2020-01-01T00:00:00Z,2020
2,false,5,1.5,-0.5,mark,0001-01-01,00:00:00,1999-12-31T23:59:59Z,1999
3,,,,,,,,,
4,true,5,100,NaN,"é, ""x""",2020-03-01,12:30:00,2020-01-01T00:00:00Z,2020
5,false,9223372036854775807,25,INF,ab ,9999-12-31,00:00:01,2262-04-11T00:00:00Z,2021
6,true,0,-9.5,0,,2020-02-29,00:00:00,1970-01-01T00:00:00Z,0001
`)
	write("datapackage.json", `{"resources": [{"name": "t", "path": "t.csv", "schema": {"primaryKey": "id", "fields": [
  {"name": "id", "type": "integer"}, {"name": "b", "type": "boolean"}, {"name": "i", "type": "integer"}, {"name": "n", "type": "number"},
  {"name": "f", "type": "number", "format": "float"}, {"name": "s", "type": "string"}, {"name": "d", "type": "date"}, {"name": "ti", "type": "time"},
  {"name": "ts", "type": "datetime"}, {"name": "y", "type": "year"}]}}]}`)
	source, err := csv.Open(t.Context(), sources.Config{URI: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	answered, _ := newEveryType(t, source, "t").run(t)
	t.Logf("%d questions answered", answered)
	if answered < 150 {
		t.Errorf("only %d questions were answered", answered)
	}
}
