package csv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// packageFile describes the tables of its directory as a Frictionless Data Package,
// version 1: https://specs.frictionlessdata.io/data-package/. In addition, a field
// of type number may have the properties "precision" and "scale".
const packageFile = "datapackage.json"

type dataPackage struct {
	Resources []resource `json:"resources"`
}

type resource struct {
	Name        string                    `json:"name"`
	Path        oneOrMore                 `json:"path"`
	Title       string                    `json:"title,omitempty"`
	Description string                    `json:"description,omitempty"`
	Encoding    string                    `json:"encoding,omitempty"`
	Compression string                    `json:"compression,omitempty"`
	Dialect     inlineOrFile[dialectJSON] `json:"dialect,omitzero"`
	Schema      *inlineOrFile[schemaJSON] `json:"schema,omitempty"`
}

type dialectJSON struct {
	Delimiter        *string `json:"delimiter,omitempty"`
	QuoteChar        *string `json:"quoteChar,omitempty"`
	DoubleQuote      *bool   `json:"doubleQuote,omitempty"`
	EscapeChar       *string `json:"escapeChar,omitempty"`
	CommentChar      *string `json:"commentChar,omitempty"`
	Header           *bool   `json:"header,omitempty"`
	NullSequence     *string `json:"nullSequence,omitempty"`
	SkipInitialSpace *bool   `json:"skipInitialSpace,omitempty"`
	// Additions to version 1 of the format, with the names of the options.
	Skip     *int   `json:"skip,omitempty"`
	MaxField *int64 `json:"max_field,omitempty"`
}

type schemaJSON struct {
	Fields        []fieldJSON   `json:"fields"`
	MissingValues []string      `json:"missingValues,omitempty"`
	PrimaryKey    oneOrMore     `json:"primaryKey,omitempty"`
	ForeignKeys   []foreignJSON `json:"foreignKeys,omitempty"`
}

type fieldJSON struct {
	Name        string   `json:"name"`
	Type        string   `json:"type,omitempty"`
	Format      string   `json:"format,omitempty"`
	Title       string   `json:"title,omitempty"`
	Description string   `json:"description,omitempty"`
	Precision   *int32   `json:"precision,omitempty"`
	Scale       *int32   `json:"scale,omitempty"`
	TrueValues  []string `json:"trueValues,omitempty"`
	FalseValues []string `json:"falseValues,omitempty"`
	DecimalChar string   `json:"decimalChar,omitempty"`
	GroupChar   string   `json:"groupChar,omitempty"`
	BareNumber  *bool    `json:"bareNumber,omitempty"`
	Constraints struct {
		Required bool `json:"required,omitempty"`
		Unique   bool `json:"unique,omitempty"`
	} `json:"constraints,omitzero"`
}

type foreignJSON struct {
	Fields    oneOrMore `json:"fields"`
	Reference struct {
		Resource string    `json:"resource"`
		Fields   oneOrMore `json:"fields"`
	} `json:"reference"`
}

// oneOrMore is a text or a list of texts.
type oneOrMore []string

// UnmarshalJSON accepts either form.
func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// tableSpec describes one table, as far as a package declares it.
type tableSpec struct {
	table       string
	fileNames   []string // its files
	dialect     dialect
	comment     string
	columns     []column // nil if they are not declared
	inferred    bool     // columns were inferred
	inferDetail []int    // indexes of declared columns whose scale or time zone is inferred
	key         []string
	unique      [][]string
	foreignKeys []sources.ForeignKey
}

// readPackage reads the package of a directory. It returns nil if there is none. Its
// error lists every fault.
func readPackage(fsys fs.FS, standard dialect) ([]tableSpec, error) {
	text, err := fs.ReadFile(fsys, packageFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parsePackage(fsys, text, standard)
}

// inlineOrFile is a part of a package that may be given as the name of a file that
// contains it.
type inlineOrFile[T any] struct {
	value T
	file  string // empty if the value is inline
}

// UnmarshalJSON accepts the value or the name of its file.
func (e *inlineOrFile[T]) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &e.file)
	}
	return json.Unmarshal(b, &e.value)
}

