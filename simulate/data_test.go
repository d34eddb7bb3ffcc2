package simulate

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// row maps the columns of a row to its values.
type row map[string]any

// data is the contents of all tables in one version, and the source that serves it.
type data struct {
	tables map[string][]row
	source sources.Source
}

var columns = map[string][]arrow.Field{
	"items": {{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "group_id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "text", Type: arrow.BinaryTypes.String, Nullable: true}},
	"groups":      {{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "text", Type: arrow.BinaryTypes.String, Nullable: true}},
	"tags":        {{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "item_id", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "word", Type: arrow.BinaryTypes.String}},
	"labels":      {{Name: "name", Type: arrow.BinaryTypes.String}, {Name: "text", Type: arrow.BinaryTypes.String, Nullable: true}},
	"item_labels": {{Name: "item_id", Type: arrow.PrimitiveTypes.Int64}, {Name: "label", Type: arrow.BinaryTypes.String}},
}

var tableNames = []string{"groups", "items", "tags", "labels", "item_labels"}

var keys = map[string][]string{"items": {"id"}, "groups": {"id"}, "tags": {"id"}, "labels": {"name"}, "item_labels": {"item_id", "label"}}

var foreignKeys = []sources.ForeignKey{
	{Table: "items", Columns: []string{"group_id"}, TargetTable: "groups"},
	{Table: "tags", Columns: []string{"item_id"}, TargetTable: "items"},
	{Table: "item_labels", Columns: []string{"item_id"}, TargetTable: "items"},
	{Table: "item_labels", Columns: []string{"label"}, TargetTable: "labels"},
}

const (
	groupCount = 5
	labelCount = 4
)

// newData returns the tables in a version. References are NULL, dangle, and occur
// several times.
func (w world) newData(version int) *data {
	d := &data{tables: map[string][]row{}}
	roll := func(what string, i, n int) int { return int(w.mix(what, i+version*7919) % uint64(n)) }
	text := func(i int) any {
		if roll("null", i, 7) == 0 {
			return nil
		}
		return fmt.Sprintf("v%d:%s", version, strings.Repeat("x", roll("text", i, cmp.Or(w.Wide, 40))))
	}
	count := w.Rows + version%3
	order := make([]int, count) // not that of the keys
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return roll("order", a, 1000)*1000 + a - roll("order", b, 1000)*1000 - b })
	for _, i := range order {
		r := row{"id": int64(i), "group_id": int64(roll("group", i, groupCount+1)), "n": int64(roll("n", i, 10)), "text": text(i)}
		if roll("no group", i, 5) == 0 {
			r["group_id"] = nil
		}
		if roll("no n", i, 9) == 0 {
			r["n"] = nil
		}
		d.tables["items"] = append(d.tables["items"], r)
	}
	for i := range min(count, groupCount) {
		d.tables["groups"] = append(d.tables["groups"], row{"id": int64(i), "n": int64(roll("gn", i, 10)), "text": text(-i)})
	}
	for i := range count {
		r := row{"id": int64(i), "item_id": int64(roll("item", i, count+2)), "word": fmt.Sprintf("w%d", roll("word", i, 1000))}
		if roll("no item", i, 8) == 0 {
			r["item_id"] = nil
		}
		d.tables["tags"] = append(d.tables["tags"], r)
	}
	for i := range min(count, labelCount) {
		d.tables["labels"] = append(d.tables["labels"], row{"name": fmt.Sprint("l", i), "text": text(1000 + i)})
	}
	for i := range count * labelCount {
		if roll("labels", i, 4) == 0 {
			d.tables["item_labels"] = append(d.tables["item_labels"], row{"item_id": int64(i / labelCount), "label": fmt.Sprint("l", i%labelCount)})
		}
	}
	var tables []testkit.MemoryTable
	for _, name := range tableNames {
		tables = append(tables, testkit.MemoryTable{Name: name, Schema: arrow.NewSchema(columns[name], nil), Key: keys[name], Rows: d.rowsOf(name)})
	}
	var err error
	if d.source, err = testkit.NewMemory(tables, foreignKeys); err != nil {
		panic(err)
	}
	return d
}

func (d *data) rowsOf(table string) iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for _, r := range d.tables[table] {
			values := make([]any, len(columns[table]))
			for i, f := range columns[table] {
				values[i] = r[f.Name]
			}
			if !yield(values) {
				return
			}
		}
	}
}

