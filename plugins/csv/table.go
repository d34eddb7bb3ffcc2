package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// Catalog reads the header and a sample of every file, once.
func (s *source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.catalog != nil {
		return s.catalog, nil
	}
	catalog := &sources.Catalog{}
	tables := map[string]*table{}
	var keys []sources.ForeignKey
	for _, d := range s.files {
		if err := ctx.Err(); err != nil {
			return nil, sources.WithOp("catalog", "", err)
		}
		t, rows, err := s.load(d)
		if err != nil {
			return nil, sources.WithOp("catalog", d.table, invalid(err))
		}
		tables[d.table] = t
		catalog.Tables = append(catalog.Tables, t.describe(rows))
		keys = append(keys, d.foreign...)
	}
	// Some of a package's files may refer to tables that were not opened with
	// them.
	keys = slices.DeleteFunc(keys, func(k sources.ForeignKey) bool { return tables[k.Target] == nil && s.declared[k.Target] })
	if err := sources.Relate(catalog, keys); err != nil {
		return nil, sources.WithOp("catalog", "", err)
	}
	addLookups(catalog)
	s.catalog, s.tables = catalog, tables
	return catalog, nil
}

// invalid makes a fault in a file one of kind Invalid, unless the system had
// its own to say.
func invalid(err error) error {
	if kind := sources.KindOf(err); kind != sources.Internal {
		return err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return err
	}
	return &sources.Error{Kind: sources.Invalid, Err: err}
}

func (t *table) describe(rows int64) sources.Table {
	fields := make([]arrow.Field, len(t.columns))
	for i, c := range t.columns {
		fields[i] = arrow.Field{Name: c.name, Type: c.dataType(), Nullable: !c.required}
		meta := map[string]string{}
		if c.source != "" {
			meta[sources.MetaType] = c.source
		}
		if c.comment != "" {
			meta[sources.MetaComment] = c.comment
		}
		if len(meta) > 0 {
			fields[i].Metadata = arrow.MetadataFrom(meta)
		}
	}
	return sources.Table{
		Name: t.table, Schema: arrow.NewSchema(fields, nil), Key: t.key, Unique: t.unique, Comment: t.comment, Rows: rows,
		Can: sources.Project | sources.Limit | sources.Resume | sources.Stable,
	}
}

// load reads the header and the sample of a file. The estimate of its rows is
// exact where the sample is the whole file.
func (s *source) load(d described) (*table, int64, error) {
	file, err := s.fsys.Open(d.file)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if info.IsDir() {
		return nil, 0, fmt.Errorf("%s is a directory", d.file)
	}
	t := &table{described: d, identity: identity(info)}
	in := newScanner(file, d.file, d.dialect)
	if err := in.skipBOM(); err != nil {
		return nil, 0, err
	}
	names, err := s.header(in, t)
	if err != nil {
		return nil, 0, err
	}
	t.start, t.line = in.offset(), in.line
	inferred := t.columns == nil
	if inferred {
		t.columns = make([]column, len(names))
		for i, name := range names {
			t.columns[i] = column{name: name}
			if s.options.Null != "" {
				t.columns[i].missing = []string{s.options.Null}
			}
		}
	} else if err := t.matches(names); err != nil {
		return nil, 0, err
	}
	in.blank = len(t.columns) == 1
	guesses := make([]guess, len(t.columns))
	records, whole := 0, false
	for records < s.options.Sample {
		// A fault in a record is the scan's to tell: the other tables, and the
		// records before it, are good.
		more, err := in.next()
		if err == nil && more {
			err = t.width(in)
		}
		if whole = !more || err != nil; whole {
			break
		}
		records++
		for i, f := range in.fields {
			text := in.text(&f)
			if c := &t.columns[i]; !c.isNull(text, f.quoted) {
				if c.kind == decimalKind {
					guesses[i].places = max(guesses[i].places, c.places(text))
				} else {
					guesses[i].add(text)
				}
			}
		}
	}
	if inferred {
		for i := range t.columns {
			guesses[i].settle(&t.columns[i])
			t.columns[i].inferred = max(records, 1)
		}
	} else {
		for _, i := range t.measured {
			t.columns[i].measure(&guesses[i], records)
		}
	}
	rows := int64(records)
	if records > 0 {
		t.rowBytes = max(1, (in.offset()-t.start)/int64(records))
	}
	if !whole && records > 0 {
		rows = max(rows, (info.Size()-t.start)/t.rowBytes)
	}
	return t, rows, nil
}

