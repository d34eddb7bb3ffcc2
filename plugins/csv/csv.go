// Package csv implements a source of CSV files: a directory, a single file, the
// files that match a pattern, or standard input. Each file is a table.
//
// Files follow RFC 4180. They are UTF-8 unless a byte order mark or an option
// names another encoding, and may be compressed with gzip or zstd. An empty field
// is NULL; a quoted empty field is the empty string.
//
// A datapackage.json beside the files (a Frictionless Data Package) declares
// types, keys and relations. Undeclared types are inferred from all records of a file
// of up to 64 MiB, and from the beginning, the end and blocks between them of a larger
// one; of standard input and larger compressed files only from the beginning. Inference
// is conservative: values with leading zeros stay text, and a later value that does not
// fit the inferred type is a [ParseError] with its file, line and column. No value is ever
// changed to fit.
//
// Of the field types of a data package, number becomes a decimal with the scale
// of the property "scale", or by default the largest scale that inference finds; with
// the format "float" it becomes a 64-bit float. A datetime becomes a timestamp,
// with a time zone if its values have one. The types object, array,
// geopoint, geojson, duration and yearmonth become text.
package csv

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/penstock-data/penstock/sources"
)

// Open opens a directory, a file, or a pattern of files in one directory such as
// data/*.csv. The URI "-" is standard input, which can be read once. In a
// directory, Open reads the files whose names end in .csv or .tsv, with or without
// .gz or .zst after it, and the files that its datapackage.json names. In a name that
// does not exist as it is written, %3F and %25 stand for a question mark and a percent
// sign.
//
// The keys of c.Options set the fields of [Options]:
//
//	delimiter, quote,   a character, tab, or \xHH; quote=none turns quoting off
//	escape, comment
//	header              true or false: whether the first record names the columns
//	skip                the number of lines before the header
//	names               strict or distinct: whether empty and repeated column names
//	                    are errors or are made unique
//	encoding            see [Options]
//	compression         gzip, zstd, none or auto
//	null                a further text that means NULL; separate several by newlines
//	types               infer or text
//	sample              the number of records from which types are inferred, or all;
//	                    see [Options]
//	on_error            fail or skip: whether an unreadable record ends the scan
//	max_field           the largest field, in bytes
//	table               reads all files as one table of this name
//	union               strict or names: whether the files of that table must have the
//	                    same columns, or those that a file lacks are NULL
//	filename            adds a column of this name that holds the file's name
//	relation            a foreign key that no package declares, as in
//	                    payment.rental_id->rental.rental_id; separate several by
//	                    newlines; see [sources.ParseForeignKeys]
//	relations           declared or names: whether foreign keys are also derived
//	                    from column names
//	index               a directory for key indexes
func Open(_ context.Context, c sources.Config) (sources.Source, error) {
	s, err := open(c)
	if err != nil {
		return nil, sources.WithOp("open", "", err)
	}
	return s, nil
}

func open(c sources.Config) (sources.Source, error) {
	o, err := parseOptions(c.Options)
	if err != nil {
		return nil, sources.NewError(sources.Invalid, "", "", err)
	}
	switch c.URI {
	case "":
		return nil, sources.Errorf(sources.Invalid, "", "", "the URI is empty: write csv:DIR, csv:FILE or csv:-")
	case "-":
		return newStdinSource(os.Stdin, o)
	}
	info, err := os.Stat(c.URI)
	if errors.Is(err, fs.ErrNotExist) {
		// A question mark in the URI of a host begins the options, unless it is escaped.
		if name, bad := url.PathUnescape(c.URI); bad == nil && name != c.URI {
			c.URI = name
			info, err = os.Stat(name)
		}
	}
	dir, pattern := c.URI, ""
	switch {
	case err == nil && info.IsDir():
	case err == nil, errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(filepath.Base(c.URI), "*?["):
		dir, pattern = filepath.Dir(c.URI), filepath.Base(c.URI)
		if err == nil {
			pattern = escapePattern(pattern)
		}
	default:
		return nil, err
	}
	// A root keeps links, and the paths in a package, inside the directory.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s, err := newSource(rootFS{root.FS(), root}, pattern, o)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	s.root, s.where = root, directory(root)
	if len(s.specs) == 0 {
		_ = root.Close() // nothing was written
		return nil, sources.Errorf(sources.NotFound, "", "", "%s: no CSV files found", c.URI)
	}
	return s, nil
}

