package outputs

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

func extended(name string) arrow.Metadata {
	return arrow.NewMetadata([]string{sources.MetaExtension, sources.MetaExtensionData}, []string{name, ""})
}

// logicalRecord has UUIDs, JSON texts and exact numbers at the top and in structs, lists
// and maps.
func logicalRecord(t *testing.T, mem memory.Allocator) arrow.RecordBatch {
	t.Helper()
	id := arrow.Field{Name: "id", Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}, Nullable: true, Metadata: extended(sources.ExtensionUUID)}
	doc := arrow.Field{Name: "doc", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: extended(sources.ExtensionJSON)}
	item := func(f arrow.Field) arrow.Field { f.Name = "item"; return f }
	key := id
	key.Nullable = false
	row := arrow.StructOf(id, doc)
	number := arrow.MetadataFrom(sources.Meaning{Equality: sources.ByNumber, Order: sources.ByNumber}.Metadata())
	schema := arrow.NewSchema([]arrow.Field{
		id, doc,
		{Name: "n", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: number},
		{Name: "hash", Type: id.Type, Nullable: true},
		{Name: "word", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true, Metadata: doc.Metadata},
		{Name: "row", Type: row, Nullable: true},
		{Name: "ids", Type: arrow.ListOfField(item(id)), Nullable: true},
		{Name: "docs", Type: arrow.LargeListOfField(item(doc)), Nullable: true},
		{Name: "of", Type: arrow.MapOfFields(key, doc), Nullable: true},
		{Name: "rows", Type: arrow.ListOf(row), Nullable: true},
	}, nil)
	// A UUID is base64 in Arrow's JSON.
	const a, b = `"ABEiM0RVZneImaq7zN3u/w=="`, `"//////////////////////=="`
	text := `[
	{"id":` + a + `,"doc":" {\"a\" : [1.50, 12345678901234567890]}\n","n":"9.50","hash":` + a + `,"word":"true",
	 "row":{"id":` + a + `,"doc":"null"},"ids":[` + a + `,null],"docs":["1.0","oops",null],"of":[{"key":` + a + `,"value":"[ ]"}],
	 "rows":[{"id":` + a + `,"doc":"1e2"},{"id":null,"doc":"{]"}]},
	{"id":null,"doc":"no JSON","n":"1000.00","hash":null,"word":"\"x y\"","row":null,"ids":[],"docs":null,"of":null,"rows":[]},
	{"id":` + b + `,"doc":null,"n":"NaN","hash":null,"word":null,"row":null,"ids":null,"docs":null,"of":null,"rows":null}]`
	r, _, err := array.RecordFromJSON(mem, schema, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// columns returns a record with those columns.
func columns(r arrow.RecordBatch, indexes ...int) arrow.RecordBatch {
	var fields []arrow.Field
	var arrays []arrow.Array
	for _, i := range indexes {
		fields, arrays = append(fields, r.Schema().Field(i)), append(arrays, r.Column(i))
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, r.NumRows())
}

func written(t *testing.T, format string, record arrow.RecordBatch, schema *arrow.Schema, o Options) string {
	t.Helper()
	var out bytes.Buffer
	w := newWriter(t, format, &out, schema, o)
	if err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLogicalTypesInEveryFormat(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	record := logicalRecord(t, mem)
	defer record.Release()
	flat := columns(record, 0, 1, 2, 3, 4)
	defer flat.Release()
	narrow := columns(flat, 0, 2, 4)
	defer narrow.Release()
	nested := columns(record, 0, 9)
	defer nested.Release()
	for _, test := range []struct {
		name, format string
		record       arrow.RecordBatch
		flatten      bool
		want         string
	}{
		{"ndjson", "ndjson", record, false, `{"id":"00112233-4455-6677-8899-aabbccddeeff","doc":{"a":[1.50,12345678901234567890]},"n":"9.50","hash":"ABEiM0RVZneImaq7zN3u/w==","word":true,"row":{"id":"00112233-4455-6677-8899-aabbccddeeff","doc":null},"ids":["00112233-4455-6677-8899-aabbccddeeff",null],"docs":[1.0,"oops",null],"of":[{"key":"00112233-4455-6677-8899-aabbccddeeff","value":[]}],"rows":[{"id":"00112233-4455-6677-8899-aabbccddeeff","doc":1e2},{"id":null,"doc":"{]"}]}
{"id":null,"doc":"no JSON","n":"1000.00","hash":null,"word":"x y","row":null,"ids":[],"docs":null,"of":null,"rows":[]}
{"id":"ffffffff-ffff-ffff-ffff-ffffffffffff","doc":null,"n":"NaN","hash":null,"word":null,"row":null,"ids":null,"docs":null,"of":null,"rows":null}
`},
		{"csv", "csv", flat, false, `id,doc,n,hash,word
00112233-4455-6677-8899-aabbccddeeff," {""a"" : [1.50, 12345678901234567890]}
",9.50,ABEiM0RVZneImaq7zN3u/w==,true
,no JSON,1000.00,,"""x y"""
ffffffff-ffff-ffff-ffff-ffffffffffff,,NaN,,
`},
		{"table", "table", narrow, false, `id                                          n  word
────────────────────────────────────  ───────  ─────
00112233-4455-6677-8899-aabbccddeeff     9.50  true
NULL                                  1000.00  "x y"
ffffffff-ffff-ffff-ffff-ffffffffffff      NaN  NULL
`},
		{"flat csv", "csv", nested, true, `id,rows.id,rows.doc
00112233-4455-6677-8899-aabbccddeeff,00112233-4455-6677-8899-aabbccddeeff,1e2
00112233-4455-6677-8899-aabbccddeeff,,{]
,,
ffffffff-ffff-ffff-ffff-ffffffffffff,,
`},
		{"flat ndjson", "ndjson", nested, true, `{"id":"00112233-4455-6677-8899-aabbccddeeff","rows.id":"00112233-4455-6677-8899-aabbccddeeff","rows.doc":1e2}
{"id":"00112233-4455-6677-8899-aabbccddeeff","rows.id":null,"rows.doc":"{]"}
{"id":null,"rows.id":null,"rows.doc":null}
{"id":"ffffffff-ffff-ffff-ffff-ffffffffffff","rows.id":null,"rows.doc":null}
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := written(t, test.format, test.record, test.record.Schema(), Options{Allocator: mem, Flatten: test.flatten})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Extension types and metadata make the same output.
func TestExtensionTypesAreWrittenAsTheirNormalForm(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	uuid := extensions.NewUUIDType()
	doc, err := extensions.NewJSONType(arrow.BinaryTypes.String)
	if err != nil {
		t.Fatal(err)
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: uuid, Nullable: true}, {Name: "doc", Type: doc, Nullable: true},
		{Name: "rows", Type: arrow.ListOf(arrow.StructOf(arrow.Field{Name: "id", Type: uuid, Nullable: true})), Nullable: true},
	}, nil)
	const id = `"00112233-4455-6677-8899-aabbccddeeff"`
	extended, _, err := array.RecordFromJSON(mem, schema, strings.NewReader(`[{"id":`+id+`,"doc":"{}","rows":[{"id":`+id+`}]},{"id":null,"doc":null,"rows":null}]`))
	if err != nil {
		t.Fatal(err)
	}
	defer extended.Release()
	normal := sources.NormalizeRecord(extended)
	defer normal.Release()
	for _, f := range formats {
		o := Options{Allocator: mem, Flatten: f.Flatten}
		want := written(t, f.Name, normal, normal.Schema(), o)
		for _, mix := range []struct {
			record arrow.RecordBatch
			schema *arrow.Schema
		}{{extended, extended.Schema()}, {extended, normal.Schema()}, {normal, extended.Schema()}} {
			if diff := cmp.Diff(want, written(t, f.Name, mix.record, mix.schema, o)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", f.Name, diff)
			}
		}
		if f.Name != "arrow" && !strings.Contains(want, strings.Trim(id, `"`)) {
			t.Errorf("%s has no UUID:\n%s", f.Name, want)
		}
	}
	// A reader that knows the types gets them back.
	back, err := ipc.NewReader(strings.NewReader(written(t, "arrow", normal, normal.Schema(), Options{Allocator: mem})), ipc.WithAllocator(mem))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Release()
	if !back.Schema().Equal(schema) {
		t.Errorf("the schema is %s", back.Schema())
	}
}

func TestRecordsOfOtherTypesAreRefused(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	record := shopLine(mem, 1)
	defer record.Release()
	for want, schema := range map[string]*arrow.Schema{
		"has 4 columns, the writer's schema has 1": arrow.NewSchema(record.Schema().Fields()[:1], nil),
		`column "id" of the record is int64, in the writer's schema it is utf8`: arrow.NewSchema(
			append([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}}, record.Schema().Fields()[1:]...), nil),
	} {
		w := newWriter(t, "ndjson", new(bytes.Buffer), schema, Options{Allocator: mem})
		if err := w.Write(record); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
		w.Abort()
	}
}
