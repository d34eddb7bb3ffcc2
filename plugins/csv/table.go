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
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// table is a table whose columns are known.
type table struct {
	tableSpec
	files    []tableFile
	identity string // of its files when the catalog was made
	width    int    // the number of fields of a record
	rowBytes int64  // the average size of a record in the sample
	packed   bool   // some file cannot be read from the middle
	skips    bool   // unreadable records are left out
}

// tableFile is one of a table's files.
type tableFile struct {
	name      string
	nameBytes []byte
	state     fileState     // when the catalog was made
	size      int64         // on disk
	start     int64         // the offset of the first record
	onePass   *onePassInput // the input to read instead of a file, or nil
}

func (t *table) isOnePass() bool { return t.files[0].onePass != nil }

// canResume reports whether a scan can resume after a cursor.
func (t *table) canResume() bool { return !t.isOnePass() }

func (t *table) capabilities() sources.Capability {
	can := sources.CapProject | sources.CapLimit | sources.CapLogic
	if t.canResume() {
		can |= sources.CapResume | sources.CapStable
	}
	if t.canPartition() {
		can |= sources.CapPartition
	}
	return can
}

// Catalog returns the catalog, and makes it in the first call by reading the header
// and a sample of every file.
func (s *source) Catalog(ctx context.Context) (*sources.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.catalog != nil {
		return s.catalog, nil
	}
	catalog := &sources.Catalog{}
	tables := map[string]*table{}
	var keys []sources.ForeignKey
	for _, d := range s.specs {
		if err := ctx.Err(); err != nil {
			return nil, sources.WithOp("catalog", "", err)
		}
		t, rows, err := s.load(ctx, d)
		if err != nil {
			return nil, sources.WithOp("catalog", d.table, asInvalid(err))
		}
		tables[d.table] = t
		catalog.Tables = append(catalog.Tables, t.describe(rows))
		keys = append(keys, d.foreignKeys...)
	}
	// A pattern may select some files of a package whose foreign keys lead to others.
	if s.options.ByName {
		keys = append(keys, keysByName(catalog)...)
	}
	keys = slices.DeleteFunc(keys, func(k sources.ForeignKey) bool { return tables[k.TargetTable] == nil && s.declaredNames[k.TargetTable] })
	if err := catalog.CheckForeignKeys(s.options.ForeignKeys); err != nil {
		return nil, err
	}
	keys = append(keys, s.options.ForeignKeys...)
	if err := sources.Relate(catalog, keys); err != nil {
		return nil, sources.WithOp("catalog", "", err)
	}
	addLookups(catalog, tables)
	var err error
	if catalog.Identity, err = s.identity(tables); err != nil {
		return nil, sources.WithOp("catalog", "", err)
	}
	s.catalog, s.tables = catalog, tables
	return catalog, nil
}

// asInvalid returns an unclassified error as one of kind Invalid, unless it is one
// of the operating system.
func asInvalid(err error) error {
	if kind := sources.KindOf(err); kind != sources.Internal {
		return err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return err
	}
	return sources.NewError(sources.Invalid, "", "", err)
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
		Capabilities: t.capabilities(), Filters: t.filtersOf(),
	}
}

// load makes a table by reading the header of every file and a sample of the first.
// It returns an estimate of the rows, which is exact if the sample is the whole
// table, or -1.
func (s *source) load(ctx context.Context, d tableSpec) (*table, int64, error) {
	t := &table{tableSpec: d, skips: s.options.SkipBad}
	for _, name := range d.fileNames {
		f := tableFile{name: name, nameBytes: []byte(name)}
		if s.stdin != nil {
			f.onePass = s.stdin
		} else {
			info, err := fs.Stat(s.fsys, name)
			if err != nil {
				return nil, 0, err
			}
			if info.IsDir() {
				return nil, 0, fmt.Errorf("%s is a directory", name)
			}
			f.state, f.size = stateOf(info), info.Size()
		}
		t.files = append(t.files, f)
		t.identity += name + "\x00" + f.state.contents() + "\x00"
	}
	rows := int64(0)
	for i := range t.files {
		n, err := s.loadFile(ctx, t, i)
		if err != nil {
			return nil, 0, err
		}
		if rows += n; n < 0 || rows < 0 {
			rows = -1
		}
	}
	return t, rows, nil
}

