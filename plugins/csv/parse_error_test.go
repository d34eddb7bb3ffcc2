package csv_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// TestParseError checks that every fault in a file is a ParseError with its place,
// wrapped in an error of the contract.
func TestParseError(t *testing.T) {
	var long strings.Builder
	long.WriteString("a,b\n")
	for i := range 50_000 {
		fmt.Fprintf(&long, "%d,%x\n", i, i*i*7919)
	}
	packed := gzipped(t, long.String())
	declared := `{"resources": [{"name": "t", "path": "t.csv", "schema": {"fields": [{"name": "a"}, {"name": "b", "type": "integer", "constraints": {"required": true}}]}}]}`
	for _, c := range []struct {
		name, text, declared string
		options              csv.Options
		want                 csv.ParseError
		cause                string
	}{
		{name: "too few fields", text: "a,b\n1,2\n3\n", want: csv.ParseError{Line: 3, Column: 1, Offset: 8}, cause: "the record has 1 field, but the table has 2 columns"},
		{name: "too many fields", text: "a,b\r\n1,2\r\n3,\"4\",\"5\"\r\n", want: csv.ParseError{Line: 3, Column: 7, Offset: 16}, cause: "the record has 3 fields, but the table has 2 columns"},
		{name: "a quote in a field", text: "a,b\n1,x\"y\n", want: csv.ParseError{Line: 2, Column: 4, Offset: 7}, cause: "a quote in an unquoted field: "},
		{name: "text after a quote", text: "a,b\n1,\"x\"y\n", want: csv.ParseError{Line: 2, Column: 6, Offset: 9}, cause: "'y' after a closing quote: "},
		{name: "an open quote", text: "a,b\n1,\"x\n", want: csv.ParseError{Line: 2, Column: 3, Offset: 6}, cause: "the quote that begins here is never closed"},
		{name: "bad UTF-8", text: "a,b\n1,x\n2,y\xff\n", want: csv.ParseError{Line: 3, Column: 3, Field: "b", Offset: 10}, cause: `column "b": "y\xff" is not valid UTF-8`},
		{name: "bad UTF-8 in the header", text: "a,\xff\n", want: csv.ParseError{Line: 1, Column: 3, Offset: 2}, cause: "the header is not UTF-8 text"},
		{name: "a value of another type", text: "a,b\n1,2\nx,3\n", options: csv.Options{Sample: 1}, want: csv.ParseError{Line: 3, Column: 1, Field: "a", Offset: 8}, cause: `column "a": "x" is not a 64-bit integer, the type inferred from the first 1 record`},
		{name: "no value", text: "a,b\n1,\n", declared: declared, want: csv.ParseError{Line: 2, Column: 3, Field: "b", Offset: 6}, cause: `column "b" has no value`},
		{name: "a long field", text: "a,b\n1,12345\n", options: csv.Options{MaxField: 4}, want: csv.ParseError{Line: 2, Column: 3, Offset: 6}, cause: "the field has more than 4 bytes"},
		{name: "a column twice", text: "a,a\n", want: csv.ParseError{Line: 1, Column: 3, Field: "a", Offset: 2}, cause: `duplicate column name "a"`},
		{name: "another header", text: "a,c\n", declared: declared, want: csv.ParseError{Field: "c"}, cause: `column 2 is "c", where datapackage.json declares "b"`},
		{name: "an empty file", text: "", want: csv.ParseError{}, cause: "the file is empty"},
		{name: "a truncated file", text: packed[:len(packed)-100], options: csv.Options{Text: true}, want: csv.ParseError{Offset: -1}, cause: "gzip: the compressed file is truncated"},
		{name: "a truncated beginning", text: packed[:5], want: csv.ParseError{}, cause: "gzip: the compressed file is truncated"},
		{name: "a wrong checksum", text: packed[:len(packed)-8] + "\x00\x00\x00\x00" + packed[len(packed)-4:], options: csv.Options{Text: true}, want: csv.ParseError{Offset: -1}, cause: "gzip: gzip: invalid checksum"},
		{name: "half a character", text: utf16("a,b\n1,2\n", false) + "x", options: csv.Options{Sample: 1}, want: csv.ParseError{Line: 3, Column: 1, Offset: -1}, cause: "the bytes 78 at byte 16 are not a character in utf-16le"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"t.csv": c.text}
			if c.declared != "" {
				files["datapackage.json"] = c.declared
			}
			_, _, err := read(t, files, c.options, "t")
			var own *sources.Error
			if !errors.As(err, &own) || own.Kind != sources.Invalid || own.Op == "" || own.Table != "t" {
				t.Fatalf("%#v is not an error of the contract", err)
			}
			var got *csv.ParseError
			if !errors.As(err, &got) {
				t.Fatalf("%v is not a ParseError", err)
			}
			if c.want.Offset < 0 && got.Offset > 0 { // the decompressor decides where reading stops
				c.want.Offset = got.Offset
			}
			c.want.File = "t.csv"
			if diff := cmp.Diff(&c.want, got, cmpopts.IgnoreUnexported(csv.ParseError{}), cmpopts.IgnoreFields(csv.ParseError{}, "Err")); diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if !strings.HasPrefix(got.Err.Error(), c.cause) || !strings.Contains(err.Error(), c.cause) {
				t.Errorf("%v, want %q", err, c.cause)
			}
			if place := fmt.Sprintf("t.csv:%d:%d: ", got.Line, got.Column); got.Line > 0 && !strings.HasPrefix(got.Error(), place) {
				t.Errorf("%v does not begin with %q", got, place)
			}
		})
	}
}

