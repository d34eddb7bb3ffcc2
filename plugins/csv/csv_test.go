package csv_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/testkit"
)

// read returns the columns' types and the rows of a table, and the error that
// ended the scan. It fails the test if memory or goroutines are leaked.
func read(t *testing.T, files map[string]string, o csv.Options, table string) (types string, rows []string, err error) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text), ModTime: time.Unix(1e9, 0)}
	}
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer func() {
		mem.AssertSize(t, 0)
		goleak.VerifyNone(t, before)
	}()
	source, err := csv.New(fsys, o)
	if err != nil {
		return "", nil, err
	}
	catalog, err := source.Catalog(t.Context())
	if err != nil {
		return "", nil, err
	}
	for _, f := range catalog.Table(table).Schema.Fields() {
		types += f.Name + " " + f.Type.String()
		if !f.Nullable {
			types += " required"
		}
		types += "; "
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: mem})
	if err != nil {
		return types, nil, err
	}
	for batch, err := range session.Scan(t.Context(), &sources.Query{Table: table}) {
		if err != nil {
			return types, rows, err
		}
		for i := range int(batch.Record.NumRows()) {
			var row []string
			for _, c := range batch.Record.Columns() {
				row = append(row, sources.ValueAt(c, i).String())
			}
			rows = append(rows, strings.Join(row, "|"))
		}
	}
	return types, rows, session.Close()
}

