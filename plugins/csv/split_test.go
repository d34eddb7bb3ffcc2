package csv

import (
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

// hard holds files in which every byte matters for the division into records.
var hard = []string{
	"a,b\n1,x\n2,y\n",
	"a,b\r\n1,\"x\r\n\"\"y\"\"\"\r\n\"\",2\r\n",
	"a,b\r1,x\r\r2,\"y\r\"\r",
	"a,b\n\n\r\n\r1,x\n\"multi\n\nline\",\"a,b\"\n,\n\"\",\"\"\"\"\n",
	"a,b\r\n\"\r\",\"\n\"\r\n\"\r\n\",x",
	"a,b\n12345678,abcdefgh\n1234567,abcdefghi\n123456789012345678,\"abcdefgh\"\"ijklmnop\"\n",
	"a,b\n\"a very long field, longer than some words of eight bytes, with a \"\"quote\"\" or two\",\xc3\xa9\xe2\x82\xac\n",
	"a,b\nx,y",
	"a,b\nx,",
	"a,b\n",
	"a,b",
}

// halves returns a text in two reads.
type halves struct {
	text string
	at   int
}

func (h *halves) Read(p []byte) (int, error) {
	if h.text == "" {
		return 0, io.EOF
	}
	n := len(h.text)
	if h.at > 0 {
		n, h.at = min(h.at, n), 0
	}
	n = copy(p, h.text[:n])
	h.text = h.text[n:]
	return n, nil
}

// TestChunkBoundaries checks that records do not depend on how reads are divided.
func TestChunkBoundaries(t *testing.T) {
	escaped := rfc4180
	escaped.escape, escaped.comment = '\\', '#'
	for _, text := range append(hard, "a\\,b,c\n\"x\\\"y\",\\\\\n# no, \"\n1,2\n") {
		for _, d := range []dialect{rfc4180, escaped} {
			want, fault := scanAll(strings.NewReader(text), d)
			if fault != nil {
				continue
			}
			for at := range len(text) {
				got, err := scanAll(&halves{text, at}, d)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%q cut at %d: %v\n%s", text, at, err, diff)
				}
			}
		}
	}
}

// TestParts checks that wherever a file is divided, its partitions hold every record
// once.
func TestParts(t *testing.T) {
	for _, text := range hard {
		fsys := fstest.MapFS{"t.csv": {Data: []byte(text), ModTime: time.Unix(1e9, 0)}}
		opened, err := New(fsys, Options{Text: true})
		if err != nil {
			t.Fatal(err)
		}
		s := opened.(*source)
		if _, err := s.Catalog(t.Context()); err != nil {
			t.Fatal(err)
		}
		table := s.tables["t"]
		records := func(spans ...positionRange) (all []string) {
			w := s.newRecordReader(t.Context(), table, memory.DefaultAllocator, smallestBuffer, spans...)
			defer w.close()
			for {
				more, err := w.next()
				if err != nil {
					t.Fatal(err)
				}
				if !more {
					return all
				}
				all = append(all, string(w.scanner.record))
			}
		}
		want := records(table.wholeTable())
		for at := table.files[0].start; at <= int64(len(text)); at++ {
			s.quotes = quoteParity{}
			var got []string
			for _, part := range []positionRange{{positionOf(0, table.files[0].start), at}, {at, positionOf(0, 1<<offsetBits-1)}} {
				part, err := s.alignPartition(t.Context(), table, part)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, records(part)...)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q divided at %d (-want +got):\n%s", text, at, diff)
			}
		}
	}
}

