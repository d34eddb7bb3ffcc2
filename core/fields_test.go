package core_test

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/core"
	"github.com/penstock-data/penstock/core/cache"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// forms is what a stream makes of its query: the fingerprints under which answers
// are cached, the binding of its tokens, and the requests to the source.
type forms struct {
	fingerprint, token, wire bool
}

// all is a field that changes every form.
var all = forms{true, true, true}

// fieldCase changes one field of a query that loads a relation.
type fieldCase struct {
	change func(q *core.Query)
	forms  forms
	reason string // why a form does not change; empty if all do
}

func firstBranch(q *core.Query) *query.Branch { return &q.Load.Required[0] }

const (
	noMove   = "a token marks a place among the rows of the table, which relations do not move"
	anyLimit = "a stream may continue behind a token with another limit"
)

// fieldCases has every field of a query by its path. A new field fails
// TestNoQueryFieldIsForgotten until it is listed here.
var fieldCases = map[string]fieldCase{
	"Table":                   {change: func(q *core.Query) { q.Table = "twins" }, forms: all},
	"Columns":                 {change: func(q *core.Query) { q.Columns = []string{"name", "id"} }, forms: all},
	"Where":                   {change: func(q *core.Query) { q.Where = sources.IsNull{Column: "name"} }, forms: all},
	"OrderBy":                 {change: func(q *core.Query) { q.OrderBy = nil }, forms: all},
	"OrderBy.Column":          {change: func(q *core.Query) { q.OrderBy[0].Column = "id" }, forms: all},
	"OrderBy.Desc":            {change: func(q *core.Query) { q.OrderBy[0].Desc = true }, forms: all},
	"OrderBy.NullsFirst":      {change: func(q *core.Query) { q.OrderBy[0].NullsFirst = true }, forms: all},
	"Limit":                   {change: func(q *core.Query) { q.Limit = 2 }, forms: forms{true, false, true}, reason: anyLimit},
	"After":                   {forms: forms{true, false, true}, reason: "it is the token itself: see TestQueryAfter"},
	"Load.Required":           {change: func(q *core.Query) { q.Load.Required = append(q.Load.Required, query.Branch{Name: "others"}) }, forms: forms{true, false, true}, reason: noMove},
	"Load.Optional":           {change: func(q *core.Query) { q.Load.Optional = []query.Branch{{Name: "others"}} }, forms: forms{true, false, true}, reason: noMove},
	"Load.Compile":            {change: func(q *core.Query) { q.Load.Compile = nameIsNull; firstBranch(q).Condition = "x" }, forms: forms{true, false, true}, reason: noMove},
	"Load.Required.Name":      {change: func(q *core.Query) { firstBranch(q).Name = "others" }, forms: forms{true, false, true}, reason: noMove},
	"Load.Required.Columns":   {change: func(q *core.Query) { firstBranch(q).Columns = []string{"n"} }, forms: forms{true, false, true}, reason: noMove},
	"Load.Required.Where":     {change: func(q *core.Query) { firstBranch(q).Where = sources.IsNull{Column: "n"} }, forms: forms{true, false, true}, reason: noMove},
	"Load.Required.Condition": {change: func(q *core.Query) { q.Load.Compile = nameIsNull; firstBranch(q).Condition = "y" }, forms: forms{true, false, true}, reason: noMove},
	"Load.Required.OrderBy":   {change: func(q *core.Query) { firstBranch(q).OrderBy = []sources.Sort{{Column: "n"}} }, forms: forms{true, false, false}, reason: noMove + "; without a limit the engine sorts the rows of each key"},
	"Load.Required.Limit":     {change: func(q *core.Query) { firstBranch(q).Limit = 1 }, forms: forms{true, false, true}, reason: noMove},
	"Load.Required.Below":     {change: func(q *core.Query) { firstBranch(q).Below = []query.Branch{{Name: "others"}} }, forms: forms{true, false, true}, reason: noMove},
}

