package query_test

import (
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/internal/coretest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// TestKeysDiffer tests that different sources, tables and queries have
// different fingerprints, in particular if their texts are equal when concatenated.
func TestKeysDiffer(t *testing.T) {
	table := func(change func(*sources.Table)) *sources.Table {
		t := &sources.Table{Name: "t", Schema: coretest.ItemSchema, Rows: 5}
		if change != nil {
			change(t)
		}
		return t
	}
	field := func(f arrow.Field) *sources.Table {
		return table(func(t *sources.Table) { t.Schema = arrow.NewSchema([]arrow.Field{f}, nil) })
	}
	structOf := func(names ...string) arrow.DataType {
		var fields []arrow.Field
		for _, n := range names {
			fields = append(fields, arrow.Field{Name: n, Type: arrow.PrimitiveTypes.Int8})
		}
		return arrow.StructOf(fields...)
	}
	eq := func(column, text string) sources.Predicate {
		return sources.Comparison{Column: column, Op: sources.OpEq, Value: sources.Text(text)}
	}
	keys := func(values ...int64) *sources.Keys {
		b := array.NewInt64Builder(memory.DefaultAllocator)
		b.AppendValues(values, nil)
		schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
		return &sources.Keys{Columns: []string{"id"}, Values: array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, int64(len(values)))}
	}
	all := map[query.Fingerprint]int{}
	add := func(n int, source query.Fingerprint, table *sources.Table, q sources.Query) {
		got, ok := query.KeyOf(source, table, &q)
		if !ok {
			t.Fatalf("query %d cannot be encoded", n)
		}
		if before, twice := all[got.Digest]; twice {
			t.Errorf("queries %d and %d have the same fingerprint", before, n)
		}
		all[got.Digest] = n
	}
	n := 0
	for _, source := range [][]string{{"a", "bc"}, {"ab", "c"}, {"abc"}, {"a", "bc", ""}} {
		add(n, query.Identify(source...), table(nil), sources.Query{Table: "t"})
		n++
	}
	for _, table := range []*sources.Table{
		table(func(t *sources.Table) { t.Name = "u" }), table(func(t *sources.Table) { t.Key = []string{"id"} }),
		table(func(t *sources.Table) { t.Capabilities = sources.CapStable }),
		field(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64}), field(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}),
		field(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Metadata: arrow.MetadataFrom(map[string]string{"x": "y"})}),
		field(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Uint64}),
		field(arrow.Field{Name: "a", Type: arrow.FixedWidthTypes.Timestamp_us}), field(arrow.Field{Name: "a", Type: &arrow.TimestampType{Unit: arrow.Microsecond}}),
		field(arrow.Field{Name: "a", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Europe/Oslo"}}),
		field(arrow.Field{Name: "a", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}}), field(arrow.Field{Name: "a", Type: &arrow.Decimal128Type{Precision: 10, Scale: 3}}),
		field(arrow.Field{Name: "a", Type: arrow.ListOf(arrow.PrimitiveTypes.Int8)}), field(arrow.Field{Name: "a", Type: arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int8)}),
		field(arrow.Field{Name: "a", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8)}), field(arrow.Field{Name: "a", Type: arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Int8)}),
		field(arrow.Field{Name: "a", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int8)}),
		field(arrow.Field{Name: "a", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}}),
		field(arrow.Field{Name: "a", Type: structOf("ab", "c")}), field(arrow.Field{Name: "a", Type: structOf("a", "bc")}),
	} {
		add(n, coretest.SourceID, table, sources.Query{Table: "t"})
		n++
	}
	for _, q := range []sources.Query{
		{Table: "t"}, {Table: "t", Columns: []string{}}, {Table: "t", Columns: []string{"ab", "c"}}, {Table: "t", Columns: []string{"a", "bc"}},
		{Table: "t", Limit: 1}, {Table: "t", After: sources.Cursor{}}, {Table: "t", After: sources.Cursor("x")}, {Table: "t", Part: sources.Part("x")},
		{Table: "t", OrderBy: []sources.Sort{{Column: "a"}}}, {Table: "t", OrderBy: []sources.Sort{{Column: "a", Desc: true}}}, {Table: "t", OrderBy: []sources.Sort{{Column: "a", NullsFirst: true}}},
		{Table: "t", OrderBy: []sources.Sort{{Column: "a"}, {Column: "b"}}}, {Table: "t", OrderBy: []sources.Sort{{Column: "b"}, {Column: "a"}}},
		{Table: "t", Where: eq("a", "bc")}, {Table: "t", Where: eq("ab", "c")}, {Table: "t", Where: sources.Not{Predicate: eq("a", "bc")}},
		{Table: "t", Where: sources.Comparison{Column: "a", Op: sources.OpNe, Value: sources.Text("bc")}},
		{Table: "t", Where: sources.HasPrefix{Column: "a", Prefix: "bc"}}, {Table: "t", Where: sources.Like{Column: "a", Pattern: "bc"}},
		{Table: "t", Where: sources.IsNull{Column: "a"}}, {Table: "t", Where: sources.IsNull{Column: "a", Not: true}},
		{Table: "t", Where: sources.In{Column: "a"}}, {Table: "t", Where: sources.In{Column: "a", Values: []sources.Value{sources.Text("b"), sources.Text("c")}}},
		{Table: "t", Where: sources.In{Column: "a", Values: []sources.Value{sources.Text("bc")}}},
		{Table: "t", Where: sources.Comparison{Column: "a", Op: sources.OpEq, Value: sources.Int(1)}},
		{Table: "t", Where: sources.Comparison{Column: "a", Op: sources.OpEq, Value: sources.Uint(1)}},
		{Table: "t", Where: sources.Comparison{Column: "a", Op: sources.OpEq, Value: sources.Float(0)}},
		{Table: "t", Where: sources.Comparison{Column: "a", Op: sources.OpEq, Value: sources.Float(math.Copysign(0, -1))}},
		{Table: "t", Where: sources.Comparison{Column: "a", Op: sources.OpEq, Value: sources.Bool(true)}},
		{Table: "t", Where: sources.Comparison{Column: "a", Op: sources.OpEq, Value: sources.Bytes([]byte("bc"))}},
		{Table: "t", Where: sources.Comparison{Column: "a", Op: sources.OpEq, Value: sources.Null(arrow.BinaryTypes.String)}},
		{Table: "t", Where: sources.Or{eq("a", "b"), eq("c", "d")}}, {Table: "t", Where: sources.And{eq("a", "b"), eq("c", "d")}}, {Table: "t", Where: sources.Or{}},
		{Table: "t", Keys: keys()}, {Table: "t", Keys: keys(1, 2)}, {Table: "t", Keys: keys(2, 1)}, {Table: "t", Keys: keys(12)},
	} {
		add(n, coretest.SourceID, table(nil), q)
		n++
	}
}

