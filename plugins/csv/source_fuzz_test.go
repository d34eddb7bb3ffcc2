package csv

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/penstock-data/penstock/sources"
)

// readTable reads a file as a table and returns its values as text.
func readTable(t *testing.T, name string, data []byte, o Options, page sources.Limits) (schema *arrow.Schema, rows [][]sources.Value, err error) {
	t.Helper()
	source, err := New(fstest.MapFS{name: {Data: data, ModTime: time.Unix(1e9, 0)}}, o)
	if err != nil {
		return nil, nil, err
	}
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		return nil, nil, err
	}
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	session, err := source.Begin(t.Context(), sources.Env{Mem: mem, Page: page})
	if err != nil {
		return nil, nil, err
	}
	table := &catalog.Tables[0]
	for batch, err := range session.Scan(t.Context(), &sources.Query{Table: table.Name}) {
		if err != nil {
			return table.Schema, rows, err
		}
		for i := range int(batch.Record.NumRows()) {
			row := make([]sources.Value, batch.Record.NumCols())
			for j, c := range batch.Record.Columns() {
				row[j] = sources.ValueAt(c, i)
			}
			rows = append(rows, row)
		}
	}
	return table.Schema, rows, session.Close()
}

// FuzzInference checks that whatever type is inferred, each value is the one that was
// written, or an error.
func FuzzInference(f *testing.F) {
	for _, values := range []string{"1\n-20\n0", "1.50\n3", "007\n1", "true\nFALSE", "2026-02-28\n2026-03-01", "2026-02-28T10:00:00Z", "1e5\n0x1F", "-0", "9223372036854775808\n1", "1,000\n+5", "NaN\n\nx"} {
		f.Add(values, 1)
		f.Add(values, 1000)
	}
	f.Fuzz(func(t *testing.T, text string, sample int) {
		var data bytes.Buffer
		out := csv.NewWriter(&data)
		written := []string{}
		_ = out.Write([]string{"x", "c"})
		for _, v := range strings.Split(text, "\n") {
			if strings.Contains(v, "\r") || !utf8.ValidString(v) {
				return
			}
			written = append(written, v)
			_ = out.Write([]string{"x", v})
		}
		out.Flush()
		schema, rows, err := readTable(t, "t.csv", data.Bytes(), Options{Sample: 1 + sample&1023}, sources.Limits{Rows: 3})
		if schema == nil || err == nil && len(rows) != len(written) {
			t.Fatalf("%d rows of %d, %v", len(rows), len(written), err)
		}
		for i, row := range rows {
			if v := row[1]; !same(v, written[i]) {
				t.Errorf("%q in a column %s became %s", written[i], schema.Field(1).Type, v)
			}
		}
	})
}

// same reports whether a value equals the text, with code independent of the source.
func same(v sources.Value, text string) bool {
	if v.IsNull() {
		return text == ""
	}
	switch v.Type.ID() {
	case arrow.STRING:
		return v.V.(string) == text
	case arrow.INT64:
		return strconv.FormatInt(v.V.(int64), 10) == text
	case arrow.BOOL:
		return strconv.FormatBool(v.V.(bool)) == strings.ToLower(text)
	case arrow.DECIMAL128:
		want, ok := new(big.Rat).SetString(text)
		got, ok2 := new(big.Rat).SetString(v.String())
		return ok && ok2 && want.Cmp(got) == 0
	case arrow.DATE32:
		want, err := time.Parse(time.DateOnly, text)
		return err == nil && want.Unix() == v.V.(int64)*86400
	case arrow.TIMESTAMP:
		text = strings.Replace(text, " ", "T", 1)
		for _, zone := range []string{"", "Z07:00", "Z0700", "Z07"} {
			if want, err := time.Parse("2006-01-02T15:04:05"+zone, text); err == nil {
				return want.UnixMicro() == v.V.(int64)
			}
		}
	}
	return false
}

