package csv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// WritePackage writes a datapackage.json beside the files of a configuration,
// which declares what was found in them: dialects, types, and the keys that were
// asked for by name. It returns the file's name. A package that is there already
// is left as it is, with an error of kind [sources.Invalid].
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
		return "", &sources.Error{Kind: sources.Invalid, Err: errors.New("standard input has no directory to describe")}
	}
	text, err := s.describe(ctx)
	if err != nil {
		return "", err
	}
	file, err := s.root.OpenFile(packageFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return "", &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("there is a %s already: move it away to make another", packageFile)}
	}
	if err != nil {
		return "", err
	}
	_, err = file.Write(text)
	return filepath.Join(s.root.Name(), packageFile), errors.Join(err, file.Close())
}

// describe writes what is known of the tables as a package.
func (s *source) describe(ctx context.Context) ([]byte, error) {
	catalog, err := s.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	var p dataPackage
	for i := range catalog.Tables {
		t := s.tables[catalog.Tables[i].Name]
		schema := schemaJSON{MissingValues: append([]string{""}, s.options.Null...)}
		r := resource{Name: t.table, Path: t.names, Encoding: t.dialect.encoding.String(), Dialect: elsewhere[dialectJSON]{value: t.dialect.json()}}
		if c := t.dialect.compression; c != compressionAuto {
			r.Compression = compressionNames[c]
		}
		for _, c := range t.columns {
			if c.kind != fileKind {
				schema.Fields = append(schema.Fields, c.json())
			}
		}
		for _, rel := range catalog.Tables[i].Relations {
			if rel.Kind == sources.BelongsTo {
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
		r.Schema = &elsewhere[schemaJSON]{value: schema}
		p.Resources = append(p.Resources, r)
	}
	text, err := json.MarshalIndent(p, "", " ")
	return append(text, '\n'), err
}

// json is the column as a field of a package, for types that inference finds.
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

// json is what of the dialect is not the standard's.
func (d *dialect) json() dialectJSON {
	var j dialectJSON
	char := func(c, usual byte) *string {
		if c == usual {
			return nil
		}
		text := string([]byte{c})
		return &text
	}
	j.Delimiter, j.QuoteChar = char(d.delimiter, standard.delimiter), char(d.quote, standard.quote)
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
	if d.maxField != standard.maxField {
		j.MaxField = &d.maxField
	}
	return j
}

// String is the name that packages know the encoding by.
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

// MarshalJSON writes one text as a text.
func (o oneOrMore) MarshalJSON() ([]byte, error) {
	if len(o) == 1 {
		return json.Marshal(o[0])
	}
	return json.Marshal([]string(o))
}

// isNone reports whether a character of a package or an option stands for none.
func isNone(text string) bool { return text == "" || strings.EqualFold(text, "none") }