// TestKeysAgree tests that equivalent queries have equal fingerprints.
func TestKeysAgree(t *testing.T) {
	a, b := sources.IsNull{Column: "a"}, sources.Like{Column: "b", Pattern: "%"}
	table := sources.Table{Name: "t", Schema: coretest.ItemSchema}
	other := table
	other.Rows, other.Comment = 77, "counted again"
	for i, pair := range [][2]sources.Predicate{
		{nil, sources.And{}}, {sources.And{a, b}, sources.And{b, a, b}}, {sources.Or{a, b}, sources.Or{b, a}},
		{sources.In{Column: "a", Values: []sources.Value{sources.Int(1), sources.Int(2)}}, sources.In{Column: "a", Values: []sources.Value{sources.Int(2), sources.Int(1), sources.Int(1)}}},
	} {
		one, ok := query.KeyOf(coretest.SourceID, &table, &sources.Query{Table: "t", Where: pair[0]})
		two, ok2 := query.KeyOf(coretest.SourceID, &other, &sources.Query{Table: "t", Where: pair[1]})
		if one != two || !ok || !ok2 {
			t.Errorf("the keys of pair %d differ", i)
		}
	}
	if f, ok := query.ParseFingerprint(coretest.SourceID.String()); !ok || f != coretest.SourceID {
		t.Errorf("%s was parsed as %s", coretest.SourceID, f)
	}
	for _, bad := range []string{"", "00", coretest.SourceID.String() + "00", "zz" + coretest.SourceID.String()[2:]} {
		if _, ok := query.ParseFingerprint(bad); ok {
			t.Errorf("%q was parsed as a fingerprint", bad)
		}
	}
}

// TestEncodingsStay tests that the encodings of keys do not change: caches on disks and
// tokens hold their digests.
func TestEncodingsStay(t *testing.T) {
	table := &sources.Table{Name: "t", Key: []string{"id"}, Capabilities: sources.CapSort, Schema: arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)}
	q := &sources.Query{
		Table: "t", Columns: []string{"name", "id"}, OrderBy: []sources.Sort{{Column: "name", Desc: true, NullsFirst: true}}, Limit: 7, After: sources.Cursor("c"),
		Where: sources.And{sources.Comparison{Column: "id", Op: sources.OpGe, Value: sources.Int(5)}, sources.Not{Predicate: sources.Like{Column: "name", Pattern: "a%"}}},
		Keys:  &sources.Keys{Columns: []string{"id"}, Values: numbers(1, 2), LimitPerKey: 3},
	}
	source := query.Identify("kind", "address")
	key, ok := query.KeyOf(source, table, q)
	if want := "ec850e9826e4962bcc7bed7befb27f0139e805483c61fed86d97d2fde8bee614"; !ok || key.Digest.String() != want {
		t.Errorf("the digest is %s, want %s", key.Digest, want)
	}
	key, ok = query.LookupKey(source, query.TableFingerprint(table), q, query.Residual{Columns: []string{"name"}, Where: sources.IsNull{Column: "name"}}, numbers().Schema(), table.Schema)
	if want := "e64af70bc12a14e00643d426da63ced19ad40ac854b947f66dc258ef684da787"; !ok || key.Digest.String() != want {
		t.Errorf("the digest of look-ups is %s, want %s", key.Digest, want)
	}
}

// FuzzFingerprint tests that a text is a fingerprint only if it has the form of one.
func FuzzFingerprint(f *testing.F) {
	f.Add(query.Identify("a").String())
	f.Add(strings.ToUpper(query.Identify("a").String()))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if print, ok := query.ParseFingerprint(text); ok && print.String() != strings.ToLower(text) {
			t.Errorf("%q became %s", text, print)
		}
	})
}
