package sources_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

func jsonType(t *testing.T) arrow.DataType {
	t.Helper()
	dt, err := extensions.NewJSONType(arrow.BinaryTypes.String)
	if err != nil {
		t.Fatal(err)
	}
	return dt
}

// logicalTypes returns types with extension types at every depth, each with its normal
// form and values as JSON. Without values, Arrow cannot build an array of the type.
func logicalTypes(t *testing.T) []struct {
	name   string
	typ    arrow.DataType
	want   arrow.Field
	values string
} {
	t.Helper()
	uuid, js := extensions.NewUUIDType(), jsonType(t)
	bytes16 := &arrow.FixedSizeBinaryType{ByteWidth: 16}
	meta := func(name, data string) arrow.Metadata {
		return arrow.NewMetadata([]string{sources.MetaExtensionData, sources.MetaExtension}, []string{data, name})
	}
	isUUID, isJSON := meta("arrow.uuid", ""), meta("arrow.json", "")
	item := arrow.Field{Name: "item", Type: bytes16, Nullable: true, Metadata: isUUID}
	opaque := extensions.NewOpaqueType(arrow.ListOf(uuid), "t", "v")
	const id = `"00112233-4455-6677-8899-aabbccddeeff"`
	return []struct {
		name   string
		typ    arrow.DataType
		want   arrow.Field
		values string
	}{
		{"uuid", uuid, arrow.Field{Type: bytes16, Metadata: isUUID}, id},
		{"json", js, arrow.Field{Type: arrow.BinaryTypes.String, Metadata: isJSON}, `"{}"`},
		{"opaque of a nested type", opaque, arrow.Field{Type: arrow.ListOfField(item), Metadata: meta("arrow.opaque", opaque.Serialize())}, ""},
		{"list", arrow.ListOf(uuid), arrow.Field{Type: arrow.ListOfField(item)}, `[` + id + `,null]`},
		{"large list", arrow.LargeListOf(uuid), arrow.Field{Type: arrow.LargeListOfField(item)}, `[` + id + `]`},
		{"list view", arrow.ListViewOf(uuid), arrow.Field{Type: arrow.ListViewOfField(item)}, ""},
		{"large list view", arrow.LargeListViewOf(uuid), arrow.Field{Type: arrow.LargeListViewOfField(item)}, ""},
		{"fixed list", arrow.FixedSizeListOf(1, uuid), arrow.Field{Type: arrow.FixedSizeListOfField(1, item)}, `[` + id + `]`},
		{
			"list of structs", arrow.ListOf(arrow.StructOf(arrow.Field{Name: "u", Type: uuid}, arrow.Field{Name: "j", Type: js, Nullable: true})),
			arrow.Field{Type: arrow.ListOf(arrow.StructOf(
				arrow.Field{Name: "u", Type: bytes16, Metadata: isUUID}, arrow.Field{Name: "j", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: isJSON},
			))}, `[{"u":` + id + `,"j":"1"}]`,
		},
		{
			"map", arrow.MapOf(uuid, js),
			arrow.Field{Type: arrow.MapOfFields(arrow.Field{Type: bytes16, Metadata: isUUID}, arrow.Field{Type: arrow.BinaryTypes.String, Nullable: true, Metadata: isJSON})},
			`[{"key":` + id + `,"value":"1"}]`,
		},
		{
			"dictionary", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: uuid},
			arrow.Field{Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: bytes16}, Metadata: isUUID}, "",
		},
		{
			"run ends", arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, js),
			arrow.Field{Type: arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String), Metadata: isJSON}, "",
		},
		{
			"union", arrow.SparseUnionOf([]arrow.Field{{Name: "u", Type: uuid, Nullable: true}}, []arrow.UnionTypeCode{3}),
			arrow.Field{Type: arrow.SparseUnionOf([]arrow.Field{{Name: "u", Type: bytes16, Nullable: true, Metadata: isUUID}}, []arrow.UnionTypeCode{3})}, "",
		},
	}
}

func TestNormalizeTurnsExtensionTypesIntoMetadata(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, test := range logicalTypes(t) {
		t.Run(test.name, func(t *testing.T) {
			own := arrow.NewMetadata([]string{"k"}, []string{"v"})
			schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: test.typ, Nullable: true}, {Name: "plain", Type: arrow.BinaryTypes.String, Nullable: true}}, &own)
			test.want.Name, test.want.Nullable = "c", true
			want := arrow.NewSchema([]arrow.Field{test.want, schema.Field(1)}, &own)
			got := sources.NormalizeSchema(schema)
			if !got.Equal(want) || !got.Metadata().Equal(own) || !arrow.TypeEqual(got.Field(0).Type, test.want.Type, arrow.CheckMetadata()) {
				t.Errorf("got %s\nwant %s", got, want)
			}
			if sources.NormalizeSchema(got) != got {
				t.Error("a normal schema is copied")
			}
			if !schema.Field(0).Equal(arrow.Field{Name: "c", Type: test.typ, Nullable: true}) {
				t.Error("the schema was modified")
			}
			if test.values == "" {
				return
			}
			column, _, err := array.FromJSON(mem, test.typ, strings.NewReader("[null,"+test.values+","+test.values+"]"))
			if err != nil {
				t.Fatal(err)
			}
			defer column.Release()
			plain, _, err := array.FromJSON(mem, arrow.BinaryTypes.String, strings.NewReader(`["a",null,"b"]`))
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Release()
			record := array.NewRecordBatch(schema, []arrow.Array{column, plain}, 3)
			defer record.Release()
			slice := record.NewSlice(1, 3)
			defer slice.Release()
			normal := sources.NormalizeRecord(slice)
			defer normal.Release()
			if !normal.Schema().Equal(want) || !arrow.TypeEqual(normal.Column(0).DataType(), test.want.Type, arrow.CheckMetadata()) {
				t.Errorf("the record has %s and a column of type %s", normal.Schema(), normal.Column(0).DataType())
			}
			if err := array.ValidateFull(normal.Column(0)); err != nil {
				t.Error(err)
			}
			for i := range 2 {
				if a, b := normal.Column(0).ValueStr(i), normal.Column(0).ValueStr(0); a != b || normal.Column(0).IsNull(i) {
					t.Errorf("row %d is %s, the first is %s", i, a, b)
				}
			}
		})
	}
}

