package csv

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

// scanAll reads every record of in.
func scanAll(in io.Reader, d dialect) (records [][]string, err error) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	s := newScanner(in, "t.csv", d, smallestBuffer, mem)
	defer s.release()
	for {
		more, err := s.next()
		if err != nil || !more {
			return records, err
		}
		var record []string
		for i := range s.cells {
			record = append(record, string(s.text(i)))
		}
		records = append(records, record)
	}
}

// FuzzScanner checks that the scanner and a strict encoding/csv agree, however the
// bytes arrive.
func FuzzScanner(f *testing.F) {
	for _, text := range []string{"a,b\n1,2\n", "\"x \"\"y\"\"\",\"1\r\n2\"\r\n", "a\n\nb", "\"a\"b\n", ",\n,,", "a\"b\n", "\"", "\"\"\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := scanAll(strings.NewReader(text), rfc4180)
		slow, slowErr := scanAll(iotest.OneByteReader(strings.NewReader(text)), rfc4180)
		if diff := cmp.Diff(got, slow); diff != "" || (err == nil) != (slowErr == nil) {
			t.Errorf("%q byte by byte: %v, %v\n%s", text, err, slowErr, diff)
		}
		// encoding/csv takes a lone CR for data, and makes LF of CRLF in quotes.
		if strings.Contains(text, "\r") {
			return
		}
		r := csv.NewReader(strings.NewReader(text))
		r.FieldsPerRecord = -1
		want, wantErr := r.ReadAll()
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%q: %v, encoding/csv: %v", text, err, wantErr)
		}
		if err == nil {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q (-want +got):\n%s", text, diff)
			}
		}
	})
}

func FuzzPackage(f *testing.F) {
	f.Add([]byte(`{"resources": [{"path": "t.csv", "schema": {"fields": [{"name": "a", "type": "number", "scale": 2}], "primaryKey": "a"}}]}`))
	f.Add([]byte(`{"resources": [{"path": "t.csv", "schema": "s.json", "dialect": "../d.json"}]}`))
	f.Add([]byte(`{"resources": [{"path": ["t.csv"], "dialect": {"delimiter": ";"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parsePackage(fstest.MapFS{"s.json": {Data: []byte(`{"fields": [{"name": "a"}]}`)}}, text, rfc4180)
		if err != nil {
			return
		}
		for _, d := range all {
			for _, name := range d.fileNames {
				if d.table == "" || !fs.ValidPath(name) {
					t.Errorf("the file %q of table %q", name, d.table)
				}
			}
			for _, c := range d.columns {
				if c.dataType() == nil || c.name == "" {
					t.Errorf("the column %+v", c)
				}
			}
		}
	})
}

func FuzzCursor(f *testing.F) {
	table := &table{identity: "t.csv\x001-2", files: []tableFile{{start: 5}, {start: 3}}}
	f.Add([]byte(table.cursor(cursorPosition{position: 100, rows: 6})))
	f.Add([]byte(table.cursor(cursorPosition{position: positionOf(1, 3)})))
	f.Add([]byte(table.cursor(cursorPosition{position: 100, prefix: prefixState{upTo: 200, cuts: []int64{50, 70}, digest: [16]byte{1}, files: [8]byte{2}}})))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := table.parseCursor(text)
		if err != nil {
			return
		}
		again, err := table.parseCursor(table.cursor(p))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v becomes %+v, %v", p, again, err)
		}
	})
}

// FuzzPartition checks that any bytes are an error or a range within one file.
func FuzzPartition(f *testing.F) {
	table := &table{identity: "t.csv\x001-2", files: []tableFile{{start: 5, size: 100}, {start: 3, size: 9}}}
	for _, part := range table.partitions() {
		f.Add([]byte(part))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, part []byte) {
		r, err := table.parsePartition(part)
		if err != nil {
			if sources.KindOf(err) != sources.Invalid {
				t.Errorf("%v is not invalid", err)
			}
			return
		}
		if n := fileOf(r.from); n < 0 || n >= len(table.files) || n != fileOf(r.to) || r.from >= r.to || offsetOf(r.from) < table.files[n].start {
			t.Errorf("%x is the range %+v", part, r)
		}
	})
}

// FuzzOptions checks that any option is an error of its own or gives a dialect, also one that
// is refused, and that the source opens with it or says why not.
func FuzzOptions(f *testing.F) {
	for i := range options {
		for _, value := range []string{"", "true", "tab", ";", "10", "-1", "latin1", "gzip", "a.b->c.d"} {
			f.Add(options[i].name, value)
		}
	}
	f.Add("delimitre", ";")
	f.Fuzz(func(t *testing.T, key, value string) {
		o, err := parseOptions(map[string]string{key: value})
		if err != nil {
			if !strings.Contains(err.Error(), "option ") {
				t.Errorf("the error does not say that it is about an option: %v", err)
			}
			return
		}
		source, err := New(fstest.MapFS{"t.csv": {Data: []byte("a,b\n1,2\n")}}, o)
		if err != nil {
			if kind := sources.KindOf(err); kind == sources.Internal || kind == sources.Unavailable {
				t.Errorf("%q=%q: %s: %v", key, value, kind, err)
			}
			return
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestHugeRecord checks that endless input which is not CSV is an error and does
// not use up the memory.
func TestHugeRecord(t *testing.T) {
	d := rfc4180
	d.maxField = 1 << 20
	for text, want := range map[string]string{
		"a\n\"": "the field has more than 1048576 bytes",
		"a\nb":  "the field has more than 1048576 bytes",
	} {
		_, err := scanAll(io.MultiReader(strings.NewReader(text), io.LimitReader(endless{}, 1<<30)), d)
		var f *ParseError
		if !errors.As(err, &f) || f.Offset != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestReadFault checks that an error of the reader is returned.
func TestReadFault(t *testing.T) {
	fault := errors.New("the disk is on fire")
	_, err := scanAll(io.MultiReader(strings.NewReader("a\n1"), iotest.ErrReader(fault)), rfc4180)
	if !errors.Is(err, fault) {
		t.Errorf("%v", err)
	}
}

// BenchmarkScanner compares with encoding/csv on the same bytes.
func BenchmarkScanner(b *testing.B) {
	line := "12345,some text here,19.90,\"quoted, text\",2026-02-28T10:00:00Z\n"
	text := bytes.Repeat([]byte(line), 20_000)
	b.Run("penstock", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			s := newScanner(bytes.NewReader(text), "t.csv", rfc4180, largestBuffer, memory.DefaultAllocator)
			for {
				more, err := s.next()
				if err != nil {
					b.Fatal(err)
				}
				if !more {
					break
				}
			}
		}
	})
	b.Run("encoding-csv", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			r := csv.NewReader(bytes.NewReader(text))
			r.ReuseRecord = true
			for {
				if _, err := r.Read(); err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
