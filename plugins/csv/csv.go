// Package csv is the CSV source: a directory of CSV files, one file, or those
// that match a pattern. Tables are files.
//
// A datapackage.json beside the files (Frictionless Data Package) declares
// types, keys and relations. What is not declared is inferred from the first
// records, conservatively: leading zeros stay text, and a value that does not
// fit later is an error that names its file, line and column, never a changed
// value. Files are UTF-8 and as RFC 4180 says: an unquoted field without text is
// NULL, a quoted one is the empty text.
//
// Of a datapackage's field types, number becomes a decimal whose scale is the
// property "scale" or else the largest in the sample; datetime becomes a
// timestamp with a zone where the sample's values have one; object, array,
// geopoint, geojson, duration and yearmonth stay text.
package csv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/penstock-data/penstock/sources"
)

// Options are how files are read that no datapackage.json describes. The zero
// value is RFC 4180 with a header.
type Options struct {
	Delimiter byte   // between fields; 0 is a comma
	Comment   byte   // begins a line that is skipped; 0: none does
	NoHeader  bool   // the first record is data, and columns are column_1, column_2, ...
	Null      string // a further text that stands for NULL
	Distinct  bool   // empty and repeated names in a header get a number, instead of an error
	Sample    int    // records to infer types from; 0 is 1000
}

const defaultSample = 1000

var optionNames = []string{"comment", "delimiter", "header", "names", "null", "sample"}

// parseOptions reads the options of a URI.
func parseOptions(given map[string]string) (o Options, err error) {
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value, fault := given[key], error(nil)
		switch key {
		case "comment", "delimiter":
			if value == `\t` || value == "tab" {
				value = "\t"
			}
			if len(value) != 1 || value[0] >= 0x80 || value == "\n" || value == "\r" {
				fault = errors.New(`want one ASCII character, or "tab"`)
			} else if key == "comment" {
				o.Comment = value[0]
			} else {
				o.Delimiter = value[0]
			}
		case "header":
			var header bool
			if header, fault = strconv.ParseBool(value); fault != nil {
				fault = errors.New("want true or false")
			}
			o.NoHeader = !header
		case "names":
			if o.Distinct = value == "distinct"; !o.Distinct && value != "strict" {
				fault = errors.New("want strict or distinct")
			}
		case "null":
			o.Null = value
		case "sample":
			if o.Sample, fault = strconv.Atoi(value); fault != nil || o.Sample < 1 || o.Sample > 1_000_000 {
				fault = errors.New("want a number of records from 1 to 1000000")
			}
		default:
			fault = errors.New("there is no such option" + sources.Nearest(key, optionNames))
		}
		if fault != nil {
			faults = append(faults, fmt.Errorf("option %q: %w", key, fault))
		}
	}
	return o, errors.Join(faults...)
}

func (o Options) dialect() dialect {
	d := standard
	if o.Delimiter != 0 {
		d.delimiter = o.Delimiter
	}
	d.comment, d.header = o.Comment, !o.NoHeader
	return d
}

// Open opens a directory, a file, or a pattern of files in one directory, as in
// data/*.csv. The options are delimiter and comment (a character, or tab),
// header (true or false), names (strict, or distinct for headers with empty or
// repeated names), null (a further text for NULL), and sample (how many records
// types are inferred from).
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
	if c.URI == "" {
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.New("no directory or file is named: write csv:DIR or csv:FILE")}
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

// New makes a source of a file system: of its files that end in .csv, and those
// that its datapackage.json names. The file system must be safe for concurrent
// use. Files should be seekable, or a scan that resumes reads from the start.
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
	options Options
	files   []described // what is known of each file, in the order of tables
	// declared are the tables of the package, whether or not they are opened.
	declared map[string]bool

	shelf shelf

	mu      sync.Mutex
	catalog *sources.Catalog
	tables  map[string]*table
}

// table is a file whose columns are known.
type table struct {
	described
	identity string // of the file when it was sampled
	start    int64  // where the first record begins
	line     int    // of the first record
	rowBytes int64  // of a record in the sample, on average
}

// newSource finds the files: those of the pattern, or with an empty one all of
// the top folder and what the package names.
func newSource(fsys fs.FS, pattern string, o Options) (*source, error) {
	if o.Sample == 0 {
		o.Sample = defaultSample
	}
	if faults := o.dialect().conflict(); faults != nil {
		return nil, &sources.Error{Kind: sources.Invalid, Err: errors.Join(faults...)}
	}
	s := &source{fsys: fsys, options: o, tables: map[string]*table{}, declared: map[string]bool{}}
	declared, err := readPackage(fsys, o.dialect())
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
		if taken[d.file] = true; wanted(d.file) {
			s.files = append(s.files, d)
		}
	}
	for _, e := range entries {
		name := e.Name()
		isCSV := strings.EqualFold(filepath.Ext(name), ".csv") || pattern != ""
		if e.IsDir() || taken[name] || !isCSV || !wanted(name) || name == packageFile {
			continue
		}
		d := described{table: tableName(name), file: name, dialect: o.dialect()}
		if slices.ContainsFunc(s.files, func(f described) bool { return f.table == d.table }) {
			return nil, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("%s: there is already a table %q", name, d.table)}
		}
		s.files = append(s.files, d)
	}
	slices.SortFunc(s.files, func(a, b described) int { return strings.Compare(a.table, b.table) })
	return s, nil
}

// Close gives the directory back. Files are open only while they are read.
func (s *source) Close() error {
	if s.root == nil {
		return nil
	}
	return s.root.Close()
}
