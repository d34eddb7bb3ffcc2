// Package csv is the CSV source: a directory of CSV files, one file, those that
// match a pattern, or standard input. Tables are files.
//
// A datapackage.json beside the files (Frictionless Data Package) declares
// types, keys and relations. What is not declared is inferred from the first
// records, conservatively: leading zeros stay text, and a value that does not
// fit later is an error that names its file, line and column, never a changed
// value. Files are as RFC 4180 says, in UTF-8 or what a mark or an option names,
// and may be packed with gzip or zstd: an unquoted field without text is NULL, a
// quoted one is the empty text.
//
// Of a datapackage's field types, number becomes a decimal whose scale is the
// property "scale" or else the largest in the sample, or with the format "float"
// a float of 64 bits; datetime becomes a timestamp with a zone where the
// sample's values have one; object, array, geopoint, geojson, duration and
// yearmonth stay text.
package csv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/penstock-data/penstock/sources"
)

// Open opens a directory, a file, or a pattern of files in one directory, as in
// data/*.csv; - is standard input, which can be read once. Of a directory the
// files .csv and .tsv are read, also with .gz or .zst behind that, and what its
// datapackage.json names.
//
// The options are those of [Options]: delimiter, quote, escape and comment (a
// character, tab, or \xHH; quote=none), header (true or false), skip (lines
// before the header), names (strict, or distinct for headers with empty or
// repeated names), encoding, compression, null (a further text for NULL; several
// are on lines), types (infer or text), sample (how many records types are
// inferred from), on_error (fail or skip), max_field (in bytes), table (all files
// are one table of that name), filename (a column that has the file's name),
// relations (declared, or names for foreign keys by the names of columns) and
// index (a directory for key indexes).
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
		return nil, &sources.Error{Kind: sources.Invalid, Err: err}
	}
	switch c.URI {
	case "":
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.New("no directory or file is named: write csv:DIR, csv:FILE or csv:-")}
	case "-":
		return newStream(os.Stdin, o)
	}
	info, err := os.Stat(c.URI)
	dir, pattern := c.URI, ""
	switch {
	case err == nil && info.IsDir():
	case err == nil, errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(filepath.Base(c.URI), "*?["):
		dir, pattern = filepath.Dir(c.URI), filepath.Base(c.URI)
		if err == nil {
			pattern = escape(pattern)
		}
	default:
		return nil, err
	}
	// Below a root no link and no path of a package leads out of the directory.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s, err := newSource(root.FS(), pattern, o)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	s.root = root
	if len(s.files) == 0 {
		_ = root.Close() // nothing was written
		return nil, &sources.Error{Kind: sources.NotFound, Err: fmt.Errorf("%s: there is no CSV file", c.URI)}
	}
	return s, nil
}

// escape makes a pattern that matches one name only.
func escape(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// New makes a source of a file system: of its files that end in .csv or .tsv,
// and those that its datapackage.json names. The file system must be safe for
// concurrent use. Files should be seekable, or a scan that resumes reads from
// the start.
func New(fsys fs.FS, o Options) (sources.Source, error) {
	s, err := newSource(fsys, "", o)
	if err != nil {
		return nil, sources.WithOp("open", "", err)
	}
	return s, nil
}

// source is a set of files.
type source struct {
	fsys    fs.FS
	root    *os.Root // below which fsys is; nil where the caller made fsys
	stdin   *stream  // instead of fsys; nil where there are files
	options Options
	files   []described // what is known of each table, in the order of their names
	// declared are the tables of the package, whether or not they are opened.
	declared map[string]bool

	shelf  shelf
	parity parity

	mu      sync.Mutex
	catalog *sources.Catalog
	tables  map[string]*table
}

// bare makes a source without files.
func bare(o Options) (*source, dialect, error) {
	if o.Sample == 0 {
		o.Sample = defaultSample
	}
	d, err := o.dialect()
	if err != nil {
		return nil, d, &sources.Error{Kind: sources.Invalid, Err: err}
	}
	return &source{options: o, tables: map[string]*table{}, declared: map[string]bool{}}, d, nil
}

// newSource finds the files: those of the pattern, or with an empty one all of
// the top folder and what the package names.
func newSource(fsys fs.FS, pattern string, o Options) (*source, error) {
	s, standard, err := bare(o)
	if err != nil {
		return nil, err
	}
	s.fsys = fsys
	declared, err := readPackage(fsys, standard)
	if err != nil {
		kind := sources.KindOf(err)
		if kind == sources.Internal {
			kind = sources.Invalid
		}
		return nil, &sources.Error{Kind: kind, Err: err}
	}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%s: %w", pattern, err)}
	}
	wanted := func(file string) bool {
		ok, _ := path.Match(pattern, file) // the pattern is good
		return ok || pattern == ""
	}
	taken := map[string]bool{}
	for _, d := range declared {
		s.declared[d.table] = true
		for _, name := range d.names {
			taken[name] = true
		}
		if slices.ContainsFunc(d.names, wanted) && o.Table == "" {
			s.files = append(s.files, d)
		}
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || taken[name] && o.Table == "" || pattern == "" && !isTable(name) || !wanted(name) || name == packageFile {
			continue
		}
		if err := s.add(name, standard); err != nil {
			return nil, &sources.Error{Kind: sources.Invalid, Err: err}
		}
	}
	slices.SortFunc(s.files, func(a, b described) int { return strings.Compare(a.table, b.table) })
	return s, nil
}

// add makes a table of a file, or the file a part of the one table.
func (s *source) add(name string, standard dialect) error {
	d := described{table: tableName(name), names: []string{name}, dialect: standard}
	if base, _ := unpackedName(name); strings.EqualFold(path.Ext(base), ".tsv") && s.options.Delimiter == 0 {
		d.dialect.delimiter = '\t'
	}
	if s.options.Table != "" {
		d.table = s.options.Table
		if len(s.files) > 0 {
			s.files[0].names = append(s.files[0].names, name)
			return nil
		}
	}
	if slices.ContainsFunc(s.files, func(f described) bool { return f.table == d.table }) {
		return fmt.Errorf("%s: there is already a table %q; table=NAME makes one table of all files", name, d.table)
	}
	s.files = append(s.files, d)
	return nil
}

// unpackedName is a file's name without .gz and .zst, and whether it had one.
func unpackedName(file string) (string, bool) {
	ext := path.Ext(file)
	if (strings.EqualFold(ext, ".gz") || strings.EqualFold(ext, ".zst")) && ext != path.Base(file) {
		return strings.TrimSuffix(file, ext), true
	}
	return file, false
}

// isTable reports whether a file of a directory is a table by its name.
func isTable(file string) bool {
	name, _ := unpackedName(file)
	ext := path.Ext(name)
	return strings.EqualFold(ext, ".csv") || strings.EqualFold(ext, ".tsv")
}

// tableName is the name of the table in a file: the file's own without what says
// how it is written, where that leaves a name.
func tableName(file string) string {
	base, _ := unpackedName(path.Base(file))
	if ext := path.Ext(base); ext != base && (isTable(base) || strings.EqualFold(ext, ".txt")) {
		return strings.TrimSuffix(base, ext)
	}
	return base
}

// Close gives the directory back. Files are open only while they are read.
func (s *source) Close() error {
	if s.root == nil {
		return nil
	}
	return s.root.Close()
}