// places is how many decimals a declared number has; 0 for what is none, which is the scan's to tell.
func (c *column) places(text []byte) int {
	_, fraction, _ := bytes.Cut(c.plain(text), []byte{'.'})
	if len(bytes.Trim(fraction, "0123456789")) > 0 {
		return 0
	}
	return len(fraction)
}

// measure settles what a declaration leaves to the sample: the scale of a
// number, whether a timestamp has a zone.
func (c *column) measure(g *guess, records int) {
	c.inferred = max(records, 1)
	switch c.kind {
	case decimalKind:
		c.scale = min(int32(g.places), c.precision())
	case localKind:
		if g.seen && g.may&mayLocal == 0 && g.may&mayInstant != 0 {
			c.kind = instantKind
		}
	}
}

// header reads the names of the columns.
func (s *source) header(in *scanner, t *table) ([]string, error) {
	if !t.dialect.header {
		if t.columns != nil {
			return namesOf(t.columns), nil
		}
		return s.unnamed(t)
	}
	more, err := in.next()
	if err != nil {
		return nil, err
	}
	if !more {
		if t.columns != nil {
			return namesOf(t.columns), nil
		}
		return nil, errors.New(t.file + ": the file is empty: it has no header")
	}
	var names []string
	seen := map[string]bool{}
	for i, f := range in.fields {
		text := in.text(&f)
		if bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
			return nil, in.at(f.line, f.column, "the header is not text in UTF-8: is this a CSV file?")
		}
		name := string(text)
		if name == "" || seen[name] {
			if !s.options.Distinct {
				if name == "" {
					return nil, in.at(f.line, f.column, "column %d has no name: names=distinct gives it one", i+1)
				}
				return nil, in.at(f.line, f.column, "the column name %q is there twice: names=distinct gives it a number", name)
			}
			name = distinct(name, i, seen)
		}
		seen[name] = true
		names = append(names, name)
	}
	return names, nil
}

// distinct makes a name that is not taken yet.
func distinct(name string, i int, seen map[string]bool) string {
	if name == "" {
		name = fmt.Sprintf("column_%d", i+1)
	}
	for n, base := 2, name; seen[name]; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	return name
}

// unnamed counts the fields of the first record of a file without a header.
func (s *source) unnamed(t *table) ([]string, error) {
	file, err := s.fsys.Open(t.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in := newScanner(file, t.file, t.dialect)
	if err := in.skipBOM(); err != nil {
		return nil, err
	}
	more, err := in.next()
	if err != nil {
		return nil, err
	}
	if !more {
		return nil, errors.New(t.file + ": the file is empty: it has no columns")
	}
	names := make([]string, len(in.fields))
	for i := range names {
		names[i] = fmt.Sprintf("column_%d", i+1)
	}
	return names, nil
}

// index is the place of the column of that name, which there is.
func (t *table) index(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
}

func namesOf(columns []column) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return names
}

// matches holds the header against the declared columns.
func (t *table) matches(names []string) error {
	declared := namesOf(t.columns)
	if slices.Equal(names, declared) {
		return nil
	}
	for i, name := range names {
		if i >= len(declared) {
			return fmt.Errorf("%s: column %d is %q, which %s does not declare", t.file, i+1, name, packageFile)
		}
		if name != declared[i] {
			return fmt.Errorf("%s: column %d is %q, where %s declares %q", t.file, i+1, name, packageFile, declared[i])
		}
	}
	return fmt.Errorf("%s: there is no column %s, which %s declares", t.file, strings.Join(declared[len(names):], ", "), packageFile)
}

// width refuses a record that has more or fewer fields than the table columns.
func (t *table) width(in *scanner) error {
	if len(in.fields) == len(t.columns) {
		return nil
	}
	last := in.fields[len(in.fields)-1]
	place := last
	if len(in.fields) > len(t.columns) {
		place = in.fields[len(t.columns)]
	}
	return in.at(place.line, place.column, "the record has %d fields, the table %d columns", len(in.fields), len(t.columns))
}
