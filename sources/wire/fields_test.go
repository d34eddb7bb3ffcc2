package wire_test

import (
	"reflect"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// unset adds the paths of the fields of v that have the zero value in every element of
// the slices above them.
func unset(v reflect.Value, path string, set map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type() != reflect.TypeFor[*arrow.Schema]() && !v.IsNil() {
			unset(v.Elem(), path, set)
		}
	case reflect.Slice:
		for i := range v.Len() {
			unset(v.Index(i), path, set)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := path + "." + v.Type().Field(i).Name
			set[name] = set[name] || !v.Field(i).IsZero()
			unset(v.Field(i), name, set)
		}
	}
}

// TestEveryFieldIsSent checks that the values of the round-trip tests set every field
// of the contract, so that a new field which the wire does not carry is noticed.
func TestEveryFieldIsSent(t *testing.T) {
	keys := &sources.Keys{Columns: []string{"id"}, From: &sources.KeyOrigin{Table: "a", Columns: []string{"b"}}, LimitPerKey: 3, Values: keyRecord(t)}
	defer keys.Values.Release()
	query := &sources.Query{
		Table: "t", Columns: []string{"id"}, Where: sources.IsNull{Column: "id"}, Keys: keys, Limit: 1, After: sources.Cursor("a"), Part: sources.Part("p"),
		OrderBy: []sources.Sort{{Column: "id", Desc: true, NullsFirst: true}},
	}
	b, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Query: query})
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.UnmarshalRequest(b, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Release()
	if diff := cmp.Diff(query, got.Query, exact); diff != "" {
		t.Errorf("the query changed (-sent +received):\n%s", diff)
	}
	set := map[string]bool{}
	plan := &sources.Plan{Rows: 1, Bytes: 2, Version: "v", State: "s", Parts: []sources.Part{{1}}, Snapshot: "1", Detail: "d"}
	if b, err = wire.MarshalReply(wire.Reply{Plan: plan}); err != nil {
		t.Fatal(err)
	}
	reply, err := wire.UnmarshalReply(wire.OpPlan, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plan, reply.Plan); diff != "" {
		t.Errorf("the plan changed (-sent +received):\n%s", diff)
	}
	for name, value := range map[string]any{"Catalog": catalog(), "Query": query, "Plan": plan} {
		unset(reflect.ValueOf(value), name, set)
	}
	for path, ok := range set {
		if !ok {
			t.Errorf("no value of the tests sets %s", path)
		}
	}
}

func keyRecord(t *testing.T) arrow.RecordBatch {
	t.Helper()
	rows := sources.FromRows(sources.Env{Mem: memory.DefaultAllocator}, arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil),
		func(yield func(sources.Row, error) bool) { yield(sources.Row{Values: []any{7}}, nil) })
	for batch, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
		batch.Record.Retain()
		return batch.Record
	}
	panic("a scan yields a batch")
}