// MarshalJSON writes the value inline.
func (e inlineOrFile[T]) MarshalJSON() ([]byte, error) { return json.Marshal(e.value) }

// fetch reads the value's file, if it has one, from below the package.
func (e *inlineOrFile[T]) fetch(fsys fs.FS) error {
	if e.file == "" {
		return nil
	}
	if !fs.ValidPath(path.Clean(e.file)) {
		return fmt.Errorf("%q is not a path inside the directory of the package", e.file)
	}
	text, err := fs.ReadFile(fsys, path.Clean(e.file))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &e.value); err != nil {
		return jsonFault(e.file, text, err)
	}
	return nil
}

func parsePackage(fsys fs.FS, text []byte, standard dialect) ([]tableSpec, error) {
	var p dataPackage
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, jsonFault(packageFile, text, err)
	}
	var all []tableSpec
	var faults []error
	tables := map[string]bool{}
	for i := range p.Resources {
		r := &p.Resources[i]
		err := r.Dialect.fetch(fsys)
		if r.Schema != nil {
			err = errors.Join(err, r.Schema.fetch(fsys))
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: resources[%d]: %w", packageFile, i, err))
			continue
		}
		d, err2 := r.describe(standard)
		where := fmt.Sprintf("%s: resources[%d]", packageFile, i)
		for _, fault := range err2 {
			faults = append(faults, fmt.Errorf("%s%w", where, fault))
		}
		if tables[d.table] {
			faults = append(faults, fmt.Errorf("%s.name: duplicate name %q", where, d.table))
		}
		tables[d.table] = true
		all = append(all, d)
	}
	return all, errors.Join(faults...)
}

// jsonFault adds the line and the column to an error of package json.
func jsonFault(file string, text []byte, err error) error {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	offset, field := int64(-1), ""
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	} else if errors.As(err, &typed) {
		offset, field = typed.Offset, typed.Field
	}
	if offset < 0 || offset > int64(len(text)) {
		return fmt.Errorf("%s: %w", file, err)
	}
	before := text[:offset]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	if field != "" {
		return fmt.Errorf("%s:%d:%d: %s: unexpected %s", file, line, max(column, 1), field, typed.Value)
	}
	return fmt.Errorf("%s:%d:%d: %w", file, line, max(column, 1), err)
}

