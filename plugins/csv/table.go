package csv

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	described
	files    []tableFile
	identity string // of its files when they were sampled
	width    int    // the fields of a record
	rowBytes int64  // of a record in the sample, on average
	packed   bool   // a file cannot be read from the middle
	skips    bool   // records that cannot be read are left out
}

// tableFile is one of a table's files.
type tableFile struct {
	name      string
	nameBytes []byte
	identity  string  // when it was sampled
	size      int64   // on the disk
	start     int64   // where the first record begins
	stream    *stream // instead of a file that can be opened; else nil
}

func (t *table) streams() bool { return t.files[0].stream != nil }

// resumes reports whether a scan can begin where another was.
func (t *table) resumes() bool { return !t.streams() }

func (t *table) can() sources.Capability {
	can := sources.CapProject | sources.CapLimit | sources.CapLogic
	if t.resumes() {
		can |= sources.CapResume | sources.CapStable
	}
	if t.divides() {
		can |= sources.CapPartition
	}
	return can
}

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
		t, rows, err := s.load(ctx, d)
		if err != nil {
			return nil, sources.WithOp("catalog", d.table, invalid(err))
		}
		tables[d.table] = t
		catalog.Tables = append(catalog.Tables, t.describe(rows))
		keys = append(keys, d.foreign...)
	}
	// Some of a package's files may refer to tables that were not opened with
	// them.
	if s.options.ByName {
		keys = append(keys, keysByName(catalog, keys)...)
	}
	keys = slices.DeleteFunc(keys, func(k sources.ForeignKey) bool { return tables[k.TargetTable] == nil && s.declared[k.TargetTable] })
	if err := sources.Relate(catalog, keys); err != nil {
		return nil, sources.WithOp("catalog", "", err)
	}
	addLookups(catalog, tables)
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
		Capabilities: t.can(), Filters: t.filtersOf(),
	}
}

// load reads the header of every file and the sample of the first. The estimate
// of the rows is exact where the sample is the whole table.
func (s *source) load(ctx context.Context, d described) (*table, int64, error) {
	t := &table{described: d, skips: s.options.SkipBad}
	for _, name := range d.names {
		f := tableFile{name: name, nameBytes: []byte(name)}
		if s.stdin != nil {
			f.stream, f.identity = s.stdin, "stdin"
		} else {
			info, err := fs.Stat(s.fsys, name)
			if err != nil {
				return nil, 0, err
			}
			if info.IsDir() {
				return nil, 0, fmt.Errorf("%s is a directory", name)
			}
			f.identity, f.size = identity(info), info.Size()
		}
		t.files = append(t.files, f)
		t.identity += name + "\x00" + f.identity + "\x00"
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

// sampleMemory is what a header and a sample are read with, which belong to no
// stream: a record that it cannot hold ends the sample, and is the scan's to read.
type sampleMemory struct{ memory.GoAllocator }

const mostSampled = 4 << 20

// Allocate refuses what is too large for a sample.
func (m *sampleMemory) Allocate(n int) []byte {
	if n > mostSampled+padding {
		panic(&sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("a sample holds records of %d bytes at most", mostSampled)})
	}
	return m.GoAllocator.Allocate(n)
}

// loadFile reads the header of one file, and what the table lacks: the columns
// of the first, and the sample of their values. It returns an estimate of the
// file's rows, -1 where there is none.
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
	if f.stream != nil {
		in.lines = &counter{}
	}
	defer func() {
		var at *fault
		if errors.As(err, &at) {
			w := &walk{ctx: ctx, source: s, table: t, file: i, scanner: in}
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
	} else if err := t.matches(f.name, names); err != nil {
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
			return 0, fmt.Errorf("%s: there is a column %q already: filename=NAME takes another", f.name, s.options.FileColumn)
		}
		t.columns = append(t.columns, column{name: s.options.FileColumn, kind: fileKind, required: true, source: "file name"})
	}
	for i := range t.columns {
		c := &t.columns[i]
		c.words = slices.ContainsFunc(c.missing, func(m string) bool { return m != "" })
	}
	in.blank, in.columns = t.width == 1, t.width+1
	return s.sample(in, t, f, input.seekable)
}

// sample reads the first records, and settles what they have to say.
func (s *source) sample(in *scanner, t *table, f *tableFile, seekable bool) (int64, error) {
	guesses := make([]guess, t.width)
	records, whole := 0, false
	for records < s.options.Sample {
		// A fault in a record is the scan's to tell: the other tables, and the
		// records before it, are good.
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

// places is how many decimals a declared number has; 0 for what is none, which
// is the scan's to tell.
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
		return unnamed(in)
	}
	more, err := in.next()
	if err != nil {
		return nil, err
	}
	if !more {
		if t.columns != nil {
			return namesOf(t.columns), nil
		}
		return nil, errors.New(in.name + ": the file is empty: it has no header")
	}
	if in.count > len(in.cells) {
		return nil, in.wrong(0, "the header has %d columns, more than the %d that are read", in.count, maxColumns)
	}
	var names []string
	seen := map[string]bool{}
	for i := range in.cells {
		text, at := in.text(i), in.cells[i].begin()
		if bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
			return nil, in.wrong(at, "the header is not text in UTF-8: is this a CSV file?").with("encoding=latin-1, windows-1252 or utf-16 reads others")
		}
		name := string(text)
		if name == "" || seen[name] {
			if !s.options.Distinct {
				if name == "" {
					return nil, in.wrong(at, "column %d has no name", i+1).with("names=distinct gives it one")
				}
				return nil, in.wrong(at, "the column name %q is there twice", name).with("names=distinct gives it a number")
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

// unnamed counts the fields of the first record of a file without a header, and
// goes back to it.
func unnamed(in *scanner) ([]string, error) {
	more, err := in.next()
	if err != nil {
		return nil, err
	}
	if !more {
		return nil, errors.New(in.name + ": the file is empty: it has no columns")
	}
	in.from = int(in.start - in.base)
	names := make([]string, len(in.cells))
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

// matches holds a file's header against the columns that are known, from the
// package or from the first file.
func (t *table) matches(file string, names []string) error {
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
			return fmt.Errorf("%s: column %d is %q, which is more than %s", file, i+1, name, by)
		}
		if name != declared[i] {
			return fmt.Errorf("%s: column %d is %q, where %s %q", file, i+1, name, by, declared[i])
		}
	}
	return fmt.Errorf("%s: there is no column %s, which %s", file, strings.Join(declared[len(names):], ", "), by)
}

// version names the state of a table's files, and adds up their sizes.
func (s *source) version(t *table) (version string, size int64, err error) {
	if t.streams() {
		return "", -1, nil
	}
	var b strings.Builder
	for _, f := range t.files {
		info, err := fs.Stat(s.fsys, f.name)
		if err != nil {
			return "", 0, err
		}
		size += info.Size()
		fmt.Fprintf(&b, "%s-%s;", f.name, identity(info))
	}
	if version = b.String(); len(version) > 200 {
		version = fmt.Sprintf("%d files, %x", len(t.files), sha256.Sum256([]byte(version)))
	}
	return version, size, nil
}
