package csv_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

func gzipped(t *testing.T, members ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, m := range members {
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, m); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func zstandard(t *testing.T, members ...string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, m := range members {
		all = w.EncodeAll([]byte(m), all)
	}
	return string(all)
}

// utf16 encodes ASCII text with a byte order mark.
func utf16(text string, big bool) string {
	out := []byte("\xff\xfe")
	if big {
		out = []byte("\xfe\xff")
	}
	for _, b := range []byte(text) {
		if big {
			out = append(out, 0, b)
		} else {
			out = append(out, b, 0)
		}
	}
	return string(out)
}

// TestForms reads one table in every encoding and compression.
func TestForms(t *testing.T) {
	const plain = "a,b\n1,x\n2,\"y\nz\"\n"
	want := []string{`1|"x"`, `2|"y\nz"`}
	long := "a,b\n" + strings.Repeat("1,x\n", 50_000)
	packed := gzipped(t, long)
	for _, c := range []struct {
		name, file, text string
		options          csv.Options
		fault            string
	}{
		{name: "plain", text: plain},
		{name: "a mark", text: "\xef\xbb\xbf" + plain},
		{name: "gzip", file: "t.csv.gz", text: gzipped(t, plain)},
		{name: "gzip in several members", text: gzipped(t, "a,b\n1,x\n2,\"y", "\nz\"\n")},
		{name: "gzip of a mark", text: gzipped(t, "\xef\xbb\xbf"+plain)},
		{name: "zstd", file: "t.csv.zst", text: zstandard(t, plain)},
		{name: "zstd in several frames", text: zstandard(t, "a,b\n1,", "x\n2,\"y\nz\"\n")},
		{name: "utf-16, little end first", text: utf16(plain, false)},
		{name: "utf-16, big end first", text: utf16(plain, true)},
		{name: "utf-16 without a mark", text: utf16(plain, true)[2:], options: csv.Options{Encoding: "utf-16"}},
		{name: "utf-16le without a mark", text: utf16(plain, false)[2:], options: csv.Options{Encoding: "utf-16le"}},
		{name: "gzip of utf-16", text: gzipped(t, utf16(plain, false))},
		{name: "tabs", file: "t.tsv", text: strings.ReplaceAll(plain, ",", "\t")},
		{name: "bars", text: strings.ReplaceAll(plain, ",", "|"), options: csv.Options{Delimiter: '|'}},
		{name: "a byte that no text has", text: strings.ReplaceAll(plain, ",", "\xfe"), options: csv.Options{Delimiter: 0xfe}},
		{name: "other quotes", text: strings.ReplaceAll(plain, `"`, "'"), options: csv.Options{Quote: '\''}},
		{name: "lines before the header", text: "made by \"hand\n\nx\r\n" + plain, options: csv.Options{Skip: 3}},
		{name: "comments", text: "# one, \"\na,b\n#\n1,x\n# x\r2,\"y\nz\"\n#", options: csv.Options{Comment: '#'}},
		{name: "text behind an escape", text: "a,b\n1,x\n2,y\\\nz\n", options: csv.Options{Escape: '\\'}},
		{name: "gzip that is cut", text: packed[:len(packed)-20], fault: "the compressed file is truncated"},
		{name: "gzip with a wrong checksum", text: gzipped(t, plain)[:len(gzipped(t, plain))-8] + "\x00\x00\x00\x00" + gzipped(t, plain)[len(gzipped(t, plain))-4:], fault: "gzip: invalid checksum"},
		{name: "gzip followed by other data", text: gzipped(t, plain) + "a,b\n", fault: "gzip: "},
		{name: "zstd that is cut", text: zstandard(t, long)[:20], fault: "the compressed file is truncated"},
		{name: "not gzip", text: plain, options: csv.Options{Compression: "gzip"}, fault: "gzip: invalid header"},
		{name: "half a character of utf-16", text: utf16(plain, false) + "x", fault: "are not a character in utf-16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.file == "" {
				c.file = "t.csv"
			}
			_, rows, err := read(t, map[string]string{c.file: c.text}, c.options, "t")
			if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Fatalf("%v, want %q", err, c.fault)
			}
			if diff := cmp.Diff(want, rows); c.fault == "" && diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestValues checks how single values are read under options and declarations.
func TestValues(t *testing.T) {
	field := func(properties string) string {
		return fmt.Sprintf(`{"resources": [{"path": "t.csv", "schema": {"missingValues": ["", "n/a"], "fields": [{"name": "c", %s}, {"name": "d"}]}}]}`, properties)
	}
	for _, c := range []struct {
		name, field, text string // of the column c
		options           csv.Options
		want              string // of its values
		fault             string
	}{
		{name: "latin-1", text: "caf\xe9 \x80", options: csv.Options{Encoding: "latin-1"}, want: "\"café \\u0080\""},
		{name: "windows-1252", text: "\x80 \x9f", options: csv.Options{Encoding: "windows-1252"}, want: `"€ Ÿ"`},
		{name: "no character of windows-1252", text: "a\x81", options: csv.Options{Encoding: "windows-1252"}, fault: "the bytes 812c at byte 5 are not a character in windows-1252"},
		{name: "bad UTF-8", text: "\xe9", fault: `t.csv:2:1: column "c": "\xe9" is not valid UTF-8 (at byte 4); set encoding=windows-1252 or latin-1, which read the file alike (tried on all of it)`},
		{name: "a bad quoted text after a good one", text: `"é` + "\xff" + `"`, fault: "t.csv:2:1: "},
		{name: "words for NULL", text: `NULL,x` + "\n" + `"NULL",x` + "\n-,x\n \"", options: csv.Options{Null: []string{"NULL", "-"}, NoQuote: true}, want: `NULL "\"NULL\"" NULL " \""`},
		{name: "nothing is inferred", text: "1", options: csv.Options{Text: true}, want: `"1"`},
		{name: "hexadecimal is text", text: "0x1F", want: `"0x1F"`},
		{name: "an exponent is text", text: "1e400", want: `"1e400"`},
		{name: "separated thousands are text", text: `"1,000"`, want: `"1,000"`},
		{name: "a sign is text", text: "+5", want: `"+5"`},
		{name: "two forms of dates are text", text: "2026-01-02,\n02.01.2026", want: `"2026-01-02" "02.01.2026"`},
		{name: "beyond 64 bits", text: "18446744073709551616", want: "18446744073709551616"},
		{name: "beyond a decimal", text: "1" + strings.Repeat("0", 38), want: `"1` + strings.Repeat("0", 38) + `"`},
		{name: "the least of 64 bits", text: "-9223372036854775808", want: "-9223372036854775808"},
		{name: "a number with an exponent", field: `"type": "number"`, text: "1.5e3,\n25E-3", want: "1500.000 0.025"},
		{name: "too small for its scale", field: `"type": "number", "scale": 2`, text: "1e-3", fault: "at most 2 decimals"},
		{name: "a float", field: `"type": "number", "format": "float"`, text: "0.1,\n1e300,\n-INF,\nNaN,\n-0", want: "0.1 1e+300 -Inf NaN -0"},
		{name: "a float as COPY of PostgreSQL writes it", field: `"type": "number", "format": "float"`, text: "Infinity,\n-Infinity,\nNaN,\n-0,\n-0.0,\n1e+300", want: "+Inf -Inf NaN -0 -0 1e+300"},
		{name: "too large for a float", field: `"type": "number", "format": "float"`, text: "1e400", fault: "is not a number in the range of a 64-bit float"},
		{name: "no float", field: `"type": "number", "format": "float"`, text: "0x1p4", fault: "is not a number in the range of a 64-bit float"},
		{name: "grouped", field: `"type": "integer", "groupChar": "."`, text: "1.234.567", want: "1234567"},
		{name: "a comma for a point", field: `"type": "number", "decimalChar": ",", "groupChar": "."`, text: `"-1.234,5"`, want: "-1234.5"},
		{name: "declared words for NULL", field: `"type": "integer"`, text: "n/a,\n\"\",\n1", want: "NULL NULL 1"},
		{name: "leading zeros where they are declared", field: `"type": "integer"`, text: "007", want: "7"},
		{name: "a time", field: `"type": "time"`, text: "23:59:59.000001", want: "86399000001"},
		{name: "a time in a form", field: `"type": "time", "format": "%H.%M"`, text: "08.30", want: "30600000000"},
		{name: "a moment in a form", field: `"type": "datetime", "format": "%d/%m/%Y %H:%M:%S%z"`, text: "01/02/2026 03:04:05+0100", want: "2026-02-01T02:04:05Z"},
		{name: "a year", field: `"type": "year"`, text: "2026", want: "2026"},
		{name: "required", field: `"type": "integer", "constraints": {"required": true}`, text: "", fault: `t.csv:2:1: column "c" has no value, but datapackage.json requires one`},
	} {
		t.Run(c.name, func(t *testing.T) {
			end := ",x\n"
			if c.options.NoQuote {
				end = ",y\n"
			}
			text := c.text
			if !strings.Contains(text, ",x\n") {
				text = strings.ReplaceAll(text, ",\n", end)
			}
			files := map[string]string{"t.csv": "c,d\n" + text + end}
			if c.field != "" {
				files["datapackage.json"] = field(c.field)
			}
			_, rows, err := read(t, files, c.options, "t")
			if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Fatalf("%v, want %q", err, c.fault)
			}
			for i, row := range rows {
				rows[i], _, _ = strings.Cut(row[:strings.LastIndex(row, "|")], "|\x00")
			}
			if got := strings.Join(rows, " "); c.fault == "" && got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestSeveralFiles checks a table of several files: its header, its order, cursors
// and lookups.
func TestSeveralFiles(t *testing.T) {
	files := fstest.MapFS{}
	var want []int64
	for i := range 5 {
		text := "id,v\n"
		for j := range 20 {
			id := int64(i*20 + j)
			text += fmt.Sprintf("%d,\"v\n%d\"\n", id, id%7)
			want = append(want, id)
		}
		name := fmt.Sprintf("part-%d.csv", i)
		if i%2 == 1 {
			name, text = name+".gz", gzipped(t, text)
		}
		files[name] = &fstest.MapFile{Data: []byte(text), ModTime: time.Unix(1e9, 0)}
	}
	files["datapackage.json"] = &fstest.MapFile{Data: []byte(`{"resources": [{"name": "all", "path": ["part-0.csv", "part-1.csv.gz", "part-2.csv", "part-3.csv.gz", "part-4.csv"],
		"schema": {"fields": [{"name": "id", "type": "integer"}, {"name": "v"}], "primaryKey": "id"}}]}`)}
	source, err := csv.New(files, csv.Options{FileColumn: "file"})
	if err != nil {
		t.Fatal(err)
	}
	if err := testkit.TestSource(t.Context(), source); err != nil {
		t.Error(err)
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, Page: sources.Limits{Rows: 7}})
	if err != nil {
		t.Fatal(err)
	}
	got, cursors, counts := ids(t, session, &sources.Query{Table: "all", Columns: []string{"id"}})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, c := range cursors {
		if rest, _, _ := ids(t, session, &sources.Query{Table: "all", Columns: []string{"id"}, After: c}); !slices.Equal(rest, want[counts[i]:]) {
			t.Errorf("after %d rows come %v", counts[i], rest)
		}
	}
	q := &sources.Query{Table: "all", Columns: []string{"id"}, Keys: lookup([]string{"id"}, 0, []any{99}, []any{0}, []any{20}, []any{19}, []any{39})}
	if got, _, _ := ids(t, session, q); !slices.Equal(got, []int64{0, 19, 20, 39, 99}) {
		t.Errorf("the lookup gives %v", got)
	}
	for batch, err := range session.Scan(t.Context(), &sources.Query{Table: "all", Columns: []string{"file"}, Where: sources.Comparison{Column: "id", Op: sources.OpEq, Value: sources.Int(25)}}) {
		if err != nil || batch.Record.Column(0).(*array.String).Value(0) != "part-1.csv.gz" {
			t.Errorf("row 25 is of %v, %v", batch.Record, err)
		}
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	files["part-9.csv"] = &fstest.MapFile{Data: []byte("id,w\n1,2\n")}
	other, err := csv.New(files, csv.Options{Table: "all"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Catalog(t.Context()); err == nil || !strings.Contains(err.Error(), `part-9.csv: column 2 is "w", where part-0.csv has "v"`) {
		t.Errorf("another header: %v", err)
	}
}

// TestSkipping checks that unreadable records are left out of every kind of scan,
// and that the contract holds for the others.
func TestSkipping(t *testing.T) {
	text := "id,n\n"
	for i := range 200 {
		switch i % 50 {
		case 10:
			text += "1,2,3\n"
		case 20:
			text += "x\"y,1\n"
		case 30:
			text += fmt.Sprintf("%d,no number\n", i)
		default:
			text += fmt.Sprintf("%d,%d\n", i, i%9)
		}
	}
	files := fstest.MapFS{"t.csv": {Data: []byte(text), ModTime: time.Unix(1e9, 0)}, "datapackage.json": {Data: []byte(
		`{"resources": [{"name": "t", "path": "t.csv", "schema": {"primaryKey": "id", "fields": [{"name": "id", "type": "integer"}, {"name": "n", "type": "integer"}]}}]}`)}}
	source, err := csv.New(files, csv.Options{SkipBad: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := testkit.TestSource(t.Context(), source); err != nil {
		t.Error(err)
	}
	catalog, err := source.Catalog(t.Context())
	if err != nil || catalog.Tables[0].Capabilities.Has(sources.CapPartition) {
		t.Errorf("%v: a stray quote would make the parts wrong", err)
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator, Page: sources.Limits{Rows: 3}})
	if err != nil {
		t.Fatal(err)
	}
	var skipped sources.Skipped
	rows := int64(0)
	for batch, err := range session.Scan(t.Context(), &sources.Query{Table: "t"}) {
		if err != nil {
			t.Fatal(err)
		}
		rows += batch.Record.NumRows()
		skipped.Add(batch.Skipped)
	}
	if rows != 188 || skipped.Records != 12 || len(skipped.Locations) != sources.MaxSkippedLocations || !strings.HasPrefix(skipped.Locations[2], `t.csv:32:4: column "n": "no number" is not`) {
		t.Errorf("%d rows, and %+v", rows, skipped)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
}

// TestSampleLimit checks that a record which is too large for the sample can be
// scanned.
func TestSampleLimit(t *testing.T) {
	huge := strings.Repeat("x", 5<<20)
	types, rows, err := read(t, map[string]string{"t.csv": "a,b\n1,x\n2," + huge + "\n"}, csv.Options{}, "t")
	if err != nil || types != "a int64; b utf8; " || len(rows) != 2 || !strings.Contains(rows[1], huge) {
		t.Errorf("%s, %d rows, %v", types, len(rows), err)
	}
	if _, _, err := read(t, map[string]string{"t.csv": "a" + huge + ",b\n1,x\n"}, csv.Options{}, "t"); sources.KindOf(err) != sources.Exhausted {
		t.Errorf("a huge header: %v", err)
	}
}

// slowFS has files that cannot seek.
type slowFS struct{ fs.FS }

func (s slowFS) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	if _, ok := f.(fs.ReadDirFile); ok || err != nil {
		return f, err
	}
	return struct{ fs.File }{f}, nil
}

// TestForwardOnly checks the contract, with lookups and cursors, for files that
// cannot seek.
func TestForwardOnly(t *testing.T) {
	text, _ := lines(300)
	files := fstest.MapFS{"lines.csv": {Data: []byte(text), ModTime: time.Unix(1e9, 0)}, "datapackage.json": {Data: []byte(linesPackage)}}
	source, err := csv.New(slowFS{files}, csv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := testkit.TestSource(t.Context(), source); err != nil {
		t.Error(err)
	}
}