// TestFiles reads unusual files and checks their contents or errors.
func TestFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		options    csv.Options
		types      string
		rows       []string
		fault      string
	}{
		{name: "quotes", text: "a,b\n\"x \"\"y\"\"\",\"1,2\"\n", types: "a utf8; b utf8; ", rows: []string{`"x \"y\""|"1,2"`}},
		{name: "a line's end within quotes is data", text: "a,b\n\"x\r\ny\",1\nz,2\n", types: "a utf8; b int64; ", rows: []string{`"x\r\ny"|1`, `"z"|2`}},
		{name: "CRLF, and none at the end", text: "a,b\r\n1,x\r\n2,y", types: "a int64; b utf8; ", rows: []string{`1|"x"`, `2|"y"`}},
		{name: "CR alone", text: "a,b\r1,x\r2,y\r", types: "a int64; b utf8; ", rows: []string{`1|"x"`, `2|"y"`}},
		{name: "a mark of UTF-8", text: "\xef\xbb\xbfa\n1\n", types: "a int64; ", rows: []string{"1"}},
		{name: "NULL and the empty text", text: "a,b\n,\"\"\nx,y\n", types: "a utf8; b utf8; ", rows: []string{`NULL|""`, `"x"|"y"`}},
		{name: "empty lines", text: "a,b\n\n1,2\n\n", types: "a int64; b int64; ", rows: []string{"1|2"}},
		{name: "empty lines of one column are NULL", text: "a\n1\n\n2\n", types: "a int64; ", rows: []string{"1", "NULL", "2"}},
		{name: "header only", text: "a,b\n", types: "a utf8; b utf8; "},
		{name: "no header", text: "1,x\n2,y\n", options: csv.Options{NoHeader: true}, types: "column_1 int64; column_2 utf8; ", rows: []string{`1|"x"`, `2|"y"`}},
		{name: "another delimiter, and comments", text: "a;b\n# no\n1;2\n", options: csv.Options{Delimiter: ';', Comment: '#'}, types: "a int64; b int64; ", rows: []string{"1|2"}},
		{name: "a first line for spreadsheets", text: "sep=;\r\na;b\r\n1;2,5\r\n", types: "a int64; b utf8; ", rows: []string{`1|"2,5"`}},
		{name: "a first line for spreadsheets, and a tab", text: "SEP=\t\na\tb\n1\t2\n", types: "a int64; b int64; ", rows: []string{"1|2"}},
		{name: "a first line for spreadsheets, without a header", text: "sep=|\n1|2\n", options: csv.Options{NoHeader: true}, types: "column_1 int64; column_2 int64; ", rows: []string{"1|2"}},
		{name: "an option before the first line", text: "sep=;\na,b\n1,2\n", options: csv.Options{Delimiter: ','}, types: "a int64; b int64; ", rows: []string{"1|2"}},
		{name: "a first line that is longer", text: "sep=;,b\n1,2\n", types: "sep=; int64; b int64; ", rows: []string{"1|2"}},
		{name: "a first line with the quote", text: "sep=\"\na,b\n1,2\n", fault: "t.csv:1:5: the first line makes '\"' the delimiter, but the table is read with ','"},
		{name: "an error after the first line", text: "sep=;\na;b\n1;2\n3\n", types: "a int64; b int64; ", rows: []string{"1|2"}, fault: "t.csv:4:1: the record has 1 field, but the table has 2 columns"},
		{name: "semicolons in the header", text: "a;b\n1;2\n", fault: "t.csv:1:1: the header is a single column that contains ';': \"a;b\" (at byte 0); set delimiter=; if that separates the columns, or delimiter=, if there is only one column"},
		{name: "tabs in the header", text: "a\tb\n1\t2\n", fault: "contains '\\t': \"a\\tb\" (at byte 0); set delimiter=tab if"},
		{name: "semicolons in the only column", text: "a;b\n1\n", options: csv.Options{Delimiter: ','}, types: "a;b int64; ", rows: []string{"1"}},
		{name: "semicolons in a quoted header", text: "\"a;b\"\n1\n", types: "a;b int64; ", rows: []string{"1"}},
		{name: "bytes that are no character", text: "a,b\nx,1\ny,\x81\n", options: csv.Options{Encoding: "windows-1252"}, fault: "t.csv:3:3: the bytes 810a at byte 10 are not a character in windows-1252"},
		{name: "bytes that are no character in the header", text: "a,\x81\nx,1\n", options: csv.Options{Encoding: "windows-1252"}, fault: "t.csv:1:3: the bytes 810a at byte 2 are not a character"},
		{name: "a text for NULL", text: "a\n1\n-\n", options: csv.Options{Null: []string{"-"}}, types: "a int64; ", rows: []string{"1", "NULL"}},
		{name: "distinct names", text: "a,,a\n1,2,3\n", options: csv.Options{Distinct: true}, types: "a int64; column_2 int64; a_2 int64; ", rows: []string{"1|2|3"}},
		{name: "a name twice", text: "a,a\n", fault: `t.csv:1:3: duplicate column name "a"`},
		{name: "no name", text: "a,\n", fault: "t.csv:1:3: column 2 has no name"},
		{name: "nothing", text: "", fault: "t.csv: the file is empty: it has no header"},
		{name: "UTF-16 with a mark", text: "\xff\xfea\x00\n\x00\xac\x20", types: "a utf8; ", rows: []string{`"€"`}},
		{name: "the beginning of a packed file", text: "\x1f\x8b\x08\x00", fault: "t.csv: gzip: the compressed file is truncated"},
		{name: "too few fields", text: "a,b\n1,2\n3\n", types: "a int64; b int64; ", rows: []string{"1|2"}, fault: "t.csv:3:1: the record has 1 field, but the table has 2 columns"},
		{name: "too many fields", text: "a,b\n1,2\n3,4,5\n", types: "a int64; b int64; ", rows: []string{"1|2"}, fault: "t.csv:3:5: the record has 3 fields, but the table has 2 columns"},
		{name: "a quote in a field", text: "a,b\nx,y\"z\n", types: "a utf8; b utf8; ", fault: "t.csv:2:4: a quote in an unquoted field"},
		{name: "text after a quote", text: "a,b\nx,\"y\"z\n", types: "a utf8; b utf8; ", fault: `t.csv:2:6: 'z' after a closing quote`},
		{name: "no closing quote", text: "a\n\"x\ny\n", types: "a utf8; ", fault: "t.csv:2:1: the quote that begins here is never closed"},
		{name: "bad UTF-8", text: "a\nx\ny\xff\n", types: "a utf8; ", rows: []string{`"x"`}, fault: `t.csv:3:1: column "a": "y\xff" is not valid UTF-8`},
		{name: "a zero byte", text: "a\nx\ny\x00\n", types: "a utf8; ", rows: []string{`"x"`, `"y\x00"`}},
		{name: "a zero byte in the header", text: "a\x00\nx\n", fault: "t.csv:1:1: the header is not UTF-8 text"},
		{name: "the place after a line's end in quotes", text: "a,b\n\"x\ny\",1\n\"z\n\",w\n", options: csv.Options{Sample: 1}, types: "a utf8; b int64; ", rows: []string{`"x\ny"|1`}, fault: `t.csv:5:3: column "b": "w" is not a 64-bit integer`},
	} {
		t.Run(c.name, func(t *testing.T) {
			types, rows, err := read(t, map[string]string{"t.csv": c.text}, c.options, "t")
			if (err == nil) != (c.fault == "") || err != nil && (!strings.Contains(err.Error(), c.fault) || sources.KindOf(err) != sources.Invalid) {
				t.Errorf("the error is %v, want %q", err, c.fault)
			}
			if diff := cmp.Diff(c.types, types); diff != "" {
				t.Errorf("types (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.rows, rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

// TestInference checks the types inferred from samples, and that a later value that
// does not fit is an error and never a changed value.
func TestInference(t *testing.T) {
	for _, c := range []struct {
		values, want string
		later, fault string
	}{
		{values: "1 -20 0", want: "int64", later: "007", fault: "not a 64-bit integer"},
		{values: "1", want: "int64", later: "+5", fault: "not a 64-bit integer"},
		{values: "1", want: "int64", later: "-0", fault: "not a 64-bit integer"},
		{values: "1", want: "int64", later: "9223372036854775808", fault: "not a 64-bit integer"},
		{values: "1 9223372036854775808", want: "decimal(38, 0)"},
		{values: "1.50 -0.25 3", want: "decimal(38, 2)", later: "1.234", fault: "at most 2 decimals"},
		{values: "1.5", want: "decimal(38, 1)", later: "01.5", fault: "at most 1 decimals"},
		{values: "007 1", want: "utf8"},
		{values: "-0 1", want: "utf8"},
		{values: "1e5", want: "utf8"},
		{values: "true FALSE", want: "bool", later: "1", fault: "not a boolean"},
		{values: "2026-02-28", want: "date32", later: "2026-02-29", fault: "not a date"},
		{values: "2026-02-30", want: "utf8"},
		{values: "2026-02-28T10:00:00 2026-02-28T10:00:00.123456", want: "timestamp[us]", later: "2026-02-28T10:00:00Z", fault: "without a time zone"},
		{values: "2026-02-28T10:00:00Z 2026-02-28T10:00:00+02:00", want: "timestamp[us, tz=UTC]", later: "2026-02-28T10:00:00.1234567Z", fault: "with a time zone"},
		{values: "2026-02-28T10:00:00Z 2026-02-28T10:00:00", want: "utf8"},
		{values: "", want: "utf8"},
	} {
		text := "x,c\n"
		fields := strings.Fields(c.values)
		for _, v := range fields {
			text += "x," + v + "\n"
		}
		if c.later != "" {
			text += "x," + c.later + "\n"
		}
		types, rows, err := read(t, map[string]string{"t.csv": text}, csv.Options{Sample: max(1, len(fields))}, "t")
		if want := "x utf8; c " + c.want + "; "; len(fields) > 0 && types != want {
			t.Errorf("%s: %s, want %s", c.values, types, want)
		}
		if len(rows) != len(fields) {
			t.Errorf("%s: %d rows", c.values, len(rows))
		}
		if (err == nil) != (c.fault == "") || err != nil && (!strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), "declare it in datapackage.json")) {
			t.Errorf("%s then %s: %v, want %q", c.values, c.later, err, c.fault)
		}
	}
}

const described = `{"resources": [
 {"name": "orders", "path": "o.csv", "description": "what was sold", "dialect": {"delimiter": ";"}, "schema": {
  "missingValues": ["", "n/a"], "primaryKey": "id",
  "fields": [
   {"name": "id", "type": "integer"}, {"name": "total", "type": "number", "precision": 10, "scale": 2},
   {"name": "paid", "type": "boolean", "trueValues": ["yes"], "falseValues": ["no"]},
   {"name": "day", "type": "date", "format": "%d.%m.%Y"}, {"name": "at", "type": "datetime"}, {"name": "t", "type": "time"},
   {"name": "y", "type": "year"}, {"name": "ratio", "type": "number", "decimalChar": ","},
   {"name": "who", "type": "integer", "constraints": {"required": false, "unique": true}}],
  "foreignKeys": [{"fields": "who", "reference": {"resource": "people", "fields": "id"}}]}},
 {"name": "people", "path": "p.csv", "schema": {"primaryKey": ["id"], "fields": [{"name": "id", "type": "integer"}]}}]}`

func TestPackage(t *testing.T) {
	files := map[string]string{
		"datapackage.json": described, "p.csv": "id\n1\n",
		"o.csv": "id;total;paid;day;at;t;y;ratio;who\n7;+01.5;yes;28.02.2026;2026-02-28T10:00:00Z;08:30:00;2026;0,125;1\n8;n/a;no;\"\";;;;+1,5;\n",
	}
	types, rows, err := read(t, files, csv.Options{}, "orders")
	if err != nil {
		t.Fatal(err)
	}
	want := "id int64 required; total decimal(10, 2); paid bool; day date32; at timestamp[us, tz=UTC]; t time64[us]; y int32; ratio decimal(38, 3); who int64; "
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if len(rows) != 2 || !strings.HasPrefix(rows[0], "7|1.50|true|2026-02-28|2026-02-28T10:00:00Z|") || !strings.HasSuffix(rows[1], "|1.500|NULL") {
		t.Errorf("rows %q", rows)
	}
}

// TestPackageInParts checks that a schema and a dialect may be separate files.
func TestPackageInParts(t *testing.T) {
	types, rows, err := read(t, map[string]string{
		"datapackage.json": `{"resources": [{"name": "t", "path": ["a.csv", "b.csv"], "schema": "parts/s.json", "dialect": "d.json"}]}`,
		"parts/s.json":     `{"fields": [{"name": "n", "type": "integer"}, {"name": "m"}]}`,
		"d.json":           `{"delimiter": "\t", "nullSequence": "\\N", "quoteChar": "", "doubleQuote": false}`,
		"a.csv":            "n\tm\n1\t\"x\n", "b.csv": "n\tm\n\\N\t\\N\n",
	}, csv.Options{}, "t")
	if err != nil || types != "n int64; m utf8; " {
		t.Errorf("%s, %v", types, err)
	}
	if diff := cmp.Diff([]string{`1|"\"x"`, "NULL|NULL"}, rows); diff != "" {
		t.Error(diff)
	}
}

// TestPackageFaults checks that each error names its place in the JSON.
func TestPackageFaults(t *testing.T) {
	for text, fault := range map[string]string{
		"{\n \"resources\": [,]}":                                                                                                       "datapackage.json:2:",
		`{"resources": [{"path": "../secret.csv"}]}`:                                                                                    `resources[0].path: "../secret.csv" is not a path inside the directory of the package`,
		`{"resources": [{"path": "t.csv", "schema": "../s.json"}]}`:                                                                     `resources[0]: "../s.json" is not a path inside the directory of the package`,
		`{"resources": [{"path": "t.csv", "schema": "t.csv"}]}`:                                                                         "t.csv:1:1: invalid character",
		`{"resources": [{"path": "t.csv", "dialect": {"skipInitialSpace": true}}]}`:                                                     "resources[0].dialect.skipInitialSpace: not supported: spaces are part of a field",
		`{"resources": [{"path": "t.csv", "dialect": {"quoteChar": "x", "delimiter": "x"}}]}`:                                           "delimiter and quote are both 'x'",
		`{"resources": [{"path": "t.csv", "encoding": "ebcdic"}]}`:                                                                      `resources[0].encoding: unknown encoding "ebcdic"`,
		`{"resources": [{"path": "t.csv", "dialect": {"delimiter": ""}}]}`:                                                              `resources[0].dialect.delimiter: want one ASCII character`,
		`{"resources": [{"path": "t.csv", "schema": {"fields": [{"name": "a", "type": "interger"}]}}]}`:                                 `schema.fields[0].type: unknown type "interger"; the nearest is "integer"`,
		`{"resources": [{"path": "t.csv", "schema": {"primaryKey": "b", "fields": [{"name": "a"}]}}]}`:                                  `schema.primaryKey: unknown field "b"`,
		`{"resources": [{"path": "t.csv", "schema": {"fields": [{"name": "a", "type": "date", "format": "%q"}]}}]}`:                     `schema.fields[0].format: %q in "%q" is not supported`,
		`{"resources": [{"path": "t.csv", "schema": {"fields": [{"name": "b"}]}}]}`:                                                     `t.csv: column 1 is "a", where datapackage.json declares "b"`,
		`{"resources": [{"path": "t.csv", "schema": {"fields": [{"name": "a"}], "foreignKeys": [{"reference": {"resource": "zz"}}]}}]}`: `foreignKeys[0]: it has no fields`,
	} {
		_, _, err := read(t, map[string]string{"datapackage.json": text, "t.csv": "a\n1\n"}, csv.Options{}, "t")
		if err == nil || !strings.Contains(err.Error(), fault) || sources.KindOf(err) != sources.Invalid {
			t.Errorf("%s:\n%v, want %q", text, err, fault)
		}
	}
}

// TestOpen checks which URIs are accepted.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.csv", "x\n1\n")
	write("b.csv", "x\n1\n")
	write("note.txt", "x\n1\n")
	for uri, want := range map[string][]string{"": {"a", "b"}, "a.csv": {"a"}, "*.csv": {"a", "b"}, "note.txt": {"note"}} {
		source, err := csv.Open(t.Context(), sources.Config{URI: filepath.Join(dir, uri)})
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		catalog, err := source.Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, table := range catalog.Tables {
			names = append(names, table.Name)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", uri, diff)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
	for uri, kind := range map[string]sources.Kind{"c.csv": sources.NotFound, "*.tsv": sources.NotFound, "[.csv": sources.Invalid} {
		if _, err := csv.Open(t.Context(), sources.Config{URI: filepath.Join(dir, uri)}); sources.KindOf(err) != kind {
			t.Errorf("%s: %v, want %s", uri, err, kind)
		}
	}
	if _, err := csv.Open(t.Context(), sources.Config{URI: dir, Options: map[string]string{"heder": "no", "delimiter": "ab"}}); err == nil ||
		!strings.Contains(err.Error(), `the nearest is "header"`) || !strings.Contains(err.Error(), `option "delimiter": want one ASCII character`) {
		t.Errorf("options: %v", err)
	}
	// A file that changed while the source is open is not read with the old header.
	source, err := csv.Open(t.Context(), sources.Config{URI: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	write("a.csv", "y,x\n1,2\n")
	for _, err := range session.Scan(t.Context(), &sources.Query{Table: "a"}) {
		if sources.KindOf(err) != sources.Unavailable {
			t.Errorf("a changed file: %v", err)
		}
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
}

// TestShop checks a generated shop value by value and by the contract.
func TestShop(t *testing.T) {
	shop, dir := testkit.Shop{Seed: 5, Orders: 300}, t.TempDir()
	if err := shop.WriteCSV(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	source, err := csv.Open(t.Context(), sources.Config{URI: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := testkit.TestSource(t.Context(), source); err != nil {
		t.Error(err)
	}
	session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range shop.Tables() {
		var rows int64
		for batch, err := range session.Scan(context.Background(), &sources.Query{Table: table}) {
			if err != nil {
				t.Fatal(err)
			}
			rows += batch.Record.NumRows()
		}
		if want := shop.Rows(table); rows != want {
			t.Errorf("%s has %d rows, want %d", table, rows, want)
		}
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
}

// TestSeparatorOfSeveralFiles checks that all files of a table have the same delimiter,
// also if the sample of a file is remembered.
func TestSeparatorOfSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"1.csv": "sep=;\na;b\n1;2\n", "2.csv": "a;b\n3;4\n", "3.csv": "sep=;\na;b\n5;6\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		source, err := csv.Open(t.Context(), sources.Config{URI: dir, Options: map[string]string{"table": "t"}})
		if err != nil {
			t.Fatal(err)
		}
		testkit.AwaitVersion(t, source, "t")
		session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
		if err != nil {
			t.Fatal(err)
		}
		rows := int64(0)
		for batch, err := range session.Scan(t.Context(), &sources.Query{Table: "t", Columns: []string{"b"}}) {
			if err != nil {
				t.Fatal(err)
			}
			rows += batch.Record.NumRows()
		}
		if rows != 3 {
			t.Errorf("%d rows, want 3", rows)
		}
		for _, err := range []error{session.Close(), source.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	files := map[string]string{"1.csv": "a;b\n1;2\n", "2.csv": "sep=|\na|b\n3|4\n"}
	_, _, err := read(t, files, csv.Options{Table: "t", Delimiter: ';'}, "t")
	if err == nil || !strings.Contains(err.Error(), "2.csv: column 1 is") {
		t.Errorf("the error is %v", err)
	}
	_, _, err = read(t, map[string]string{"1.csv": "a,b\n1,2\n", "2.csv": "sep=|\na|b\n3|4\n"}, csv.Options{Table: "t"}, "t")
	if want := "2.csv:1:5: the first line makes '|' the delimiter, but the table is read with ','"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

// TestNamesOfFiles opens files whose names have special characters.
func TestNamesOfFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"what?.csv", "100%.csv", "a%3Fb.csv", "what2.csv"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a\n1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for uri, tables := range map[string][]string{
		"what%3F.csv": {"what?"}, "what?.csv": {"what?"}, "100%.csv": {"100%"}, "100%25.csv": {"100%"}, "a%3Fb.csv": {"a%3Fb"}, "wha%3F?.csv": {"what2", "what?"},
	} {
		source, err := csv.Open(t.Context(), sources.Config{URI: filepath.Join(dir, uri)})
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		catalog, err := source.Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, table := range catalog.Tables {
			got = append(got, table.Name)
		}
		if diff := cmp.Diff(tables, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", uri, diff)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := csv.Open(t.Context(), sources.Config{URI: filepath.Join(dir, "what"), Options: map[string]string{".csv": "", "heder": "x"}})
	if err == nil || !strings.Contains(err.Error(), `option ".csv": there is no such option: write %3F for a question mark`) || !strings.Contains(err.Error(), `the nearest is "header"`) {
		t.Errorf("the error is %v", err)
	}
}

// TestEveryRecordLeftOut checks that a table whose records are all left out is an
// error, and that a table with one good record is none, whether or not a query wants
// that record.
func TestEveryRecordLeftOut(t *testing.T) {
	bad, good := "a,b\n1,2,3\n4,5,6\n", "a,b\n1,2,3\n7,8\n4,5,6\n"
	_, rows, err := read(t, map[string]string{"t.csv": bad}, csv.Options{SkipBad: true}, "t")
	want := "no record can be read: on_error=skip left out 2 records, the first at t.csv:2:5: the record has 3 fields, but the table has 2 columns"
	if len(rows) > 0 || sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), want) {
		t.Errorf("%q, error %v", rows, err)
	}
	if _, rows, err = read(t, map[string]string{"t.csv": good}, csv.Options{SkipBad: true}, "t"); err != nil || len(rows) != 1 {
		t.Errorf("%q, error %v", rows, err)
	}
	if _, rows, err = read(t, map[string]string{"t.csv": "a,b\n"}, csv.Options{SkipBad: true}, "t"); err != nil || len(rows) != 0 {
		t.Errorf("%q, error %v", rows, err)
	}
	for _, c := range []struct {
		text    string
		query   sources.Query
		skipped int64
		fault   sources.Kind
	}{
		{good, sources.Query{Where: sources.Comparison{Column: "a", Op: sources.OpEq, Value: sources.Value{Type: arrow.PrimitiveTypes.Int64, V: int64(1)}}}, 2, 0},
		{good, sources.Query{Columns: []string{}}, 2, 0},
		{bad, sources.Query{Columns: []string{}}, 2, sources.Invalid},
	} {
		source, err := csv.New(fstest.MapFS{"t.csv": {Data: []byte(c.text), ModTime: time.Unix(1e9, 0)}}, csv.Options{SkipBad: true})
		if err != nil {
			t.Fatal(err)
		}
		session, err := source.Begin(t.Context(), sources.Env{Mem: memory.DefaultAllocator})
		if err != nil {
			t.Fatal(err)
		}
		c.query.Table = "t"
		skipped, kind := int64(0), sources.Kind(0)
		for batch, err := range session.Scan(t.Context(), &c.query) {
			if err != nil {
				kind = sources.KindOf(err)
				break
			}
			skipped += batch.Skipped.Records
		}
		if skipped != c.skipped || kind != c.fault {
			t.Errorf("%+v: %d left out, error %v; want %d, %v", c.query, skipped, kind, c.skipped, c.fault)
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}
}
