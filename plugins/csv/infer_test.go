package csv_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/plugins/csv"
	"github.com/penstock-data/penstock/sources"
)

// lateFile returns a file whose values change after 20,000 records in every way that
// makes a type wider.
func lateFile() string {
	var b strings.Builder
	b.WriteString("places,whole,code,word,large,day,zone,truth,nothing\n")
	for range 20_000 {
		b.WriteString("1.5,7,7,7,7,2024-01-02,2024-01-02T03:04:05Z,true,\n")
	}
	b.WriteString("1.2345,2.25,007,n/a,9223372036854775808,2024-01-02 03:04:05,2024-01-02T03:04:05,yes,4\n")
	return b.String()
}

const lateTypes = "places decimal(38, 4); whole decimal(38, 2); code utf8; word utf8; large decimal(38, 0); day utf8; zone utf8; truth utf8; nothing int64; "

// TestInferFromAllRecords: a type is that of all values of a file, wherever they are.
func TestInferFromAllRecords(t *testing.T) {
	text := lateFile()
	for name, files := range map[string]map[string]string{
		"plain":         {"t.csv": text},
		"CRLF":          {"t.csv": strings.ReplaceAll(text, "\n", "\r\n")},
		"gzip":          {"t.csv.gz": gzipped(t, text)},
		"zstd":          {"t.csv.zst": zstandard(t, text)},
		"utf-16":        {"t.csv": utf16(text, true)},
		"semi-declared": {"t.csv": text, "datapackage.json": `{"resources": [{"name": "t", "path": "t.csv"}]}`},
	} {
		types, rows, err := read(t, files, csv.Options{}, "t")
		if err != nil || types != lateTypes || len(rows) != 20_001 {
			t.Errorf("%s: %s, %d rows, %v", name, types, len(rows), err)
		}
	}
	// What a package leaves open is inferred in the same way.
	types, rows, err := read(t, map[string]string{
		"t.csv":            "n,at\n" + strings.Repeat("1.5,\n", 5000) + "1e-3,2024-01-02T03:04:05Z\n",
		"datapackage.json": `{"resources": [{"name": "t", "path": "t.csv", "schema": {"fields": [{"name": "n", "type": "number"}, {"name": "at", "type": "datetime"}]}}]}`,
	}, csv.Options{}, "t")
	if err != nil || types != "n decimal(38, 3); at timestamp[us, tz=UTC]; " || len(rows) != 5001 {
		t.Errorf("declared: %s, %d rows, %v", types, len(rows), err)
	}
}

// TestInferSkipsBadRecords: where bad records are left out, inference goes on after them,
// as the scan does.
func TestInferSkipsBadRecords(t *testing.T) {
	text := "a,b\n1,2\nx\"y,3\n4\n5,6.5\n"
	types, rows, err := read(t, map[string]string{"t.csv": text}, csv.Options{SkipBad: true}, "t")
	if err != nil || types != "a int64; b decimal(38, 1); " || !cmp.Equal(rows, []string{"1|2.0", "5|6.5"}) {
		t.Errorf("%s, %q, %v", types, rows, err)
	}
}

// TestLateValue: the error of a value that inference did not see says what was seen, and
// names every remedy. Each of them reads the file.
func TestLateValue(t *testing.T) {
	for _, c := range []struct{ early, late, field string }{
		{"7", "2.25", `{"name":"v","type":"number","scale":2}`},
		{"7", "9223372036854775808", `{"name":"v","type":"number","scale":0}`},
		{"7", "1e300", `{"name":"v","type":"number","format":"float"}`},
		{"1.5", "1.2345", `{"name":"v","type":"number","scale":4}`},
		{"1.5", "1e-3", `{"name":"v","type":"number","scale":3}`},
		{"1.25", "2e0", `{"name":"v","type":"number","scale":2}`},
		{"1.5", "n/a", `{"name":"v","type":"string"}`},
		{"7", "007", `{"name":"v","type":"string"}`},
		{"7", "-0", `{"name":"v","type":"string"}`},
		{"7", "-", `{"name":"v","type":"string"}`},
		{"7", `""`, `{"name":"v","type":"string"}`},
		{"true", "yes", `{"name":"v","type":"string"}`},
		{"2024-01-02", "2024-01-02 03:04:05", `{"name":"v","type":"string"}`},
		{"2024-01-02 03:04:05", "2024-01-02T03:04:05Z", `{"name":"v","type":"string"}`},
	} {
		files := map[string]string{"t.csv": fmt.Sprintf("id,v\n1,%s\n2,%s\n", c.early, c.late)}
		_, _, err := read(t, files, csv.Options{Sample: 1}, "t")
		want := "inferred from the first 1 record (at byte %d); set sample=all to infer types from all records, or types=text to read columns as text, or declare it in datapackage.json, as in " + c.field + ", or set on_error=skip to leave such records out"
		if want = fmt.Sprintf(want, len("id,v\n1,\n2,")+len(c.early)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s, then %s: %v\nwant %s", c.early, c.late, err, want)
		}
		for name, o := range map[string]csv.Options{"sample=all": {Sample: csv.AllRecords}, "types=text": {Text: true}} {
			if _, rows, err := read(t, files, o, "t"); err != nil || len(rows) != 2 {
				t.Errorf("%s, then %s, with %s: %q, %v", c.early, c.late, name, rows, err)
			}
		}
		files["datapackage.json"] = `{"resources": [{"name": "t", "path": "t.csv", "schema": {"fields": [{"name":"id","type":"integer"}, ` + c.field + `]}}]}`
		if _, rows, err := read(t, files, csv.Options{Sample: 1}, "t"); err != nil || len(rows) != 2 {
			t.Errorf("%s, then %s, declared: %q, %v", c.early, c.late, rows, err)
		}
	}
}