// TestParseErrorSkipped checks that the location of a skipped record is the text of
// the ParseError it would have been, and that a damaged file is never skipped.
func TestParseErrorSkipped(t *testing.T) {
	text := "a,b\n1,2\n3\n4,x\n5,6\n"
	var locations []string
	for range 2 {
		_, _, err := read(t, map[string]string{"t.csv": text}, csv.Options{Sample: 1}, "t")
		var e *csv.ParseError
		if !errors.As(err, &e) {
			t.Fatalf("%v is not a ParseError", err)
		}
		location, _, _ := strings.Cut(e.Error(), "; ")
		locations = append(locations, location)
		// The record as one that can be read, in as many bytes.
		lines := strings.SplitAfter(text, "\n")
		lines[e.Line-1] = "0,0\n"
		if e.Line == 3 {
			lines[2] = ",\n"
		}
		text = strings.Join(lines, "")
	}
	source, err := csv.New(fstest.MapFS{"t.csv": {Data: []byte("a,b\n1,2\n3\n4,x\n5,6\n")}}, csv.Options{Sample: 1, SkipBad: true})
	if err != nil {
		t.Fatal(err)
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	var skipped sources.Skipped
	for batch, err := range session.Scan(t.Context(), &sources.Query{Table: "t"}) {
		if err != nil {
			t.Fatal(err)
		}
		skipped.Add(batch.Skipped)
	}
	if skipped.Records != 2 || !slices.Equal(skipped.Locations, locations) {
		t.Errorf("%+v, want %q", skipped, locations)
	}

	packed := gzipped(t, "a,b\n"+strings.Repeat("1,2\n", 1<<20))
	_, _, err = read(t, map[string]string{"t.csv": packed[:len(packed)-100]}, csv.Options{SkipBad: true}, "t")
	var e *csv.ParseError
	if !errors.As(err, &e) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v is not a ParseError of a truncated file", err)
	}
}

// failing is a file system whose files return an error after size bytes.
type failing struct {
	fs.FS
	size int64
	err  error
}

func (f failing) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil || name == "." {
		return file, err
	}
	return &failingFile{File: file, left: f.size, err: f.err}, nil
}

type failingFile struct {
	fs.File
	left int64
	err  error
}

func (f *failingFile) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, f.err
	}
	n, err := f.File.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// TestReadErrorIsNoParseError checks that a failed read is not reported as a fault
// in the file, not even below a decompressor.
func TestReadErrorIsNoParseError(t *testing.T) {
	text := "a,b\n" + strings.Repeat("1,2\n", 1<<20)
	for name, data := range map[string]string{"plain": text, "gzip": gzipped(t, text), "zstd": zstandard(t, text)} {
		for _, cause := range []error{context.Canceled, errors.New("the disk is on fire")} {
			source, err := csv.New(failing{fstest.MapFS{"t.csv": {Data: []byte(data)}}, int64(len(data)) - 20, cause}, csv.Options{Sample: 1})
			if err != nil {
				t.Fatal(err)
			}
			session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
			if err == nil {
				for _, e := range session.Scan(t.Context(), &sources.Query{Table: "t"}) {
					err = e
				}
			}
			var e *csv.ParseError
			if !errors.Is(err, cause) || errors.As(err, &e) {
				t.Errorf("%s: %v, want %v", name, err, cause)
			}
		}
	}
}
