package query_test

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

func numbers(values ...int64) arrow.RecordBatch {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(values, nil)
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	return array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, int64(len(values)))
}

// changes has a change of every field of what a source is asked for, by its path.
var changes = map[string]func(q *sources.Query){
	"Table":              func(q *sources.Query) { q.Table = "twins" },
	"Columns":            func(q *sources.Query) { q.Columns = []string{"id"} },
	"Where":              func(q *sources.Query) { q.Where = sources.IsNull{Column: "name"} },
	"Keys":               func(q *sources.Query) { q.Keys = nil },
	"Keys.Columns":       func(q *sources.Query) { q.Keys.Columns = []string{"name"} },
	"Keys.Values":        func(q *sources.Query) { q.Keys.Values = numbers(1, 3) },
	"Keys.From":          func(q *sources.Query) { q.Keys.From = &sources.KeyOrigin{Table: "u", Columns: []string{"x"}} },
	"Keys.LimitPerKey":   func(q *sources.Query) { q.Keys.LimitPerKey = 7 },
	"OrderBy":            func(q *sources.Query) { q.OrderBy = nil },
	"OrderBy.Column":     func(q *sources.Query) { q.OrderBy[0].Column = "id" },
	"OrderBy.Desc":       func(q *sources.Query) { q.OrderBy[0].Desc = true },
	"OrderBy.NullsFirst": func(q *sources.Query) { q.OrderBy[0].NullsFirst = true },
	"Limit":              func(q *sources.Query) { q.Limit = 5 },
	"After":              func(q *sources.Query) { q.After = sources.Cursor("a") },
	"Part":               func(q *sources.Query) { q.Part = sources.Part("p") },
}

func paths(t reflect.Type, path string) []string {
	var all []string
	for i := range t.NumField() {
		name := path + t.Field(i).Name
		all = append(all, name)
		switch t.Field(i).Type {
		case reflect.TypeFor[*sources.Keys]():
			all = append(all, paths(reflect.TypeFor[sources.Keys](), name+".")...)
		case reflect.TypeFor[[]sources.Sort]():
			all = append(all, paths(reflect.TypeFor[sources.Sort](), name+".")...)
		}
	}
	return all
}

// TestNoFieldIsForgotten: every field of what a source is asked for is part of the
// fingerprint and of the request that goes over a wall.
func TestNoFieldIsForgotten(t *testing.T) {
	fields := slices.Sorted(slices.Values(paths(reflect.TypeFor[sources.Query](), "")))
	if diff := cmp.Diff(fields, slices.Sorted(maps.Keys(changes))); diff != "" {
		t.Fatalf("the fields of sources.Query and the changes differ (-fields +changes):\n%s", diff)
	}
	table := &sources.Table{Name: "t", Schema: arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "name", Type: arrow.BinaryTypes.String},
	}, nil)}
	forms := func(change func(q *sources.Query)) (query.Fingerprint, string) {
		q := sources.Query{Table: "t", Columns: []string{"id", "name"}, OrderBy: []sources.Sort{{Column: "name"}}, Keys: &sources.Keys{Columns: []string{"id"}, Values: numbers(1, 2)}}
		change(&q)
		key, ok := query.KeyOf(query.Identify("source"), table, &q)
		if !ok {
			t.Fatal("the query has no fingerprint")
		}
		request, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Query: &q})
		if err != nil {
			t.Fatal(err)
		}
		return key.Digest, string(request)
	}
	digest, request := forms(func(*sources.Query) {})
	for path, change := range changes {
		d, r := forms(change)
		if d == digest {
			t.Errorf("%s is no part of the fingerprint", path)
		}
		if r == request {
			t.Errorf("%s is no part of the request", path)
		}
	}
}