// TestSeveralFilesAsOneTable: the types are those of all files.
func TestSeveralFilesAsOneTable(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		types string
		rows  []string
	}{
		"more places":       {map[string]string{"1.csv": "v\n10\n", "2.csv": "v\n2.5\n"}, "v decimal(38, 1); ", []string{"10.0", "2.5"}},
		"fewer places":      {map[string]string{"1.csv": "v\n2.5\n", "2.csv": "v\n10\n", "3.csv": "v\n0.125\n"}, "v decimal(38, 3); ", []string{"2.500", "10.000", "0.125"}},
		"nothing at first":  {map[string]string{"1.csv": "v,w\n,1\n", "2.csv": "v,w\n7,1\n"}, "v int64; w int64; ", []string{"NULL|1", "7|1"}},
		"an empty file":     {map[string]string{"1.csv": "v\n1\n", "2.csv": ""}, "v int64; ", []string{"1"}},
		"no common type":    {map[string]string{"1.csv": "v\n1\n", "2.csv": "v\ntrue\n"}, "v utf8; ", []string{`"1"`, `"true"`}},
		"too many digits":   {map[string]string{"1.csv": "v\n0." + strings.Repeat("1", 30) + "\n", "2.csv": "v\n1234567890.5\n"}, "v utf8; ", []string{`"0.` + strings.Repeat("1", 30) + `"`, `"1234567890.5"`}},
		"compressed as one": {map[string]string{"1.csv": "v\n1\n", "2.csv.gz": gzipped(t, "v\n2.5\n")}, "v decimal(38, 1); ", []string{"1.0", "2.5"}},
	} {
		types, rows, err := read(t, c.files, csv.Options{Table: "t"}, "t")
		if err != nil || types != c.types || !cmp.Equal(rows, c.rows) {
			t.Errorf("%s: %s, %q, %v", name, types, rows, err)
		}
	}
	// So are those of a package's resource.
	files := map[string]string{"1.csv": "v\n10\n", "2.csv": "v\n2.5\n", "datapackage.json": `{"resources": [{"name": "t", "path": ["1.csv", "2.csv"], "schema": {"fields": [{"name": "v", "type": "number"}]}}]}`}
	if types, rows, err := read(t, files, csv.Options{}, "t"); err != nil || types != "v decimal(38, 1); " || !cmp.Equal(rows, []string{"10.0", "2.5"}) {
		t.Errorf("declared: %s, %q, %v", types, rows, err)
	}
}

// TestUnion: with union=names, files may have different columns in any order.
func TestUnion(t *testing.T) {
	files := map[string]string{
		"1.csv": "id,name\n1,a\n2,\"b\nb\"\n",
		"2.csv": "price,id\n2.5,3\n",
		"3.csv": "id\n4\n\n5\n",
		"4.csv": "name,price,id\n,1,6\n",
	}
	types, rows, err := read(t, files, csv.Options{Table: "t", Union: true, FileColumn: "file"}, "t")
	want := []string{`1|"a"|NULL|"1.csv"`, `2|"b\nb"|NULL|"1.csv"`, `3|NULL|2.5|"2.csv"`, `4|NULL|NULL|"3.csv"`, `NULL|NULL|NULL|"3.csv"`, `5|NULL|NULL|"3.csv"`, `6|NULL|1.0|"4.csv"`}
	if diff := cmp.Diff(want, rows); err != nil || types != "id int64; name utf8; price decimal(38, 1); file utf8 required; " || diff != "" {
		t.Errorf("%s, %v (-want +got):\n%s", types, err, diff)
	}
	_, rows, err = read(t, map[string]string{"1.csv": "1,x\n", "2.csv": "2\n"}, csv.Options{Table: "t", Union: true, NoHeader: true}, "t")
	if want := []string{`1|"x"`, "2|NULL"}; err != nil || !cmp.Equal(rows, want) {
		t.Errorf("without headers: %q, %v", rows, err)
	}
	// A record is measured by its own file.
	_, _, err = read(t, map[string]string{"1.csv": "id,name\n1,a\n", "2.csv": "id\n2,b\n"}, csv.Options{Table: "t", Union: true}, "t")
	if err == nil || !strings.Contains(err.Error(), "2.csv:2:3: the record has 2 fields, but the file has 1 column") {
		t.Errorf("a long record: %v", err)
	}
	_, _, err = read(t, files, csv.Options{Table: "t"}, "t")
	if err == nil || !strings.Contains(err.Error(), `2.csv: column 1 is "price", where 1.csv has "id"; set union=names`) {
		t.Errorf("without union: %v", err)
	}
	if _, err = csv.Open(t.Context(), sources.Config{URI: t.TempDir(), Options: map[string]string{"union": "names"}}); sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "table=NAME") {
		t.Errorf("without table: %v", err)
	}
}

