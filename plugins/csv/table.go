package csv

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// table is a table whose columns are known.
type table struct {
	tableSpec
	files    []tableFile
	indexes  map[string]int // of columns, by their names
	identity string         // of its files when the catalog was made
	width    int            // the number of columns that the files have
	rows     int64          // an estimate, or -1
	rowBytes int64          // the average size of a record in the sample
	packed   bool           // some file cannot be read from the middle
	skips    bool           // unreadable records are left out
}

// tableFile is one of a table's files.
type tableFile struct {
	name      string
	nameBytes []byte
	state     fileState     // when the catalog was made
	size      int64         // on disk
	start     int64         // the offset of the first record
	width     int           // the number of fields of a record
	fields    []int32       // for each of the table's columns in files, its field or -1; nil if they are the same
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

// mayFail reports whether the error of one table leaves the others readable. What may be
// over soon fails the catalog, which is then read again.
func mayFail(err error) bool {
	switch sources.KindOf(err) {
	case sources.Invalid, sources.NotFound, sources.Denied:
		return true
	}
	return false
}

// reasonOf returns the text of an error without its kind.
func reasonOf(err error) string {
	if e, ok := err.(*sources.Error); ok && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

// asInvalid returns an unclassified error as one of kind Invalid, unless it is one
// of the operating system; see [systemError].
func asInvalid(err error) error {
	if err == nil {
		return nil
	}
	if err = systemError(err); sources.KindOf(err) != sources.Internal {
		return err
	}
	return sources.NewError(sources.Invalid, "", "", err)
}

func (t *table) describe() sources.Table {
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
		Name: t.table, Schema: arrow.NewSchema(fields, nil), Key: t.key, Unique: slices.Clip(t.unique), Comment: t.comment, Rows: t.rows,
		Capabilities: t.capabilities(), Filters: t.filtersOf(),
	}
}

// header reads the column names.
func (s *source) header(in *scanner, t *table) ([]string, error) {
	if !t.dialect.header {
		if t.columns != nil && !s.unites(t) {
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
	if err := s.checkDelimiter(in, t); err != nil {
		return nil, err
	}
	var names []string
	seen, next := map[string]bool{}, map[string]int{}
	for i := range in.cells {
		text, at := in.text(i), in.cells[i].begin()
		if bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
			e := in.recordError(at, "", "the header is not UTF-8 text: is this a CSV file?")
			e.wrongEncoding = true
			return nil, e
		}
		name := string(text)
		if name == "" || seen[name] {
			if !s.options.Distinct {
				if name == "" {
					return nil, in.recordError(at, "", "column %d has no name", i+1).with("set names=distinct to give it one")
				}
				return nil, in.recordError(at, name, "duplicate column name %q", name).with("set names=distinct to number it")
			}
			name = uniqueName(name, i, seen, next)
		}
		seen[name] = true
		names = append(names, name)
	}
	return names, nil
}

// uniqueName returns a name that is not in seen. next has the first number to try for each
// name, so that many equal names take no longer than others.
func uniqueName(name string, i int, seen map[string]bool, next map[string]int) string {
	if name == "" {
		name = fmt.Sprintf("column_%d", i+1)
	}
	for n, base := max(next[name], 2), name; seen[name]; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
		next[base] = n + 1
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