func nameIsNull(*sources.Table, string) (sources.Predicate, error) {
	return sources.IsNull{Column: "n"}, nil
}

// fieldPaths lists the fields of a query type, down to those of loads and orders.
func fieldPaths(t reflect.Type, path string) []string {
	var paths []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := path + f.Name
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		switch inner {
		case reflect.TypeFor[query.Load]():
			paths = append(paths, fieldPaths(inner, name+".")...)
		case reflect.TypeFor[query.Branch]():
			paths = append(paths, name)
			// Optional branches and those below have the fields of required ones.
			if name == "Load.Required" {
				paths = append(paths, fieldPaths(inner, name+".")...)
			}
		case reflect.TypeFor[sources.Sort]():
			paths = append(paths, name)
			if path == "" {
				paths = append(paths, fieldPaths(inner, name+".")...)
			}
		default:
			paths = append(paths, name)
		}
	}
	return paths
}

// recorder is a source that can do everything, and records what it is asked. Its
// tables have one row for each key, whatever the conditions say.
type recorder struct {
	sources.Source
	mu    sync.Mutex
	asked map[string]bool // requests, as they go over a wall
	scans int
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	number := func(name string, nullable bool) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: nullable}
	}
	text := arrow.Field{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true}
	columns := map[string][]arrow.Field{
		"parents": {number("id", false), text}, "twins": {number("id", false), text},
		"children": {number("id", false), number("parent_id", true), number("n", true)},
		"others":   {number("id", false), number("child_id", true), number("parent_id", true), number("n", true)},
	}
	catalog := &sources.Catalog{}
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		table := sources.Table{
			Name: name, Schema: arrow.NewSchema(columns[name], nil), Key: []string{"id"}, Rows: 3, Filters: map[string]sources.Ops{},
			Capabilities: sources.CapProject | sources.CapSort | sources.CapLimit | sources.CapResume | sources.CapStable | sources.CapLogic,
		}
		for _, f := range columns[name] {
			table.Filters[f.Name] = ^sources.Ops(0)
			table.Lookups = append(table.Lookups, sources.Lookup{Columns: []string{f.Name}})
		}
		catalog.Tables = append(catalog.Tables, table)
	}
	keys := []sources.ForeignKey{
		{Table: "children", Columns: []string{"parent_id"}, TargetTable: "parents"}, {Table: "others", Columns: []string{"parent_id"}, TargetTable: "parents"},
		{Table: "others", Columns: []string{"child_id"}, TargetTable: "children"},
	}
	if err := sources.Relate(catalog, keys); err != nil {
		t.Fatal(err)
	}
	// The twin of a table has its relations too.
	catalog.Table("twins").Relations = catalog.Table("parents").Relations
	r := &recorder{asked: map[string]bool{}}
	r.Source = sources.Simple(catalog, r.scan)
	return r
}

func (r *recorder) scan(_ context.Context, env sources.Env, q *sources.Query) sources.Batches {
	request, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Query: q})
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	r.asked[string(request)] = true
	r.scans++
	r.mu.Unlock()
	catalog, _ := r.Catalog(context.Background())
	schema := catalog.Table(q.Table).ScanSchema(q.Columns)
	return sources.FromRows(env, schema, func(yield func(sources.Row, error) bool) {
		n := int64(3)
		if q.Keys != nil {
			n = q.Keys.Values.NumRows()
		}
		for i := range n {
			values := make([]any, schema.NumFields())
			for j, f := range schema.Fields() {
				switch {
				case q.Keys != nil && f.Name == q.Keys.Columns[0]:
					values[j] = sources.ValueAt(q.Keys.Values.Column(0), int(i)).V
				case f.Name == "name":
					values[j] = fmt.Sprint(i)
				default:
					values[j] = i
				}
			}
			if !yield(sources.Row{Values: values, Cursor: sources.Cursor{byte(i + 1)}}, nil) {
				return
			}
		}
	})
}

