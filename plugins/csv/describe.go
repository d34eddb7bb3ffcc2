package csv

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// WritePackage writes a datapackage.json beside the files that c opens. It declares
// their dialects, their types as inferred, and with [Options.ByName] their foreign
// keys. WritePackage returns the path of the file. It does not overwrite an existing
// datapackage.json, but returns an error of kind [sources.Invalid].
func WritePackage(ctx context.Context, c sources.Config) (string, error) {
	name, err := writePackage(ctx, c)
	return name, sources.WithOp("describe", "", err)
}

func writePackage(ctx context.Context, c sources.Config) (name string, err error) {
	opened, err := open(c)
	if err != nil {
		return "", err
	}
	s := opened.(*source)
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.root == nil {
		return "", sources.Errorf(sources.Invalid, "", "", "standard input has no directory to write %s to", packageFile)
	}
	text, err := s.describe(ctx)
	if err != nil {
		return "", err
	}
	file, err := s.root.OpenFile(packageFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return "", sources.Errorf(sources.Invalid, "", "", "%s already exists: remove it first", packageFile)
	}
	if err != nil {
		return "", err
	}
	_, err = file.Write(text)
	return filepath.Join(s.root.Name(), packageFile), errors.Join(err, file.Close())
}

// describe returns the package that describes the tables.
func (s *source) describe(ctx context.Context) ([]byte, error) {
	catalog, err := s.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range catalog.Unreadable {
		return nil, catalog.NoTable(t.Table)
	}
	var p dataPackage
	for i := range catalog.Tables {
		t := s.table(catalog.Tables[i].Name)
		schema := schemaJSON{MissingValues: append([]string{""}, s.options.Null...)}
		r := resource{Name: t.table, Path: t.fileNames, Encoding: t.dialect.encoding.String(), Dialect: inlineOrFile[dialectJSON]{value: t.dialect.json()}}
		if c := t.dialect.compression; c != compressionAuto {
			r.Compression = compressionNames[c]
		}
		for _, c := range t.columns {
			if c.kind != fileKind {
				schema.Fields = append(schema.Fields, c.json())
			}
		}
		for _, rel := range catalog.Tables[i].Relations {
			if rel.Kind == sources.BelongsTo && rel.Unusable == "" {
				key := foreignJSON{Fields: rel.Columns}
				key.Reference.Resource, key.Reference.Fields = rel.TargetTable, rel.TargetColumns
				schema.ForeignKeys = append(schema.ForeignKeys, key)
			}
		}
		if key := catalog.Tables[i].Unique; len(key) > 0 && len(key[0]) == 1 {
			for i := range schema.Fields {
				schema.Fields[i].Constraints.Unique = schema.Fields[i].Name == key[0][0]
			}
		}
		r.Schema = &inlineOrFile[schemaJSON]{value: schema}
		p.Resources = append(p.Resources, r)
	}
	text, err := json.MarshalIndent(p, "", " ")
	return append(text, '\n'), err
}

// json returns the column as a field of a package. Its type must be an inferred one.
func (c *column) json() fieldJSON {
	f := fieldJSON{Name: c.name, Type: "string"}
	switch c.kind {
	case integerKind:
		f.Type = "integer"
	case decimalKind:
		f.Type, f.Scale = "number", &c.scale
	case booleanKind:
		f.Type, f.TrueValues, f.FalseValues = "boolean", []string{"true", "True", "TRUE"}, []string{"false", "False", "FALSE"}
	case dateKind:
		f.Type = "date"
	case localKind, instantKind:
		f.Type = "datetime"
	}
	return f
}

// json returns the properties in which the dialect differs from RFC 4180.
func (d *dialect) json() dialectJSON {
	var j dialectJSON
	char := func(c, usual byte) *string {
		if c == usual {
			return nil
		}
		text := string([]byte{c})
		return &text
	}
	j.Delimiter, j.QuoteChar = char(d.delimiter, rfc4180.delimiter), char(d.quote, rfc4180.quote)
	if d.quote == 0 {
		none := ""
		j.QuoteChar = &none
	}
	j.EscapeChar, j.CommentChar = char(d.escape, 0), char(d.comment, 0)
	if !d.header {
		j.Header = &d.header
	}
	if d.skip > 0 {
		j.Skip = &d.skip
	}
	if d.maxField != rfc4180.maxField {
		j.MaxField = &d.maxField
	}
	return j
}

// String returns the encoding's name in packages.
func (e encoding) String() string {
	switch e {
	case encodingUTF16:
		return "utf-16"
	case encodingUTF16LE:
		return "utf-16le"
	case encodingUTF16BE:
		return "utf-16be"
	case encodingLatin1:
		return "iso-8859-1"
	case encodingCP1252:
		return "windows-1252"
	}
	return "utf-8"
}

// MarshalJSON writes a single text as a string.
func (o oneOrMore) MarshalJSON() ([]byte, error) {
	if len(o) == 1 {
		return json.Marshal(o[0])
	}
	return json.Marshal([]string(o))
}

// isNone reports whether the value of a package or an option means no character.
func isNone(text string) bool { return text == "" || strings.EqualFold(text, "none") }
