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

// Options are how files are read that no datapackage.json describes. The zero
// value is RFC 4180 with a header, in UTF-8.
type Options struct {
	Delimiter byte   // between fields; 0 is a comma, in a file .tsv a tab
	Quote     byte   // around fields; 0 is "
	NoQuote   bool   // quotes are read as they stand
	Escape    byte   // takes the meaning from the byte behind it; 0: none does
	Comment   byte   // begins a line that is skipped; 0: none does
	NoHeader  bool   // the first record is data, and columns are column_1, column_2, ...
	Skip      int    // lines before the header
	Encoding  string // utf-8, utf-16, utf-16le, utf-16be, latin-1 or windows-1252; empty: a mark says, else UTF-8
	// Compression is gzip, zstd or none; empty: the file's first bytes say.
	Compression string
	Null        []string // further texts that stand for NULL
	Distinct    bool     // empty and repeated names in a header get a number, instead of an error
	Sample      int      // records to infer types from; 0 is 1000
	Text        bool     // nothing is inferred: what is not declared is text
	SkipBad     bool     // records that cannot be read are left out and counted, instead of an error
	MaxField    int64    // bytes of a field at most; 0 is 64 MiB
	Table       string   // all files are this one table; empty: each is its own
	FileColumn  string   // a further column of this name has the file's; empty: there is none
	// ByName makes foreign keys of names: customer_id is customers.id, or
	// customer.id.
	ByName bool
	// Index is a directory that key indexes are kept in, for other processes and
	// later runs. Empty: they are kept in memory, as long as the source is open.
	Index string
}

const defaultSample = 1000

// option is one key of a URI's query.
type option struct {
	name string
	set  func(o *Options, value string) error
}

// options are in the order of their names.
var options = []option{
	{"comment", func(o *Options, v string) (err error) { o.Comment, err = one(v); return }},
	{"compression", func(o *Options, v string) error { _, err := parseCompression(v); o.Compression = v; return err }},
	{"delimiter", func(o *Options, v string) (err error) { o.Delimiter, err = one(v); return }},
	{"encoding", func(o *Options, v string) error { _, err := parseEncoding(v); o.Encoding = v; return err }},
	{"escape", func(o *Options, v string) (err error) { o.Escape, err = one(v); return }},
	{"filename", func(o *Options, v string) error { o.FileColumn = v; return notEmpty(v, "the name of a column") }},
	{"header", func(o *Options, v string) error {
		header, err := strconv.ParseBool(v)
		o.NoHeader = !header
		return want(err == nil, "true or false")
	}},
	{"index", func(o *Options, v string) error { o.Index = v; return notEmpty(v, "a directory") }},
	{"max_field", func(o *Options, v string) (err error) {
		o.MaxField, err = strconv.ParseInt(v, 10, 64)
		return want(err == nil && o.MaxField > 0 && o.MaxField <= largestField, fmt.Sprintf("a number of bytes from 1 to %d", largestField))
	}},
	{"names", func(o *Options, v string) error { o.Distinct = v == "distinct"; return choice(v, "strict", "distinct") }},
	{"null", func(o *Options, v string) error { o.Null = strings.Split(v, "\n"); return nil }},
	{"on_error", func(o *Options, v string) error { o.SkipBad = v == "skip"; return choice(v, "fail", "skip") }},
	{"quote", func(o *Options, v string) (err error) {
		if o.NoQuote = isNone(v); !o.NoQuote {
			o.Quote, err = one(v)
		}
		return err
	}},
	{"relations", func(o *Options, v string) error { o.ByName = v == "names"; return choice(v, "declared", "names") }},
	{"sample", func(o *Options, v string) (err error) {
		o.Sample, err = strconv.Atoi(v)
		return want(err == nil && o.Sample > 0 && o.Sample <= 1_000_000, "a number of records from 1 to 1000000")
	}},
	{"skip", func(o *Options, v string) (err error) {
		o.Skip, err = strconv.Atoi(v)
		return want(err == nil && o.Skip >= 0 && o.Skip <= 1_000_000, "a number of lines from 0 to 1000000")
	}},
	{"table", func(o *Options, v string) error { o.Table = v; return notEmpty(v, "the name of a table") }},
	{"types", func(o *Options, v string) error { o.Text = v == "text"; return choice(v, "infer", "text") }},
}

func want(ok bool, what string) error {
	if ok {
		return nil
	}
	return errors.New("want " + what)
}

func notEmpty(v, what string) error { return want(v != "", what) }

func choice(v, a, b string) error { return want(v == a || v == b, a+" or "+b) }

// parseOptions reads the options of a URI, and names every fault.
func parseOptions(given map[string]string) (o Options, err error) {
	var faults []error
	names := make([]string, len(options))
	for i := range options {
		names[i] = options[i].name
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		fault := errors.New("there is no such option" + sources.Suggest(key, names))
		if i := slices.Index(names, key); i >= 0 {
			fault = options[i].set(&o, given[key])
		}
		if fault != nil {
			faults = append(faults, fmt.Errorf("option %q: %w", key, fault))
		}
	}
	return o, errors.Join(faults...)
}

// dialect is how the options say that a file is written.
func (o *Options) dialect() (d dialect, err error) {
	d = standard
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
