package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// unregistered runs f as a program does that links no extension types.
func unregistered(t *testing.T, f func(*testing.T)) {
	t.Helper()
	for _, name := range []string{"arrow.uuid", "arrow.json", "arrow.opaque"} {
		known := arrow.GetExtensionType(name)
		if known == nil {
			t.Fatalf("%s is not registered to begin with", name)
		}
		if err := arrow.UnregisterExtensionType(name); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := arrow.RegisterExtensionType(known); err != nil {
				t.Error(err)
			}
		}()
	}
	f(t)
}

// logical has extension types at every depth.
func logical(t *testing.T, mem memory.Allocator) arrow.RecordBatch {
	t.Helper()
	uuid := extensions.NewUUIDType()
	text, err := extensions.NewJSONType(arrow.BinaryTypes.String)
	if err != nil {
		t.Fatal(err)
	}
	const id = `"00112233-4455-6677-8899-aabbccddeeff"`
	var fields []arrow.Field
	var columns []arrow.Array
	for _, c := range []struct {
		typ    arrow.DataType
		values string
	}{
		{uuid, id},
		{text, `"1.50"`},
		{arrow.ListOf(uuid), `[` + id + `,null]`},
		{arrow.LargeListOf(arrow.FixedSizeListOf(1, uuid)), `[[` + id + `]]`},
		{arrow.MapOf(uuid, text), `[{"key":` + id + `,"value":"{}"}]`},
		{arrow.StructOf(arrow.Field{Name: "u", Type: arrow.ListOf(uuid), Nullable: true}, arrow.Field{Name: "n", Type: arrow.Null, Nullable: true}), `{"u":[` + id + `],"n":null}`},
	} {
		a, _, err := array.FromJSON(mem, c.typ, strings.NewReader(`[`+c.values+`,null,`+c.values+`]`))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Release()
		fields, columns = append(fields, arrow.Field{Name: c.typ.String(), Type: c.typ, Nullable: true}), append(columns, a)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, 3)
}

// What a reader returns does not depend on the extension types that are registered: it
// is the normal form of what was sent, also by a program that does not normalize.
func TestReadersIgnoreRegisteredExtensions(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	sent := logical(t, mem)
	defer sent.Release()
	want := sources.NormalizeRecord(sent)
	defer want.Release()
	streams := [][]byte{stream(t, []arrow.RecordBatch{sent}), stream(t, []arrow.RecordBatch{want})}
	if b, err := wire.MarshalRecord(sent); err != nil {
		t.Fatal(err)
	} else {
		streams = append(streams, b)
	}
	check := func(t *testing.T) {
		same := func(what string, s *arrow.Schema) {
			for i, f := range want.Schema().Fields() {
				if got := s.Field(i); !got.Equal(f) || !arrow.TypeEqual(got.Type, f.Type, arrow.CheckMetadata()) {
					t.Errorf("%s: column %s became %s", what, f, got)
				}
			}
		}
		for _, b := range streams {
			got, err := wire.UnmarshalRecord(b, mem)
			if err != nil {
				t.Fatal(err)
			}
			same("record", got.Schema())
			if !array.RecordEqual(want, got) {
				t.Errorf("got %v, want %v", got, want)
			}
			for i, c := range got.Columns() {
				if !arrow.TypeEqual(c.DataType(), want.Schema().Field(i).Type, arrow.CheckMetadata()) {
					t.Errorf("column %d has an array of type %s", i, c.DataType())
				}
			}
			got.Release()
		}
		b, err := wire.MarshalSchema(sent.Schema())
		if err != nil {
			t.Fatal(err)
		}
		schema, err := wire.UnmarshalSchema(b)
		if err != nil {
			t.Fatal(err)
		}
		same("schema", schema)
		b, err = wire.MarshalReply(wire.Reply{Catalog: &sources.Catalog{Tables: []sources.Table{{Name: "t", Schema: sent.Schema()}}}})
		if err != nil {
			t.Fatal(err)
		}
		reply, err := wire.UnmarshalReply(wire.OpCatalog, b)
		if err != nil {
			t.Fatal(err)
		}
		same("catalog", reply.Catalog.Tables[0].Schema)
	}
	t.Run("registered", check)
	t.Run("not registered", func(t *testing.T) { unregistered(t, check) })
}

// Literals of an extension type, and types that are sent as a schema, have storage types.
func TestTypesOnTheWireAreStorageTypes(t *testing.T) {
	uuid := extensions.NewUUIDType()
	id := arrow.Field{Name: "item", Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, Nullable: true, Metadata: arrow.MetadataFrom(map[string]string{
		sources.MetaExtension: sources.ExtensionUUID, sources.MetaExtensionData: "",
	})}
	check := func(t *testing.T) {
		in := sources.In{Column: "c", Values: []sources.Value{{Type: uuid, V: "0123456789abcdef"}, sources.Null(arrow.ListOf(uuid))}}
		b, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Query: &sources.Query{Table: "t", Where: in}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.UnmarshalRequest(b, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		values := got.Query.Where.(sources.In).Values
		for i, want := range []arrow.DataType{id.Type, arrow.ListOfField(id)} {
			if !arrow.TypeEqual(values[i].Type, want, arrow.CheckMetadata()) {
				t.Errorf("value %d has type %s", i, values[i].Type)
			}
		}
	}
	t.Run("registered", check)
	t.Run("not registered", func(t *testing.T) { unregistered(t, check) })
}

// Metadata that a registered type would refuse stays as it was sent.
func TestUnusualExtensionMetadataIsKept(t *testing.T) {
	field := func(name, data string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Metadata: arrow.NewMetadata([]string{"a", sources.MetaExtension, sources.MetaExtensionData}, []string{"b", name, data})}
	}
	text := arrow.BinaryTypes.String
	sent := arrow.NewSchema([]arrow.Field{
		field("arrow.opaque", "not JSON", text),
		field("arrow.json", "{}", text),
		field("arrow.json", "[1]", arrow.PrimitiveTypes.Int64),
		field("arrow.uuid", "\xff", text),
		field("\xff\x00", "", text),
		field("arrow.uuid", "", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: text}),
		{Name: "\x00RROW:extension:name", Type: arrow.ListOfField(field("arrow.uuid", strings.Repeat("x", 100_000), text))},
	}, nil)
	check := func(t *testing.T) {
		b, err := wire.MarshalSchema(sent)
		if err != nil {
			t.Fatal(err)
		}
		whole := bytes.Clone(b)
		got, err := wire.UnmarshalSchema(b)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(sent) || !arrow.TypeEqual(got.Field(6).Type, sent.Field(6).Type, arrow.CheckMetadata()) {
			t.Errorf("got %s\nwant %s", got, sent)
		}
		if !bytes.Equal(b, whole) {
			t.Error("the message was modified")
		}
	}
	t.Run("registered", check)
	t.Run("not registered", func(t *testing.T) { unregistered(t, check) })
}
