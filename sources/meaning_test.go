package sources

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
)

func TestMeaning(t *testing.T) {
	for _, want := range []Meaning{
		{}, {Equality: ByNumber, Order: ByNumber}, {Order: ByLabels, Labels: []string{"small", "\"large\""}}, {Order: BySource}, {Equality: BySource}, {Equality: BySource, Order: BySource},
	} {
		got := MeaningOf(arrow.Field{Name: "a", Type: arrow.BinaryTypes.String, Metadata: arrow.MetadataFrom(want.Metadata())})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for name, meta := range map[string]map[string]string{
		"an unknown comparer": {MetaEquality: "by moonlight", MetaOrder: "by moonlight"},
		"labels without any":  {MetaEquality: "source", MetaOrder: "labels"},
		"equality by labels":  {MetaEquality: "labels", MetaOrder: "labels", MetaLabels: "small"},
	} {
		if got := MeaningOf(arrow.Field{Metadata: arrow.MetadataFrom(meta)}); got.CanEqual() || got.CanOrder() {
			t.Errorf("%s: the engine would compare: %+v", name, got)
		}
	}
}

func TestFieldValue(t *testing.T) {
	meta := arrow.MetadataFrom(Meaning{Equality: ByNumber, Order: ByNumber}.Metadata())
	f := arrow.Field{Name: "total", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: meta}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.AppendValues([]string{"1.50", "x", ""}, []bool{true, true, false})
	a := b.NewArray()
	defer a.Release()
	for i, want := range []string{"1.5", `"x"`, "NULL"} {
		if got := FieldValueAt(f, a, i).String(); got != want {
			t.Errorf("value %d is %s, want %s", i, got, want)
		}
	}
	if FieldType(f) != Number || FieldType(arrow.Field{Type: arrow.PrimitiveTypes.Int64, Metadata: meta}) != arrow.PrimitiveTypes.Int64 {
		t.Error("only text can hold numbers")
	}
}

// TestKeyedQueries: a lookup with ordinals takes keys of other types, and its result
// has one more column.
func TestKeyedQueries(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "name", Type: arrow.BinaryTypes.String}, {Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	c := &Catalog{Tables: []Table{{Name: "t", Schema: schema, Capabilities: CapProject, Lookups: []Lookup{{Columns: []string{"name"}, Ordinals: true}, {Columns: []string{"id"}}}}}}
	b := array.NewInt32Builder(memory.DefaultAllocator)
	b.Append(1)
	values := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int32}}, nil), []arrow.Array{b.NewArray()}, 1)
	defer values.Release()

	q := &Query{Table: "t", Columns: []string{"id"}, Keys: &Keys{Columns: []string{"name"}, Values: values, From: &KeyOrigin{Table: "u", Columns: []string{"n"}}}}
	table, err := c.Check(q)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.QuerySchema(q).String(); got != arrow.NewSchema([]arrow.Field{schema.Field(1), {Name: OrdinalColumn, Type: arrow.PrimitiveTypes.Int32}}, nil).String() {
		t.Errorf("the schema is %s", got)
	}
	q.Keys.From.Columns = nil
	if _, err := c.Check(q); KindOf(err) != Invalid {
		t.Errorf("keys from no column: %v", err)
	}
	q.Keys = &Keys{Columns: []string{"id"}, Values: values}
	if _, err := c.Check(q); KindOf(err) != Invalid {
		t.Errorf("int32 keys of an int64 column: %v", err)
	}
	if got := table.QuerySchema(q); got.NumFields() != 1 {
		t.Errorf("a lookup without ordinals has the schema %s", got)
	}
}