// model returns the rows that a reader must get, as text: those of its table, filtered,
// sorted, limited unless any of them will do, with their related rows.
func (d *data) model(r reader, order []sources.Sort, limited bool) []string {
	rows := slices.DeleteFunc(slices.Clone(d.tables[r.table()]), func(o row) bool {
		n, ok := o["n"].(int64)
		return r.Below > 0 && (!ok || n >= r.Below)
	})
	slices.SortStableFunc(rows, compareRows(order))
	if r.Limit > 0 && limited {
		rows = rows[:min(r.Limit, int64(len(rows)))]
	}
	var out []string
	for _, o := range rows {
		out = append(out, "{"+strings.Join(d.fields(r.table(), o, r.Columns, r.load().Required), " ")+"}")
	}
	return out
}

// fields returns the columns and the relations of a row as text.
func (d *data) fields(table string, o row, names []string, load []query.Branch) (out []string) {
	if names == nil {
		for _, f := range columns[table] {
			names = append(names, f.Name)
		}
	}
	for _, name := range names {
		out = append(out, name+":"+valueText(o[name]))
	}
	for _, b := range load {
		out = append(out, b.Name+":"+d.related(table, o, b))
	}
	return out
}

// hop is one relation of the model: the rows of table whose to equals from.
type hop struct {
	from, table, to string
	through         *hop
	toOne           bool
}

var hops = map[string]hop{
	"items.group":  {from: "group_id", table: "groups", to: "id", toOne: true},
	"items.tags":   {from: "id", table: "tags", to: "item_id"},
	"items.labels": {from: "id", table: "item_labels", to: "item_id", through: &hop{from: "label", table: "labels", to: "name"}},
	"groups.items": {from: "id", table: "items", to: "group_id"},
}

// related returns the related rows of a row as text.
func (d *data) related(table string, o row, b query.Branch) string {
	h := hops[table+"."+b.Name]
	match := func(h hop, from row) []row {
		return slices.DeleteFunc(slices.Clone(d.tables[h.table]), func(other row) bool { return from[h.from] == nil || other[h.to] != from[h.from] })
	}
	rows, target := match(h, o), h.table
	if h.through != nil {
		joins := rows
		rows, target = nil, h.through.table
		for _, join := range joins {
			rows = append(rows, match(*h.through, join)...)
		}
	}
	slices.SortStableFunc(rows, compareRows(append(slices.Clone(b.OrderBy), sources.Sort{Column: keys[target][0]})))
	if b.Limit > 0 {
		rows = rows[:min(b.Limit, len(rows))]
	}
	var out []string
	for _, other := range rows {
		out = append(out, "{"+strings.Join(d.fields(target, other, b.Columns, b.Below), " ")+"}")
	}
	switch {
	case !h.toOne:
		return "[" + strings.Join(out, " ") + "]"
	case len(out) == 0:
		return "NULL"
	}
	return out[0]
}

// compareRows compares by the terms of an order.
func compareRows(order []sources.Sort) func(a, b row) int {
	value := func(v any) sources.Value {
		switch v := v.(type) {
		case int64:
			return sources.Int(v)
		case string:
			return sources.Text(v)
		}
		return sources.Value{}
	}
	return func(a, b row) int {
		for _, s := range order {
			if c := testkit.CompareBy(s, value(a[s.Column]), value(b[s.Column])); c != 0 {
				return c
			}
		}
		return 0
	}
}

func valueText(v any) string {
	if v == nil {
		return "NULL"
	}
	return fmt.Sprint(v)
}

// textOf returns a value that the engine has yielded, in the form of the model.
func textOf(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "NULL"
	}
	switch a := a.(type) {
	case *array.Int64:
		return fmt.Sprint(a.Value(i))
	case *array.String:
		return a.Value(i)
	case *array.Struct:
		var out []string
		for j, f := range a.DataType().(*arrow.StructType).Fields() {
			out = append(out, f.Name+":"+textOf(a.Field(j), i))
		}
		return "{" + strings.Join(out, " ") + "}"
	case *array.List:
		var out []string
		from, to := a.ValueOffsets(i)
		for j := from; j < to; j++ {
			out = append(out, textOf(a.ListValues(), int(j)))
		}
		return "[" + strings.Join(out, " ") + "]"
	}
	return "? " + a.DataType().String()
}

// textsOf returns the rows of a record in the form of the model.
func textsOf(record arrow.RecordBatch) []string {
	var all []string
	for i := range int(record.NumRows()) {
		var out []string
		for j, f := range record.Schema().Fields() {
			out = append(out, f.Name+":"+textOf(record.Column(j), i))
		}
		all = append(all, "{"+strings.Join(out, " ")+"}")
	}
	return all
}
