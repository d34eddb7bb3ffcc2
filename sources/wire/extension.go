package wire

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// Arrow's reader replaces a field's type by the extension type that its metadata names,
// if that is registered in the program, and rejects metadata that the registered type
// does not understand. What is registered depends on the packages that are linked. The
// reader must give the same result in every program, so the key that names the type is
// hidden from Arrow while it reads a schema.

// maskedKey is what [sources.MetaExtension] becomes in the metadata that Arrow reads. It
// has the same length.
var maskedKey = "\x00" + sources.MetaExtension[1:]

// mask hides the names of extension types in a schema message, which parseMessage has
// checked.
func mask(meta []byte) error {
	root, err := tableAt(meta, 0)
	if err != nil {
		return err
	}
	header, _, err := root.table(2)
	if err != nil {
		return err
	}
	w := walker{left: 16 * len(meta), mask: true}
	return w.schema(header)
}

// maskKeys hides the name in the metadata of one field, which has been checked.
func maskKeys(field table) {
	at, n, err := field.vector(6, 4)
	for i := 0; err == nil && i < n; i++ {
		var kv table
		if kv, err = tableAt(field.b, at+4*i); err != nil {
			return
		}
		key, size, err := kv.vector(0, 1)
		if err == nil && string(field.b[key:key+size]) == sources.MetaExtension {
			field.b[key] = maskedKey[0]
		}
	}
}

// unmaskSchema returns the schema of a masked message with the names restored.
func unmaskSchema(s *arrow.Schema) *arrow.Schema {
	fields := s.Fields()
	changed := false
	for i, f := range fields {
		if f, ok := unmask(f); ok {
			fields[i], changed = f, true
		}
	}
	if !changed {
		return s
	}
	meta := s.Metadata()
	return arrow.NewSchemaWithEndian(fields, &meta, s.Endianness())
}

func unmask(f arrow.Field) (_ arrow.Field, changed bool) {
	if keys := f.Metadata.Keys(); slices.Contains(keys, maskedKey) {
		keys = slices.Clone(keys)
		for i, key := range keys {
			if key == maskedKey {
				keys[i] = sources.MetaExtension
			}
		}
		f.Metadata, changed = arrow.NewMetadata(keys, f.Metadata.Values()), true
	}
	t, inner := sources.MapFields(f.Type, unmask)
	f.Type = t
	return f, changed || inner
}