// FuzzInput checks that compressed or encoded bytes become UTF-8 text or an error, and
// agree with the standard library.
func FuzzInput(f *testing.F) {
	pack := func(text string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, text)
		_ = w.Close()
		return b.Bytes()
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	for e := range encodingCP1252 + 1 {
		f.Add(pack("a,b\n1,2\n"), uint8(e))
		f.Add(append(pack("a,b\n"), pack("1,2\n")...), uint8(e))
		f.Add(encoder.EncodeAll([]byte("a,b\n1,2\n"), nil), uint8(e))
		f.Add([]byte("\xff\xfea\x00\n\x003\xd8\x00\xdc"), uint8(e))
		f.Add([]byte("\xef\xbb\xbfa\x80\x81\x9f"), uint8(e))
	}
	f.Fuzz(func(t *testing.T, data []byte, e uint8) {
		d := rfc4180
		d.encoding = encoding(e % uint8(encodingCP1252+1))
		file, err := fstest.MapFS{"t.csv": {Data: data}}.Open("t.csv")
		if err != nil {
			t.Fatal(err)
		}
		input, err := newInput(context.Background(), file, "t.csv", d)
		if err != nil {
			return
		}
		got, err := io.ReadAll(io.LimitReader(input.reader, 1<<20))
		if closing := input.Close(); closing != nil {
			t.Error(closing)
		}
		if err != nil || len(got) == 1<<20 {
			return
		}
		if d.encoding > encodingUTF8 && !utf8.Valid(got) {
			t.Errorf("%x became %x", data, got)
		}
		plain := data
		if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
			r, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatalf("%x is read as %q, and is no gzip: %v", data, got, err)
			}
			if plain, err = io.ReadAll(r); err != nil {
				t.Fatalf("%x is read as %q, and is broken: %v", data, got, err)
			}
		} else if bytes.HasPrefix(data, []byte("\x28\xb5\x2f\xfd")) {
			return // there is no other reader of it
		}
		switch d.encoding {
		case encodingAuto, encodingUTF8:
			if bytes.HasPrefix(plain, []byte("\xff\xfe")) || bytes.HasPrefix(plain, []byte("\xfe\xff")) {
				return
			}
			if want := bytes.TrimPrefix(plain, []byte("\xef\xbb\xbf")); !bytes.Equal(want, got) {
				t.Errorf("%x became %x", plain, got)
			}
		case encodingLatin1:
			if n := utf8.RuneCount(got); n != len(plain) {
				t.Errorf("%d bytes became %d characters", len(plain), n)
			}
		case encodingUTF16LE:
			var units []uint16
			for i := 0; i+1 < len(plain); i += 2 {
				units = append(units, uint16(plain[i])|uint16(plain[i+1])<<8)
			}
			if want := strings.TrimPrefix(string(utf16.Decode(units)), "\ufeff"); want != string(got) {
				t.Errorf("%x became %q, want %q", plain, got, want)
			}
		}
	})
}

// FuzzRoundTrip checks that records written in any dialect are read back, with NULL
// and empty text distinct, in pages of any size.
func FuzzRoundTrip(f *testing.F) {
	f.Add("x", "y,\"z\"", "", "line\r\nbreak", byte(','), byte('"'), byte(0), uint16(3))
	f.Add("\x00", "é€😀", " ", "\\", byte(';'), byte('\''), byte('\\'), uint16(40))
	f.Add("a\rb", "#", "a|b", "long long long long long long", byte('|'), byte('"'), byte(0), uint16(7))
	f.Fuzz(func(t *testing.T, a, b, c, e string, delimiter, quote, escape byte, seed uint16) {
		o := Options{Delimiter: delimiter & 0x7f, Quote: quote & 0x7f, Escape: escape & 0x7f, Text: true}
		d, err := o.dialect()
		if err != nil || bytes.ContainsAny([]byte{d.delimiter, d.quote, d.escape}, "\r\n") {
			return
		}
		values := []string{a, b, c, e}
		for _, v := range values {
			if !utf8.ValidString(v) {
				return
			}
		}
		data := []byte("p" + string(d.delimiter) + "q\n")
		if bytes.ContainsAny(data[:3], string([]byte{d.quote, d.escape})) && d.quote != d.delimiter || d.delimiter == 'p' || d.delimiter == 'q' {
			return
		}
		var want []string
		state := uint32(seed) + 1
		next := func() uint32 { state = state*1664525 + 1013904223; return state >> 16 }
		for range int(seed % 50) {
			for i := range 2 {
				v := values[next()%4]
				if next()%5 == 0 {
					want = append(want, "NULL")
				} else {
					want = append(want, strconv.Quote(v))
					data = append(data, d.quote)
					for j := range len(v) {
						if v[j] == d.quote && (d.escape == 0 || next()%2 == 0) {
							data = append(data, d.quote)
						} else if d.escape != 0 && (v[j] == d.quote || v[j] == d.escape) {
							data = append(data, d.escape)
						}
						data = append(data, v[j])
					}
					data = append(data, d.quote)
				}
				if i == 0 {
					data = append(data, d.delimiter)
				}
			}
			data = append(data, []string{"\n", "\r\n", "\r"}[next()%3]...)
		}
		_, rows, err := readTable(t, "t.csv", data, o, sources.Limits{Rows: 1 + int64(seed%7)})
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		var got []string
		for _, row := range rows {
			for _, v := range row {
				if v.IsNull() {
					got = append(got, "NULL")
				} else {
					got = append(got, strconv.Quote(v.V.(string)))
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", data, fmt.Sprint(diff))
		}
	})
}