// An extension type counts more than what its field's metadata says, and the outer one
// more than the inner one.
func TestTheExtensionTypeOfTheColumnCounts(t *testing.T) {
	f := arrow.Field{Name: "c", Type: extensions.NewOpaqueType(extensions.NewUUIDType(), "t", "v"), Metadata: arrow.MetadataFrom(map[string]string{
		sources.MetaExtension: "arrow.json", sources.MetaExtensionData: "x", sources.MetaType: "uuid",
	})}
	got := sources.NormalizeSchema(arrow.NewSchema([]arrow.Field{f}, nil)).Field(0)
	want := arrow.MetadataFrom(map[string]string{
		sources.MetaExtension: "arrow.opaque", sources.MetaExtensionData: `{"type_name":"t","vendor_name":"v"}`, sources.MetaType: "uuid",
	})
	if !got.Metadata.Equal(want) || got.Type.ID() != arrow.FIXED_SIZE_BINARY {
		t.Errorf("got %s", got)
	}
}

func TestNormalizeCatalogCopiesOnlyWhatChanges(t *testing.T) {
	plain := &sources.Catalog{Tables: []sources.Table{{Name: "a", Schema: arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.Null}}, nil)}}}
	if sources.NormalizeCatalog(plain) != plain || sources.NormalizeCatalog(nil) != nil {
		t.Error("a normal catalog is copied")
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: extensions.NewUUIDType()}}, nil)
	both := &sources.Catalog{Identity: "i", Tables: []sources.Table{plain.Tables[0], {Name: "b", Schema: schema, Key: []string{"c"}}}}
	got := sources.NormalizeCatalog(both)
	if both.Tables[1].Schema != schema {
		t.Error("the source's catalog was modified")
	}
	if b := got.Table("b"); got.Identity != "i" || len(got.Tables) != 2 || b.Key[0] != "c" || !sources.IsUUID(b.Schema.Field(0)) {
		t.Errorf("got %+v", got)
	}
}

func TestTextOfUUIDs(t *testing.T) {
	const text = "00112233-4455-6677-8899-aabbccddeeff"
	for _, s := range []string{text, strings.ToUpper(text), strings.ReplaceAll(text, "-", "")} {
		id, ok := sources.ParseUUID(s)
		if got := string(sources.AppendUUID(nil, id[:])); !ok || got != text {
			t.Errorf("%s is %s, %t", s, got, ok)
		}
	}
	for _, s := range []string{"", text[1:], text + "0", "g" + text[1:], strings.ReplaceAll(text, "-", "_"), "{" + text + "}", "0011-22334455-6677-8899-aabbccddeeff"} {
		if _, ok := sources.ParseUUID(s); ok {
			t.Errorf("%q is a UUID", s)
		}
	}
	id, _ := sources.ParseUUID(text)
	v := sources.Value{Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, V: string(id[:])}
	schema := sources.NormalizeSchema(arrow.NewSchema([]arrow.Field{
		{Name: "u", Type: extensions.NewUUIDType()}, {Name: "hash", Type: v.Type},
	}, nil))
	p := sources.And{
		sources.In{Column: "u", Values: []sources.Value{v, sources.Null(v.Type)}},
		sources.Not{Predicate: sources.Or{sources.Comparison{Column: "u", Op: sources.OpLt, Value: v}, sources.IsNull{Column: "u"}}},
		sources.Comparison{Column: "hash", Value: v}, sources.And{},
	}
	want := "(u in (" + text + ", NULL) and not ((u < " + text + " or u is null)) and hash = 0x00112233445566778899aabbccddeeff and true)"
	if got := sources.DescribePredicate(p, schema); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// FuzzUUID tests that a text which is a UUID has the same digits as the UUID.
func FuzzUUID(f *testing.F) {
	f.Add("00112233-4455-6677-8899-aabbccddeeff")
	f.Add("00112233445566778899AABBCCDDEEFF")
	f.Add("0011223-34455-6677-8899-aabbccddeeff")
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := sources.ParseUUID(text)
		if !ok {
			return
		}
		want := strings.ToLower(text)
		got := string(sources.AppendUUID(nil, id[:]))
		if len(want) == 32 {
			got = strings.ReplaceAll(got, "-", "")
		}
		if got != want {
			t.Errorf("%q became %s", text, got)
		}
	})
}
