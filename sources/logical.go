package sources

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// The extension types that the engine, filters and outputs know by name; see
// [MetaExtension].
const (
	ExtensionUUID = "arrow.uuid" // 16 bytes
	ExtensionJSON = "arrow.json" // text
)

// IsUUID reports whether the values of a normalized field are UUIDs; see
// [NormalizeSchema].
func IsUUID(f arrow.Field) bool {
	t, ok := ValueType(f.Type).(*arrow.FixedSizeBinaryType)
	return ok && t.ByteWidth == 16 && hasExtension(f, ExtensionUUID)
}

// IsJSON reports whether the values of a normalized field are JSON texts; see
// [NormalizeSchema].
func IsJSON(f arrow.Field) bool {
	return hasExtension(f, ExtensionJSON) && classOf(f.Type) == textClass
}

func hasExtension(f arrow.Field, name string) bool {
	if f.Metadata.Len() == 0 {
		return false
	}
	got, _ := f.Metadata.GetValue(MetaExtension)
	return got == name
}

// NormalizeSchema returns the schema with every extension type, at any depth, replaced
// by its storage type and the metadata [MetaExtension] and [MetaExtensionData] of the
// field that has it. A dictionary or a run-end encoding whose values have an extension
// type gives the metadata to its own field. The result is s itself if there is nothing
// to replace.
//
// The engine and the wire normalize whatever they receive, so a logical type has one
// form everywhere, whatever extension types the program has registered with Arrow.
func NormalizeSchema(s *arrow.Schema) *arrow.Schema {
	fields, changed := mapFields(s.Fields(), normalizeField)
	if !changed {
		return s
	}
	meta := s.Metadata()
	return arrow.NewSchemaWithEndian(fields, &meta, s.Endianness())
}

// NormalizeRecord returns the rows of r with the [NormalizeSchema] of its schema. It
// copies no values. The caller must release the result.
func NormalizeRecord(r arrow.RecordBatch) arrow.RecordBatch {
	return WithSchema(r, NormalizeSchema(r.Schema()))
}

// NormalizeCatalog returns the catalog with the [NormalizeSchema] of each table, and with
// comments of at most [MaxComment] bytes. The result is c itself if there is nothing to
// replace; c is not modified.
func NormalizeCatalog(c *Catalog) *Catalog {
	if c == nil {
		return nil
	}
	out := c
	for i := range c.Tables {
		t, changed := clipTable(c.Tables[i])
		if t.Schema != nil {
			schema := NormalizeSchema(t.Schema)
			changed = changed || schema != t.Schema
			t.Schema = schema
		}
		if !changed {
			continue
		}
		if out == c {
			shallow := *c
			shallow.Tables = slices.Clone(c.Tables)
			out = &shallow
		}
		out.Tables[i] = t
	}
	return out
}

// WithSchema returns the rows of r with a schema whose types have the same storage as
// those of r. The types of nested columns become those of the schema too, including
// the metadata of their fields. It copies no values. The caller must release the
// result.
func WithSchema(r arrow.RecordBatch, schema *arrow.Schema) arrow.RecordBatch {
	if r.Schema() == schema {
		r.Retain()
		return r
	}
	columns := slices.Clone(r.Columns())
	for i, c := range columns {
		t := schema.Field(i).Type
		if sameType(c.DataType(), t) {
			c.Retain()
		} else {
			data := retype(c.Data(), t)
			columns[i] = array.MakeFromData(data)
			data.Release()
		}
		defer columns[i].Release()
	}
	return array.NewRecordBatch(schema, columns, r.NumRows())
}

// sameType reports whether types are equal, including the metadata of their fields.
func sameType(a, b arrow.DataType) bool {
	return arrow.TypeEqual(a, b, arrow.CheckMetadata())
}

// retype returns the data with a type of the same storage. The caller must release it.
func retype(d arrow.ArrayData, t arrow.DataType) arrow.ArrayData {
	if dict, ok := t.(*arrow.DictionaryType); ok {
		values := retype(d.Dictionary(), dict.ValueType)
		defer values.Release()
		return array.NewDataWithDictionary(t, d.Len(), d.Buffers(), d.NullN(), d.Offset(), values.(*array.Data))
	}
	types := childTypes(t)
	children := slices.Clone(d.Children())
	for i := range children {
		if i < len(types) {
			children[i] = retype(children[i], types[i])
			defer children[i].Release()
		}
	}
	return array.NewData(t, d.Len(), d.Buffers(), children, d.NullN(), d.Offset())
}

func childTypes(t arrow.DataType) []arrow.DataType {
	switch t := t.(type) {
	case arrow.ExtensionType:
		return childTypes(t.StorageType())
	case *arrow.RunEndEncodedType:
		return []arrow.DataType{t.RunEnds(), t.Encoded()}
	case arrow.NestedType:
		types := make([]arrow.DataType, t.NumFields())
		for i, f := range t.Fields() {
			types[i] = f.Type
		}
		return types
	}
	return nil
}