// baseQuery sets what the cases change.
func baseQuery() core.Query {
	return core.Query{
		Table: "parents", Columns: []string{"id", "name"}, OrderBy: []sources.Sort{{Column: "name"}},
		Load: query.Load{Required: []query.Branch{{Name: "children"}}},
	}
}

// read reads a query to its end, with its optional relations.
func (r *recorder) read(t *testing.T, q core.Query, resources core.Resources) (asked map[string]bool, scans int, token core.Token) {
	t.Helper()
	r.mu.Lock()
	r.asked, r.scans = map[string]bool{}, 0
	r.mu.Unlock()
	stream, err := core.Open(t.Context(), r, q, core.Options{Tokens: true}, resources)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}()
	for chunk, err := range stream.Chunks() {
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range q.Load.Optional {
			if _, err := chunk.Related(t.Context(), b.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r.asked, r.scans, stream.Receipt().Token
}

// TestNoQueryFieldIsForgotten changes every field of a query, and of the loads in
// it, and requires that the change reaches the fingerprints of the cache, the
// binding of tokens and the wire, or that its case says why not.
func TestNoQueryFieldIsForgotten(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(slices.Values(fieldPaths(reflect.TypeFor[core.Query](), ""))), slices.Sorted(maps.Keys(fieldCases))); diff != "" {
		t.Fatalf("the fields of core.Query and the cases differ (-fields +cases):\n%s", diff)
	}
	for path, c := range fieldCases {
		if (c.forms == all) != (c.reason == "") {
			t.Errorf("%s: a form that does not change needs a reason", path)
		}
		if c.change == nil {
			continue
		}
		t.Run(path, func(t *testing.T) {
			source := newRecorder(t)
			answers, err := cache.New(cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer answers.Close()
			shared := core.Resources{Cache: answers, SourceID: query.Identify("recorder")}
			changed := baseQuery()
			c.change(&changed)

			before, _, token := source.read(t, baseQuery(), core.Resources{})
			after, _, _ := source.read(t, changed, core.Resources{})
			if got := !maps.Equal(before, after); got != c.forms.wire {
				t.Errorf("the requests change: %t, want %t", got, c.forms.wire)
			}

			source.read(t, baseQuery(), shared)
			if _, scans, _ := source.read(t, baseQuery(), shared); scans != 0 {
				t.Fatalf("the unchanged query was asked again %d times", scans)
			}
			_, scans, _ := source.read(t, changed, shared)
			if got := scans > 0; got != c.forms.fingerprint {
				t.Errorf("the fingerprints change: %t, want %t", got, c.forms.fingerprint)
			}

			changed.After = token
			stream, err := core.Open(t.Context(), source, changed, core.Options{}, core.Resources{})
			if err == nil {
				err = stream.Close()
			}
			if got := sources.KindOf(err) == sources.Invalid && err != nil; got != c.forms.token {
				t.Errorf("the binding of tokens changes: %t (%v), want %t", got, err, c.forms.token)
			}
		})
	}
}

// TestQueryAfter: a token reaches the wire and the fingerprints as the cursor that
// it stands for.
func TestQueryAfter(t *testing.T) {
	source := newRecorder(t)
	q := baseQuery()
	before, _, token := source.read(t, q, core.Resources{})
	if token == "" {
		t.Fatal("the stream has no token")
	}
	q.After = token
	if after, _, _ := source.read(t, q, core.Resources{}); maps.Equal(before, after) {
		t.Error("the token does not change the requests")
	}
	answers, err := cache.New(cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Close()
	shared := core.Resources{Cache: answers, SourceID: query.Identify("recorder")}
	source.read(t, baseQuery(), shared)
	if _, scans, _ := source.read(t, q, shared); scans == 0 {
		t.Error("the token does not change the fingerprint")
	}
}