// sampleMemory allocates memory for reading headers and samples, which belong to no
// stream. A record that is too large for it ends the sample without an error; the
// scan reads that record in memory of its own.
type sampleMemory struct{ memory.GoAllocator }

const maxSampleRecord = 4 << 20

// Allocate panics with an [*sources.Error] if n is too large for a sample.
func (m *sampleMemory) Allocate(n int) []byte {
	if n > maxSampleRecord+padding {
		panic(sources.Errorf(sources.Exhausted, "", "", "the sample is limited to records of %d bytes", maxSampleRecord))
	}
	return m.GoAllocator.Allocate(n)
}

// loadFile reads the header of a table's file, and for the first file the columns
// and a sample. It returns an estimate of the file's rows, or -1.
func (s *source) loadFile(ctx context.Context, t *table, i int) (rows int64, err error) {
	f := &t.files[i]
	input, err := s.openFile(ctx, f, t.dialect)
	if err != nil {
		return 0, err
	}
	defer input.Close()
	t.packed = t.packed || !input.seekable
	in := newScanner(input.reader, f.name, t.dialect, largestBuffer, &sampleMemory{})
	defer in.release()
	in.base = input.from
	if f.onePass != nil {
		in.lines = &lineCounter{}
	}
	defer func() {
		var at *ParseError
		if errors.As(err, &at) && !at.damaged {
			w := &recordReader{ctx: ctx, source: s, table: t, file: i, scanner: in}
			err = errors.Join(err, w.locate(at))
		}
	}()
	for range t.dialect.skip {
		if err := in.skipLine(); err != nil {
			return 0, err
		}
	}
	names, err := s.header(in, t)
	if err != nil {
		return 0, err
	}
	if f.start = in.offset(); t.columns == nil {
		t.columns = make([]column, len(names))
		for i, name := range names {
			t.columns[i] = column{name: name, missing: s.options.Null, inferred: 1}
		}
		t.inferred = true
	} else if err := t.checkHeader(f.name, names); err != nil {
		return 0, err
	}
	if i > 0 {
		if t.rowBytes == 0 || !input.seekable {
			return -1, nil
		}
		return (f.size - f.start) / t.rowBytes, nil
	}
	if t.width = len(t.columns); s.options.FileColumn != "" {
		if t.index(s.options.FileColumn) >= 0 {
			return 0, fileError(f.name, s.options.FileColumn, "the file already has a column %q: choose another name with filename=NAME", s.options.FileColumn)
		}
		t.columns = append(t.columns, column{name: s.options.FileColumn, kind: fileKind, required: true, source: "file name"})
	}
	for i := range t.columns {
		c := &t.columns[i]
		c.words = slices.ContainsFunc(c.missing, func(m string) bool { return m != "" })
	}
	in.blankIsRecord, in.columns = t.width == 1, t.width+1
	return s.sample(in, t, f, input.seekable)
}

// sample reads the first records and infers what the columns do not declare. It
// returns an estimate of the rows, or -1.
func (s *source) sample(in *scanner, t *table, f *tableFile, seekable bool) (int64, error) {
	guesses := make([]typeGuess, t.width)
	records, whole := 0, false
	for records < s.options.Sample {
		// An error in a record ends the sample. The scan reports it, since the records
		// before it and the other tables are good.
		more, err := in.next()
		if whole = !more && err == nil; whole || err != nil {
			break
		}
		if in.count != t.width {
			if s.options.SkipBad {
				continue
			}
			break
		}
		records++
		for i := range t.width {
			text, c := in.text(i), &t.columns[i]
			switch {
			case c.isNull(text, in.cells[i].quoted):
			case c.kind == decimalKind:
				guesses[i].places = max(guesses[i].places, c.places(text))
			case !s.options.Text || !t.inferred:
				guesses[i].add(text)
			}
		}
	}
	if t.inferred {
		for i := range t.width {
			guesses[i].apply(&t.columns[i])
			t.columns[i].inferred = max(records, 1)
		}
	} else {
		for _, i := range t.inferDetail {
			t.columns[i].inferDeclared(&guesses[i], records)
		}
	}
	rows := int64(records)
	if records > 0 {
		t.rowBytes = max(1, (in.offset()-f.start)/int64(records))
	}
	switch {
	case whole:
		return rows, nil
	case !seekable:
		return -1, nil
	}
	return max(rows, (f.size-f.start)/max(t.rowBytes, 1)), nil
}