// normalizeField is [NormalizeSchema] for one field. changed tells whether there was
// anything to replace.
func normalizeField(f arrow.Field) (_ arrow.Field, changed bool) {
	t, e := storageOf(f.Type)
	if e != nil {
		f.Type, f.Metadata = t, withExtension(f.Metadata, e)
	}
	t, inner := MapFields(f.Type, normalizeField)
	f.Type = t
	return f, e != nil || inner
}

// storageOf returns the storage of an extension type, and the outermost extension type;
// nil if there is none. Values of a dictionary or a run-end encoding have no field, so
// theirs counts.
func storageOf(t arrow.DataType) (arrow.DataType, arrow.ExtensionType) {
	switch t := t.(type) {
	case arrow.ExtensionType:
		storage, _ := storageOf(t.StorageType())
		return storage, t
	case *arrow.DictionaryType:
		if values, e := storageOf(t.ValueType); e != nil {
			return &arrow.DictionaryType{IndexType: t.IndexType, ValueType: values, Ordered: t.Ordered}, e
		}
	case *arrow.RunEndEncodedType:
		if values, e := storageOf(t.Encoded()); e != nil {
			return runEndEncoded(t, values), e
		}
	}
	return t, nil
}

func runEndEncoded(t *arrow.RunEndEncodedType, values arrow.DataType) arrow.DataType {
	out := arrow.RunEndEncodedOf(t.RunEnds(), values)
	out.ValueNullable = t.ValueNullable
	return out
}

// withExtension returns metadata with the keys of an extension type.
func withExtension(m arrow.Metadata, e arrow.ExtensionType) arrow.Metadata {
	var keys, values []string
	for i, key := range m.Keys() {
		if key != MetaExtension && key != MetaExtensionData {
			keys, values = append(keys, key), append(values, m.Values()[i])
		}
	}
	return arrow.NewMetadata(append(keys, MetaExtensionData, MetaExtension), append(values, e.Serialize(), e.ExtensionName()))
}

// MapFields returns the type with each field directly within it replaced by the result
// of change, which may call MapFields for the fields below. changed tells whether a
// field was replaced; otherwise the result is t itself. A type's values without a field
// of their own, as in a dictionary, are searched for fields.
func MapFields(t arrow.DataType, change func(arrow.Field) (arrow.Field, bool)) (_ arrow.DataType, changed bool) {
	switch t := t.(type) {
	case arrow.ExtensionType: // has no fields that can be replaced
	case *arrow.DictionaryType:
		if values, ok := MapFields(t.ValueType, change); ok {
			return &arrow.DictionaryType{IndexType: t.IndexType, ValueType: values, Ordered: t.Ordered}, true
		}
	case *arrow.RunEndEncodedType:
		if values, ok := MapFields(t.Encoded(), change); ok {
			return runEndEncoded(t, values), true
		}
	case *arrow.MapType:
		key, ok1 := change(t.KeyField())
		item, ok2 := change(t.ItemField())
		if ok1 || ok2 {
			key.Nullable = false
			out := arrow.MapOfFields(key, item)
			out.KeysSorted = t.KeysSorted
			return out, true
		}
	case *arrow.ListType:
		if f, ok := change(t.ElemField()); ok {
			return arrow.ListOfField(f), true
		}
	case *arrow.LargeListType:
		if f, ok := change(t.ElemField()); ok {
			return arrow.LargeListOfField(f), true
		}
	case *arrow.ListViewType:
		if f, ok := change(t.ElemField()); ok {
			return arrow.ListViewOfField(f), true
		}
	case *arrow.LargeListViewType:
		if f, ok := change(t.ElemField()); ok {
			return arrow.LargeListViewOfField(f), true
		}
	case *arrow.FixedSizeListType:
		if f, ok := change(t.ElemField()); ok {
			return arrow.FixedSizeListOfField(t.Len(), f), true
		}
	case *arrow.StructType:
		if fields, ok := mapFields(t.Fields(), change); ok {
			return arrow.StructOf(fields...), true
		}
	case arrow.UnionType:
		if fields, ok := mapFields(t.Fields(), change); ok {
			return arrow.UnionOf(t.Mode(), fields, t.TypeCodes()), true
		}
	}
	return t, false
}

// mapFields replaces fields by the results of change. The result is the argument itself
// if no field is replaced.
func mapFields(fields []arrow.Field, change func(arrow.Field) (arrow.Field, bool)) ([]arrow.Field, bool) {
	changed := false
	for i, f := range fields {
		if f, ok := change(f); ok {
			if !changed {
				fields, changed = slices.Clone(fields), true
			}
			fields[i] = f
		}
	}
	return fields, changed
}