// TestPlaces checks the line and the column of an error whose record was found
// without reading the lines before it.
func TestPlaces(t *testing.T) {
	text := "a,b\r\n1,\"x\ny\"\n2,z\r3,z,z\n4,z\n"
	at := int64(strings.Index(text, "3,z"))
	fsys := fstest.MapFS{"t.csv": {Data: []byte(text)}}
	opened, err := New(fsys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*source)
	if _, err := s.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := s.newRecordReader(t.Context(), s.tables["t"], memory.DefaultAllocator, smallestBuffer, positionRange{at, math.MaxInt64})
	defer w.close()
	_, err = w.next()
	want := fmt.Sprintf("t.csv:5:5: the record has 3 fields, but the table has 2 columns (at byte %d); set on_error=skip to leave such records out", at+4)
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestResync checks that the line after a syntax error is read as a record.
func TestResync(t *testing.T) {
	for text, want := range map[string]struct {
		records []string
		places  []string
	}{
		"a,b\n1,2\nx\"y,3\n4,5\n":           {[]string{"1,2\n", "4,5\n"}, []string{"t.csv:3:2: a quote in an unquoted field"}},
		"a,b\n\"x\"y,3\n4,5\n":              {[]string{"4,5\n"}, []string{"t.csv:2:4: 'y' after a closing quote"}},
		"a,b\n\"x,3\n4,5\n":                 {[]string{"4,5\n"}, []string{"t.csv:2:1: the quote that begins here is never closed"}},
		"a,b\n1\n2,3,4\n5,6":                {[]string{"5,6"}, []string{"t.csv:2:1: the record has 1 field", "t.csv:3:5: the record has 3 fields"}},
		"a,b\nx,\"two\nlines\"z\n\n4,5\r\n": {[]string{"4,5\r\n"}, []string{"t.csv:3:7: 'z' after a closing quote"}},
		"a,b\n1,\"1234567890123\"\n4,5\n":   {[]string{"4,5\n"}, []string{"t.csv:2:3: the field has more than 10 bytes"}},
		"a,b\n1,1234567890123\n4,5\n":       {[]string{"4,5\n"}, []string{"t.csv:2:3: the field has more than 10 bytes"}},
	} {
		fsys := fstest.MapFS{"t.csv": {Data: []byte(text)}}
		opened, err := New(fsys, Options{SkipBad: true, MaxField: 10})
		if err != nil {
			t.Fatal(err)
		}
		s := opened.(*source)
		if _, err := s.Catalog(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := s.newRecordReader(t.Context(), s.tables["t"], memory.DefaultAllocator, smallestBuffer, s.tables["t"].wholeTable())
		var records []string
		for {
			more, err := w.next()
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
			records = append(records, string(w.scanner.record))
		}
		skipped := w.takeSkipped()
		w.close()
		if diff := cmp.Diff(want.records, records); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
		if len(skipped.Locations) != len(want.places) || skipped.Records != int64(len(want.places)) {
			t.Errorf("%q: %+v is skipped, want %q", text, skipped, want.places)
			continue
		}
		for i, place := range want.places {
			if !strings.HasPrefix(skipped.Locations[i], place) {
				t.Errorf("%q: %s, want %s", text, skipped.Locations[i], place)
			}
		}
	}
}

// TestFieldWithoutMemory checks that a field which does not fit in memory is an error
// with its place.
func TestFieldWithoutMemory(t *testing.T) {
	in := io.MultiReader(strings.NewReader("a\n\""), io.LimitReader(endless{}, 1<<20), strings.NewReader("\"\n"))
	s := newScanner(in, "t.csv", rfc4180, smallestBuffer, &bounded{left: 256 << 10})
	defer s.release()
	if _, err := s.next(); err != nil {
		t.Fatal(err)
	}
	_, err := s.next()
	if sources.KindOf(err) != sources.Exhausted || !strings.Contains(err.Error(), "t.csv: the record at byte 2 has more than") {
		t.Errorf("%v", err)
	}
}

// bounded is an allocator with a limit.
type bounded struct {
	memory.GoAllocator
	left int
}

func (b *bounded) Allocate(n int) []byte {
	if b.left -= n; b.left < 0 {
		panic(sources.Errorf(sources.Exhausted, "", "", "no memory"))
	}
	return b.GoAllocator.Allocate(n)
}
