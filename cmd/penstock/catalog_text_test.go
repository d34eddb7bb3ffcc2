package main

import (
	"bytes"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

func textCatalog() *sources.Catalog {
	return &sources.Catalog{Tables: []sources.Table{
		{
			Name: "orders", Rows: 12, Comment: "what was sold", Key: []string{"id"}, Unique: [][]string{{"year", "number"}},
			Schema: arrow.NewSchema([]arrow.Field{
				{Name: "id", Type: arrow.PrimitiveTypes.Int64},
				{Name: "price", Type: &arrow.Decimal128Type{Precision: 6, Scale: 2}, Nullable: true,
					Metadata: arrow.MetadataFrom(map[string]string{sources.MetaComment: "net", sources.MetaType: "numeric(6,2)"})},
			}, nil),
			Relations: []sources.Relation{
				{Name: "customers__by__customer_id", Aliases: []string{"id", "customer"}, Kind: sources.BelongsTo, Columns: []string{"customer_id"}, TargetTable: "customers", TargetColumns: []string{"id"}},
				{Name: "tags", Unusable: "it is spoiled", Kind: sources.ManyToMany, Columns: []string{"id"}, TargetTable: "tags", TargetColumns: []string{"id"},
					Through: &sources.Through{Table: "order_tags", Near: []string{"order_id"}, Far: []string{"tag_id"}}},
			},
			Capabilities: sources.CapProject | sources.CapLimit,
		},
		{Name: "notes", Rows: -1, Schema: arrow.NewSchema([]arrow.Field{{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: arrow.MetadataFrom(map[string]string{sources.MetaType: "citext", sources.MetaEquality: "source"})}}, nil)},
	}}
}

func TestCatalogAsText(t *testing.T) {
	var out bytes.Buffer
	if err := writeCatalogText(&out, textCatalog().Tables); err != nil {
		t.Fatal(err)
	}
	want := `orders  (about 12 rows)
  what was sold
  id     int64          key, not null
  price  decimal(6, 2)  net
  unique (year, number)
  → customer  belongs_to    customers (id)                = customers__by__customer_id
  → tags      many_to_many  tags (id) through order_tags  unusable: it is spoiled
  capabilities: project, limit

notes
  text  utf8  compared as citext
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCatalogAsJSON(t *testing.T) {
	var out bytes.Buffer
	if err := writeCatalogJSON(&out, textCatalog().Tables); err != nil {
		t.Fatal(err)
	}
	want := `{"tables":[{"name":"orders","comment":"what was sold","rows":12,` +
		`"columns":[{"name":"id","type":"int64","nullable":false},{"name":"price","type":"decimal(6, 2)","nullable":true,"source_type":"numeric(6,2)","comment":"net"}],` +
		`"key":["id"],"unique":[["year","number"]],` +
		`"relations":[{"name":"customer","kind":"belongs_to","columns":["customer_id"],"table":"customers","target":["id"],"qualified":"customers__by__customer_id"},` +
		`{"name":"tags","kind":"many_to_many","columns":["id"],"table":"tags","target":["id"],"through":{"table":"order_tags","near":["order_id"],"far":["tag_id"]},"qualified":"tags","unusable":"it is spoiled"}],` +
		`"can":["project","limit"]},` +
		`{"name":"notes","rows":null,"columns":[{"name":"text","type":"utf8","nullable":true,"source_type":"citext"}],"key":[],"unique":[],"relations":[],"can":[]}]}` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCatalogNamesLogicalTypes(t *testing.T) {
	field := func(name string, t arrow.DataType, meta map[string]string) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true, Metadata: arrow.MetadataFrom(meta)}
	}
	tables := []sources.Table{{Name: "t", Rows: -1, Schema: arrow.NewSchema([]arrow.Field{
		field("id", &arrow.FixedSizeBinaryType{ByteWidth: 16}, map[string]string{sources.MetaExtension: sources.ExtensionUUID}),
		field("doc", arrow.BinaryTypes.String, map[string]string{sources.MetaExtension: sources.ExtensionJSON}),
		field("n", arrow.BinaryTypes.String, sources.Meaning{Equality: sources.ByNumber, Order: sources.ByNumber}.Metadata()),
	}, nil)}}
	var text, object bytes.Buffer
	if err := writeCatalogText(&text, tables); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("t\n  id   uuid\n  doc  json\n  n    number\n", text.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := writeCatalogJSON(&object, tables); err != nil {
		t.Fatal(err)
	}
	want := `{"tables":[{"name":"t","rows":null,"columns":[{"name":"id","type":"fixed_size_binary[16]","extension":"arrow.uuid","nullable":true},` +
		`{"name":"doc","type":"utf8","extension":"arrow.json","nullable":true},{"name":"n","type":"utf8","nullable":true}],"key":[],"unique":[],"relations":[],"can":[]}]}` + "\n"
	if diff := cmp.Diff(want, object.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMissingTableNamesTheNearest(t *testing.T) {
	_, err := findTable(textCatalog(), "oders")
	if want := `not found: there is no table "oders"; the nearest is "orders"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if table, err := findTable(textCatalog(), "notes"); err != nil || table.Name != "notes" {
		t.Errorf("got %v, %v", table, err)
	}
}