// escapePattern returns a pattern that matches only the name.
func escapePattern(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// New returns a source of the files in the top directory of fsys whose names end
// in .csv or .tsv, and of the files that its datapackage.json names. The file
// system must be safe for concurrent use. Its files should implement io.Seeker;
// otherwise a scan that resumes reads its file from the start.
func New(fsys fs.FS, o Options) (sources.Source, error) {
	s, err := newSource(fsys, "", o)
	if err != nil {
		return nil, sources.WithOp("open", "", err)
	}
	return s, nil
}

// source implements sources.Source.
type source struct {
	fsys    fs.FS
	root    *os.Root      // below which fsys is; nil where the caller made fsys
	stdin   *onePassInput // instead of fsys; nil where there are files
	options Options
	// declared is the hash of the package, and where the directory to which the path
	// led; empty where the caller made fsys.
	declared []byte
	where    string
	specs    []tableSpec // what is known of each table, in the order of their names
	// declaredNames are the tables of the package, whether or not they are opened.
	declaredNames map[string]bool

	indexes indexCache
	quotes  quoteParity
	// sampleBytes is [sampleBytes], except in tests.
	sampleBytes int64

	mu      sync.Mutex
	catalog *sources.Catalog  // of the tables; replaced, never modified
	tables  map[string]*table // that were asked for; replaced, never modified
	// unreadable has those that were asked for and cannot be read; replaced, never modified.
	unreadable map[string]*sources.TableError
}

// newBareSource returns a source without files, and the dialect of its options.
func newBareSource(o Options) (*source, dialect, error) {
	d, err := o.dialect()
	if err != nil {
		return nil, d, sources.NewError(sources.Invalid, "", "", err)
	}
	if o.Union && o.Table == "" {
		return nil, d, sources.Errorf(sources.Invalid, "", "", `option "union": it needs table=NAME, which reads all files as one table`)
	}
	return &source{options: o, sampleBytes: sampleBytes, tables: map[string]*table{}, unreadable: map[string]*sources.TableError{}, declaredNames: map[string]bool{}}, d, nil
}

// newSource returns a source of the files in the top directory that match the
// pattern. An empty pattern stands for all CSV files there and those that the
// package names.
func newSource(fsys fs.FS, pattern string, o Options) (*source, error) {
	s, standard, err := newBareSource(o)
	if err != nil {
		return nil, err
	}
	s.fsys = fsys
	sum := sha256.New()
	declared, err := readPackage(declarations{fsys, sum}, standard)
	s.declared = sum.Sum(nil)
	if err != nil {
		kind := sources.KindOf(err)
		if kind == sources.Internal {
			kind = sources.Invalid
		}
		return nil, sources.NewError(kind, "", "", err)
	}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, sources.Errorf(sources.Invalid, "", "", "%s: %w", pattern, err)
	}
	wanted := func(file string) bool {
		ok, _ := path.Match(pattern, file) // the pattern was checked above
		return ok || pattern == ""
	}
	taken := map[string]bool{}
	for _, d := range declared {
		s.declaredNames[d.table] = true
		for _, name := range d.fileNames {
			taken[name] = true
		}
		if slices.ContainsFunc(d.fileNames, wanted) && o.Table == "" {
			s.specs = append(s.specs, d)
		}
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || taken[name] && o.Table == "" || pattern == "" && !hasTableExtension(name) || !wanted(name) || name == packageFile {
			continue
		}
		if err := s.add(name, standard); err != nil {
			return nil, sources.NewError(sources.Invalid, "", "", err)
		}
	}
	slices.SortFunc(s.specs, func(a, b tableSpec) int { return strings.Compare(a.table, b.table) })
	return s, nil
}

// add adds a file as a table, or to the single table that Options.Table asks for.
func (s *source) add(name string, standard dialect) error {
	d := tableSpec{table: tableName(name), fileNames: []string{name}, dialect: standard}
	if base, _ := unpackedName(name); strings.EqualFold(path.Ext(base), ".tsv") && s.options.Delimiter == 0 {
		d.dialect.delimiter = '\t'
	}
	if s.options.Table != "" {
		d.table = s.options.Table
		if len(s.specs) > 0 {
			s.specs[0].fileNames = append(s.specs[0].fileNames, name)
			return nil
		}
	}
	if slices.ContainsFunc(s.specs, func(f tableSpec) bool { return f.table == d.table }) {
		return fmt.Errorf("%s: duplicate table %q; set table=NAME to read all files as one table", name, d.table)
	}
	s.specs = append(s.specs, d)
	return nil
}

// unpackedName returns a file's name without .gz or .zst, and whether it had one.
func unpackedName(file string) (string, bool) {
	ext := path.Ext(file)
	if (strings.EqualFold(ext, ".gz") || strings.EqualFold(ext, ".zst")) && ext != path.Base(file) {
		return strings.TrimSuffix(file, ext), true
	}
	return file, false
}

// hasTableExtension reports whether a file's name is that of a CSV file.
func hasTableExtension(file string) bool {
	name, _ := unpackedName(file)
	ext := path.Ext(name)
	return strings.EqualFold(ext, ".csv") || strings.EqualFold(ext, ".tsv")
}

// tableName returns the name of the table in a file: the file's name without the
// extensions for its format and compression, unless nothing else would remain.
func tableName(file string) string {
	base, _ := unpackedName(path.Base(file))
	if ext := path.Ext(base); ext != base && (hasTableExtension(base) || strings.EqualFold(ext, ".txt")) {
		return strings.TrimSuffix(base, ext)
	}
	return base
}

// Close closes the directory. Files are open only while a scan reads them.
func (s *source) Close() error {
	if s.root == nil {
		return nil
	}
	return s.root.Close()
}
