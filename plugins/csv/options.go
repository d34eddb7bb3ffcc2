package csv

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-data/penstock/sources"
)

// Options configures how files are read that no datapackage.json describes. The
// zero value reads RFC 4180 files in UTF-8 with a header.
type Options struct {
	Delimiter byte   // separates fields; 0 means a comma, or a tab in .tsv files
	Quote     byte   // encloses fields; 0 means "
	NoQuote   bool   // quotes are ordinary characters
	Escape    byte   // makes the next byte an ordinary character; 0 means no escape character
	Comment   byte   // begins a line that is skipped; 0 means no comments
	NoHeader  bool   // the first record is data; columns are named column_1, column_2, ...
	Skip      int    // lines before the header
	Encoding  string // utf-8, utf-16, utf-16le, utf-16be, latin-1 or windows-1252; empty means UTF-8, or what a byte order mark says
	// Compression is gzip, zstd or none. Empty means that the file's first bytes
	// determine it.
	Compression string
	Null        []string // further texts that mean NULL
	Distinct    bool     // empty and repeated column names are made unique; otherwise they are errors
	// Sample is the number of records at the beginning of each file from which types are
	// inferred. 0 means all records of a file of up to 64 MiB, parts of a larger one, and
	// the first 1000 of standard input. [AllRecords] means all records of any file.
	Sample   int
	Text     bool   // undeclared columns are text; otherwise their types are inferred
	SkipBad  bool   // unreadable records are counted and left out; otherwise they are errors
	MaxField int64  // the largest field in bytes; 0 means 64 MiB
	Table    string // reads all files as one table of this name; empty means one table for each file
	// Union lets the files of Table have different columns, in any order: the table has
	// all of them, and NULL where a file lacks one. Otherwise that is an error.
	Union      bool
	FileColumn string // adds a column of this name that holds the file's name; empty means no such column
	// ByName derives foreign keys from column names: customer_id refers to
	// customers.id or customer.id.
	ByName bool
	// ForeignKeys are keys besides those that a datapackage.json declares.
	ForeignKeys []sources.ForeignKey
	// Index is a directory in which key indexes are stored for other processes and
	// later runs. Empty means that they are kept in memory while the source is open.
	Index string
}

// option is one key of Config.Options.
type option struct {
	name string
	set  func(o *Options, value string) error
}

// options is sorted by name.
var options = []option{
	{"comment", func(o *Options, v string) (err error) { o.Comment, err = parseChar(v); return }},
	{"compression", func(o *Options, v string) error { _, err := parseCompression(v); o.Compression = v; return err }},
	{"delimiter", func(o *Options, v string) (err error) { o.Delimiter, err = parseChar(v); return }},
	{"encoding", func(o *Options, v string) error { _, err := parseEncoding(v); o.Encoding = v; return err }},
	{"escape", func(o *Options, v string) (err error) { o.Escape, err = parseChar(v); return }},
	{"filename", func(o *Options, v string) error { o.FileColumn = v; return expectText(v, "the name of a column") }},
	{"header", func(o *Options, v string) error {
		header, err := strconv.ParseBool(v)
		o.NoHeader = !header
		return expect(err == nil, "true or false")
	}},
	{"index", func(o *Options, v string) error { o.Index = v; return expectText(v, "a directory") }},
	{"max_field", func(o *Options, v string) (err error) {
		o.MaxField, err = strconv.ParseInt(v, 10, 64)
		return expect(err == nil && o.MaxField > 0 && o.MaxField <= largestField, fmt.Sprintf("a number of bytes from 1 to %d", largestField))
	}},
	{"names", func(o *Options, v string) error {
		o.Distinct = v == "distinct"
		return expectOneOf(v, "strict", "distinct")
	}},
	{"null", func(o *Options, v string) error { o.Null = strings.Split(v, "\n"); return nil }},
	{"on_error", func(o *Options, v string) error { o.SkipBad = v == "skip"; return expectOneOf(v, "fail", "skip") }},
	{"quote", func(o *Options, v string) (err error) {
		if o.NoQuote = isNone(v); !o.NoQuote {
			o.Quote, err = parseChar(v)
		}
		return err
	}},
	{"relation", func(o *Options, v string) (err error) { o.ForeignKeys, err = sources.ParseForeignKeys(v); return err }},
	{"relations", func(o *Options, v string) error { o.ByName = v == "names"; return expectOneOf(v, "declared", "names") }},
	{"sample", func(o *Options, v string) (err error) {
		if o.Sample = AllRecords; v != "all" {
			o.Sample, err = strconv.Atoi(v)
		}
		return expect(v == "all" || err == nil && o.Sample > 0 && o.Sample <= 1_000_000, "a number of records from 1 to 1000000, or all")
	}},
	{"skip", func(o *Options, v string) (err error) {
		o.Skip, err = strconv.Atoi(v)
		return expect(err == nil && o.Skip >= 0 && o.Skip <= 1_000_000, "a number of lines from 0 to 1000000")
	}},
	{"table", func(o *Options, v string) error { o.Table = v; return expectText(v, "the name of a table") }},
	{"types", func(o *Options, v string) error { o.Text = v == "text"; return expectOneOf(v, "infer", "text") }},
	{"union", func(o *Options, v string) error { o.Union = v == "names"; return expectOneOf(v, "strict", "names") }},
}

func expect(ok bool, what string) error {
	if ok {
		return nil
	}
	return errors.New("want " + what)
}

func expectText(v, what string) error { return expect(v != "", what) }

func expectOneOf(v, a, b string) error { return expect(v == a || v == b, a+" or "+b) }

// parseOptions parses the options of a configuration. Its error lists every fault.
func parseOptions(given map[string]string) (o Options, err error) {
	var faults []error
	names := make([]string, len(options))
	for i := range options {
		names[i] = options[i].name
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		fault := errors.New("there is no such option" + sources.Suggest(key, names))
		if hasTableExtension(key) || strings.ContainsAny(key, "/*") {
			fault = errors.New("there is no such option: write %3F for a question mark in the name of a file")
		}
		if i := slices.Index(names, key); i >= 0 {
			fault = options[i].set(&o, given[key])
		}
		if fault != nil {
			faults = append(faults, fmt.Errorf("option %q: %w", key, fault))
		}
	}
	return o, errors.Join(faults...)
}

// dialect returns the dialect that the options describe.
func (o *Options) dialect() (d dialect, err error) {
	d = rfc4180
	if o.Delimiter != 0 {
		d.delimiter = o.Delimiter
	}
	if o.Quote != 0 {
		d.quote = o.Quote
	}
	if o.NoQuote {
		d.quote = 0
	}
	if o.MaxField != 0 {
		d.maxField = o.MaxField
	}
	d.escape, d.comment, d.header, d.skip = o.Escape, o.Comment, !o.NoHeader, o.Skip
	var faults []error
	d.encoding, err = parseEncoding(o.Encoding)
	faults = append(faults, err)
	d.compression, err = parseCompression(o.Compression)
	faults = append(faults, err)
	return d, errors.Join(append(faults, d.conflict()...)...)
}