func (r *resource) describe(standard dialect) (d tableSpec, faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	d = tableSpec{dialect: standard, comment: r.Description, table: r.Name}
	if d.comment == "" {
		d.comment = r.Title
	}
	if len(r.Path) == 0 {
		fault(".path: no file is named")
	}
	for _, p := range r.Path {
		if !fs.ValidPath(path.Clean(p)) || path.Clean(p) == "." {
			fault(".path: %q is not a path inside the directory of the package", p)
			continue
		}
		d.fileNames = append(d.fileNames, path.Clean(p))
	}
	if d.table == "" && len(d.fileNames) > 0 {
		d.table = tableName(d.fileNames[0])
	}
	if len(d.fileNames) > 0 && r.Dialect.value.Delimiter == nil && d.dialect.delimiter == ',' {
		if base, _ := unpackedName(d.fileNames[0]); strings.EqualFold(path.Ext(base), ".tsv") {
			d.dialect.delimiter = '\t'
		}
	}
	if r.Encoding != "" {
		encoding, err := parseEncoding(r.Encoding)
		if err != nil {
			fault(".encoding: %w", err)
		}
		if d.dialect.encoding = encoding; encoding == encodingUTF8 {
			d.dialect.encoding = encodingAuto // the format's default, which a byte order mark overrides
		}
	}
	if r.Compression != "" {
		compression, err := parseCompression(r.Compression)
		if err != nil {
			fault(".compression: %w", err)
		}
		d.dialect.compression = compression
	}
	for _, err := range r.Dialect.value.apply(&d.dialect) {
		fault(".dialect%w", err)
	}
	if r.Schema == nil {
		return d, faults
	}
	schema := &r.Schema.value
	names, indexes := make([]string, len(schema.Fields)), make(map[string]int, len(schema.Fields))
	d.columns = make([]column, len(schema.Fields))
	for i, f := range schema.Fields {
		names[i] = f.Name
		if _, ok := indexes[f.Name]; ok {
			fault(".schema.fields[%d].name: duplicate name %q", i, f.Name)
		}
		indexes[f.Name] = i
		c, measure, err := f.column()
		if err != nil {
			fault(".schema.fields[%d]%w", i, err)
		}
		if c.missing = schema.MissingValues; c.missing == nil {
			c.missing = []string{""} // the format's default
		}
		if null := r.Dialect.value.NullSequence; null != nil {
			c.missing = append(slices.Clone(c.missing), *null)
		}
		d.columns[i] = c
		if measure {
			d.inferDetail = append(d.inferDetail, i)
		}
		if f.Constraints.Unique {
			d.unique = append(d.unique, []string{f.Name})
		}
	}
	known := func(where string, columns []string) {
		for _, c := range columns {
			if _, ok := indexes[c]; !ok {
				fault("%s: unknown field %q%s", where, c, sources.Suggest(c, names))
			}
		}
	}
	known(".schema.primaryKey", schema.PrimaryKey)
	d.key = schema.PrimaryKey
	for _, name := range d.key {
		// Columns of the primary key are required, even if that is not declared.
		if i, ok := indexes[name]; ok {
			d.columns[i].required = true
		}
	}
	for i, f := range schema.ForeignKeys {
		if len(f.Fields) == 0 {
			fault(".schema.foreignKeys[%d]: it has no fields", i)
			continue
		}
		// Any other fault spoils only the relations of the key, which say so.
		target := f.Reference.Resource
		if target == "" || target == "self" {
			target = d.table
		}
		d.foreignKeys = append(d.foreignKeys, sources.ForeignKey{Table: d.table, Columns: f.Fields, TargetTable: target, TargetColumns: f.Reference.Fields})
	}
	return d, faults
}

func (j *dialectJSON) apply(d *dialect) (faults []error) {
	char := func(name string, text *string, to *byte) {
		if text == nil {
			return
		}
		c, err := parseChar(*text)
		if err != nil {
			faults = append(faults, fmt.Errorf(".%s: %w", name, err))
			return
		}
		*to = c
	}
	char("delimiter", j.Delimiter, &d.delimiter)
	if j.QuoteChar != nil && isNone(*j.QuoteChar) {
		d.quote = 0
	} else {
		char("quoteChar", j.QuoteChar, &d.quote)
	}
	char("escapeChar", j.EscapeChar, &d.escape)
	char("commentChar", j.CommentChar, &d.comment)
	if j.SkipInitialSpace != nil && *j.SkipInitialSpace {
		faults = append(faults, errors.New(".skipInitialSpace: not supported: spaces are part of a field; remove them from the file"))
	}
	if j.Header != nil {
		d.header = *j.Header
	}
	if j.DoubleQuote != nil {
		d.doubleQuote = *j.DoubleQuote
	}
	if j.Skip != nil {
		if d.skip = *j.Skip; d.skip < 0 {
			faults = append(faults, fmt.Errorf(".skip must not be negative (got %d)", d.skip))
		}
	}
	if j.MaxField != nil {
		if d.maxField = *j.MaxField; d.maxField < 1 || d.maxField > largestField {
			faults = append(faults, fmt.Errorf(".max_field must be from 1 to %d (got %d)", int64(largestField), d.maxField))
		}
	}
	if d.escape == d.quote { // this means that quotes are doubled
		d.escape, d.doubleQuote = 0, true
	}
	for _, err := range d.conflict() {
		faults = append(faults, fmt.Errorf(": %w", err))
	}
	return faults
}