// places returns how many decimal places a declared number has. It is 0 for text
// that is not a number, which the scan reports.
func (c *column) places(text []byte) int {
	mantissa, power, _ := bytes.Cut(bytes.ToLower(c.plain(text)), []byte{'e'})
	_, fraction, _ := bytes.Cut(mantissa, []byte{'.'})
	exponent := int64(0)
	if len(power) > 0 {
		n, ok := parseInteger(power)
		if !ok || n > maxPrecision || n < -maxPrecision {
			return 0
		}
		exponent = n
	}
	if len(bytes.Trim(fraction, "0123456789")) > 0 {
		return 0
	}
	return int(max(int64(len(fraction))-exponent, 0))
}

// inferDeclared infers what a declaration leaves open: the scale of a number, and
// whether a timestamp has a time zone.
func (c *column) inferDeclared(g *typeGuess, records int) {
	c.inferred = max(records, 1)
	switch c.kind {
	case decimalKind:
		c.scale = min(int32(g.places), c.precision())
	case localKind:
		if g.seen && g.candidates&mayLocal == 0 && g.candidates&mayInstant != 0 {
			c.kind = instantKind
		}
	}
}

// header reads the column names.
func (s *source) header(in *scanner, t *table) ([]string, error) {
	if !t.dialect.header {
		if t.columns != nil {
			return namesOf(t.columns), nil
		}
		return generatedNames(in)
	}
	more, err := in.next()
	if err != nil {
		return nil, err
	}
	if !more {
		if t.columns != nil {
			return namesOf(t.columns), nil
		}
		return nil, fileError(in.name, "", "the file is empty: it has no header")
	}
	if in.count > len(in.cells) {
		return nil, in.recordError(0, "", "the header has %d columns; at most %d are supported", in.count, maxColumns)
	}
	var names []string
	seen := map[string]bool{}
	for i := range in.cells {
		text, at := in.text(i), in.cells[i].begin()
		if bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
			return nil, in.recordError(at, "", "the header is not UTF-8 text: is this a CSV file?").with("set encoding=latin-1, windows-1252 or utf-16 if the file is not UTF-8")
		}
		name := string(text)
		if name == "" || seen[name] {
			if !s.options.Distinct {
				if name == "" {
					return nil, in.recordError(at, "", "column %d has no name", i+1).with("set names=distinct to give it one")
				}
				return nil, in.recordError(at, name, "duplicate column name %q", name).with("set names=distinct to number it")
			}
			name = uniqueName(name, i, seen)
		}
		seen[name] = true
		names = append(names, name)
	}
	return names, nil
}

// uniqueName returns a name that is not in seen.
func uniqueName(name string, i int, seen map[string]bool) string {
	if name == "" {
		name = fmt.Sprintf("column_%d", i+1)
	}
	for n, base := 2, name; seen[name]; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	return name
}

// generatedNames returns names for the columns of a file without a header. The
// scanner stays before the first record.
func generatedNames(in *scanner) ([]string, error) {
	more, err := in.next()
	if err != nil {
		return nil, err
	}
	if !more {
		return nil, fileError(in.name, "", "the file is empty: it has no columns")
	}
	in.from = int(in.start - in.base)
	names := make([]string, len(in.cells))
	for i := range names {
		names[i] = fmt.Sprintf("column_%d", i+1)
	}
	return names, nil
}

// index returns the index of the column of that name, which must exist.
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

// checkHeader returns an error if a file's header differs from the table's columns,
// which are declared or come from the first file.
func (t *table) checkHeader(file string, names []string) error {
	declared, by := namesOf(t.columns), packageFile+" declares"
	if t.inferred {
		by = t.files[0].name + " has"
	}
	if n := len(declared); n > 0 && t.columns[n-1].kind == fileKind {
		declared = declared[:n-1]
		if !t.dialect.header && len(names) > len(declared) {
			names = names[:n-1]
		}
	}
	if slices.Equal(names, declared) {
		return nil
	}
	for i, name := range names {
		if i >= len(declared) {
			return fileError(file, name, "column %d is %q, which is more than %s", i+1, name, by)
		}
		if name != declared[i] {
			return fileError(file, name, "column %d is %q, where %s %q", i+1, name, by, declared[i])
		}
	}
	return fileError(file, declared[len(names)], "no column %s, which %s", strings.Join(declared[len(names):], ", "), by)
}