// TestEncodingAdvice: the error for bytes that are not text names the encodings that read
// the file, and these do.
func TestEncodingAdvice(t *testing.T) {
	for name, c := range map[string]struct {
		text, encoding, want string
		reads                []string
	}{
		"Latin-1":           {"a,b\n1,caf\xe9\n", "", "set encoding=windows-1252 or latin-1, which read the file alike", []string{"windows-1252", "latin-1"}},
		"in the header":     {"caf\xe9,b\n1,2\n", "", "set encoding=windows-1252 or latin-1, which read the file alike", []string{"latin-1"}},
		"quotation marks":   {"a,b\n1,\x93x\x94 caf\xe9\n", "", "set encoding=windows-1252, which reads the file", []string{"windows-1252"}},
		"undefined bytes":   {"a,b\n1,\x81\x82\n", "", "convert the file to UTF-8: none of the encodings tried reads it", nil},
		"UTF-16":            {utf16("a,b\n1,2\n", true)[2:], "", "set encoding=utf-16be, which reads the file", []string{"utf-16be"}},
		"the other UTF-16":  {utf16("a,b\n1,2\n", false)[2:], "", "set encoding=utf-16le, which reads the file", []string{"utf-16le"}},
		"zero bytes":        {"a\x00,b\n1,2\n\x00\x00", "", "convert the file to UTF-8: none of the encodings tried reads it", nil},
		"a picture":         {"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "", "convert the file to UTF-8: none of the encodings tried reads it", nil},
		"damaged UTF-8":     {"a,b\n1,é\n2,ö\n3,x\xff\n", "", "repair the file: it has 2 characters in UTF-8, and 1 byte that is not (tried on all of it); encoding=windows-1252 would read all of them as other characters", []string{"windows-1252"}},
		"not windows-1252":  {"a,b\n1,\xc3\x81\n", "windows-1252", "set encoding=utf-8, which reads the file", []string{"utf-8"}},
		"not UTF-16":        {"a,b\n1,\xdc\xe4\xdc\xe4\n", "utf-16be", "set encoding=windows-1252 or latin-1, which read the file alike", []string{"latin-1"}},
		"in a later record": {"a,b\n" + strings.Repeat("1,x\n", 5000) + "1,\xe9\n", "", "set encoding=windows-1252 or latin-1", []string{"windows-1252"}},
	} {
		_, _, err := read(t, map[string]string{"t.csv": c.text}, csv.Options{Encoding: c.encoding}, "t")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		for _, encoding := range c.reads {
			if _, _, err := read(t, map[string]string{"t.csv": c.text}, csv.Options{Encoding: encoding}, "t"); err != nil {
				t.Errorf("%s: with %s: %v", name, encoding, err)
			}
		}
		packed := gzipped(t, c.text)
		if _, _, err := read(t, map[string]string{"t.csv": packed}, csv.Options{Encoding: c.encoding}, "t"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, compressed: %v, want %q", name, err, c.want)
		}
	}
	declared := map[string]string{"t.csv": "a,b\n1,caf\xe9\n", "datapackage.json": `{"resources": [{"name": "t", "path": "t.csv"}]}`}
	if _, _, err := read(t, declared, csv.Options{}, "t"); err == nil || !strings.Contains(err.Error(), `write "encoding": "windows-1252" or "latin-1" for it in datapackage.json`) {
		t.Errorf("declared: %v", err)
	}
}

// TestSampleOption: sample=all is for files; standard input cannot be read again.
func TestSampleOption(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t.csv"), []byte("v\n1\n2.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{"all": "decimal(38, 1)", "1": "int64"} {
		s, err := csv.Open(t.Context(), sources.Config{URI: dir, Options: map[string]string{"sample": value}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Catalog(t.Context())
		if err != nil || c.Tables[0].Schema.Field(0).Type.String() != want {
			t.Errorf("sample=%s: %v, %v", value, c, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, value := range []string{"0", "-1", "some"} {
		if _, err := csv.Open(t.Context(), sources.Config{URI: dir, Options: map[string]string{"sample": value}}); sources.KindOf(err) != sources.Invalid {
			t.Errorf("sample=%s: %v", value, err)
		}
	}
	if _, err := csv.Open(t.Context(), sources.Config{URI: "-", Options: map[string]string{"sample": "all"}}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("sample=all of standard input: %v", err)
	}
}