// column returns the column of a field. measure tells that its scale or time zone
// must be inferred.
func (f *fieldJSON) column() (c column, measure bool, err error) {
	c = column{name: f.Name, required: f.Constraints.Required, source: f.Type, comment: f.Description}
	if c.comment == "" {
		c.comment = f.Title
	}
	if f.Name == "" {
		return c, false, errors.New(".name: a field must have a name")
	}
	plain := f.Format == "" || f.Format == "default"
	switch f.Type {
	case "", "any", "object", "array", "geopoint", "geojson", "duration", "yearmonth", "string":
		return c, false, nil // as text, losslessly
	case "integer":
		c.kind, c.group = integerKind, f.GroupChar
	case "number":
		if c.kind, c.group = decimalKind, f.GroupChar; f.Format == "float" {
			c.kind = floatKind
		}
		if f.DecimalChar != "" {
			if len(f.DecimalChar) != 1 {
				return c, false, fmt.Errorf(".decimalChar must be one character (got %q)", f.DecimalChar)
			}
			c.decimal = f.DecimalChar[0]
		}
		if measure = f.Scale == nil && c.kind == decimalKind; f.Scale != nil {
			if *f.Scale < 0 || *f.Scale > maxPrecision {
				return c, false, fmt.Errorf(".scale must be from 0 to %d (got %d)", maxPrecision, *f.Scale)
			}
			c.scale = *f.Scale
		}
		if f.Precision != nil {
			if *f.Precision < max(1, c.scale) || *f.Precision > maxPrecision {
				return c, false, fmt.Errorf(".precision must be from %d to %d (got %d)", max(1, c.scale), maxPrecision, *f.Precision)
			}
			c.digits = *f.Precision
		}
	case "boolean":
		c.kind, c.trues, c.falses = booleanKind, f.TrueValues, f.FalseValues
		if c.trues == nil {
			c.trues = []string{"true", "True", "TRUE", "1"}
		}
		if c.falses == nil {
			c.falses = []string{"false", "False", "FALSE", "0"}
		}
	case "date":
		c.kind = dateKind
	case "time":
		c.kind = timeKind
	case "datetime":
		c.kind, measure = localKind, plain // the sample tells whether they have a time zone
	case "year":
		c.kind = yearKind
	default:
		types := []string{"any", "array", "boolean", "date", "datetime", "duration", "geojson", "geopoint", "integer", "number", "object", "string", "time", "year", "yearmonth"}
		return c, false, fmt.Errorf(".type: unknown type %q%s", f.Type, sources.Suggest(f.Type, types))
	}
	if f.BareNumber != nil && !*f.BareNumber {
		return c, false, errors.New(".bareNumber: numbers inside other text are not supported: declare the field as a string")
	}
	if c.kind == dateKind || c.kind == timeKind || c.kind == localKind {
		if !plain {
			layout, zoned, err := layoutOf(f.Format)
			if err != nil {
				return c, false, fmt.Errorf(".format: %w", err)
			}
			if c.layout = layout; zoned && c.kind == localKind {
				c.kind = instantKind
			}
		}
	}
	return c, measure, nil
}

// directives maps the directives of strptime to the layouts of package time.
var directives = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'f': "000000",
	'b': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'p': "PM", 'j': "002", 'z': "-0700", 'Z': "MST", '%': "%",
}

// layoutOf converts a strptime pattern to a layout of package time, and reports
// whether it has a time zone.
func layoutOf(format string) (layout string, zoned bool, err error) {
	if format == "any" {
		return "", false, errors.New(`"any" is ambiguous: write a pattern such as %Y-%m-%d`)
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		if i == len(format) {
			return "", false, fmt.Errorf("%q ends in a single %%", format)
		}
		part, ok := directives[format[i]]
		if !ok || format[i] == 'Z' {
			return "", false, fmt.Errorf("%%%c in %q is not supported: declare the field as a string", format[i], format)
		}
		zoned = zoned || format[i] == 'z'
		if format[i] == 'f' && !strings.HasSuffix(b.String(), "05.") {
			return "", false, fmt.Errorf("%%f in %q must follow %%S and a point", format)
		}
		b.WriteString(part)
	}
	return b.String(), zoned, nil
}
