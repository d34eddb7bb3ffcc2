package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestGuessesHold: values have the type that was inferred from them, whichever way they
// were added; and no wider type than that is needed for them.
func TestGuessesHold(t *testing.T) {
	values := []string{
		"0", "7", "-7", "10", "00", "007", "+7", "-0", "-0.0", "0.5", ".5", "5.", "-12.25", "1.234567", "12345678", "123456789", "-123456789012345678",
		"9223372036854775807", "9223372036854775808", "-9223372036854775808", "12345678901234567890123456789012345678", "123456789012345678901234567890123456789",
		"0.12345678901234567890123456789012345678", "1e5", "1.2.3", "-", "-1-", "1.", "x", "", "true", "FALSE", "2024-01-02", "2024-13-02", "2024-01-02 03:04:05", "2024-01-02T03:04:05Z", "2024-01-02T03:04:05.123+02:00", "99.99", "1234567.8", "0.1", "00.1", "-0.5",
	}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(rapid.SampledFrom(values), 1, 4).Draw(t, "values")
		list := rapid.SliceOfN(rapid.SampledFrom(some), 1, 8).Draw(t, "records")
		cut := rapid.IntRange(0, len(list)).Draw(t, "cut")
		var parts [2]typeGuess
		var slow, all typeGuess
		for i, v := range list {
			text := append(make([]byte, 0, len(v)+padding), v...)
			slow.add(text)
			part := &parts[0]
			if i >= cut {
				part = &parts[1]
			}
			if !part.addUsual(text) {
				part.add(text)
			}
		}
		all.merge(parts[0])
		all.merge(parts[1])
		a, b := column{inferred: "all records"}, column{inferred: "all records"}
		slow.apply(&a)
		all.apply(&b)
		if a.kind != b.kind || a.scale != b.scale {
			t.Fatalf("%q is of kind %d, scale %d, added in two parts %d, scale %d", list, a.kind, a.scale, b.kind, b.scale)
		}
		for _, v := range list {
			if _, ok := a.parse(append(make([]byte, 0, len(v)+padding), v...), true); !ok {
				t.Fatalf("%q is not %s", v, a.describe())
			}
		}
	})
}

// largeFile returns a file of about size bytes with text that has quotes and line breaks. A
// line within quotes has as many delimiters as a record. The value before an offset is of
// a wider type than all others.
func largeFile(size, late int, multiline bool) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString("id,text,price\n")
	for i := 0; b.Len() < size; i++ {
		price := "1.50"
		if late > 0 && b.Len() >= late {
			price, late = "1.2345", 0
		}
		text := "plain"
		if multiline && r.IntN(3) == 0 {
			text = "\"a \"\"quoted\"\" text,\nwith a line,like,a record\n1,x,7\n\""
		}
		fmt.Fprintf(&b, "%d,%s,%s\n", i, text, price)
	}
	return b.Bytes()
}

// inferLarge returns the types of a file of which only some is read, and what was read.
func inferLarge(t *testing.T, data []byte, limit int64) (*table, string) {
	t.Helper()
	opened, err := New(fstest.MapFS{"t.csv": {Data: data}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*source)
	s.sampleBytes = limit
	catalog, err := s.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	types := ""
	for _, f := range catalog.Tables[0].Schema.Fields() {
		types += f.Type.String() + " "
	}
	return s.tables["t"], types
}

// TestInferLargeFile: of a large file, the beginning, the end and blocks between them are
// read. A line break within quotes does not end a record there.
func TestInferLargeFile(t *testing.T) {
	const size, limit = 12 << 20, 8 << 20 // 2 MiB, and 128 blocks of 48 KiB
	for _, multiline := range []bool{false, true} {
		for name, late := range map[string]int{"the beginning": 1 << 19, "the end": size - 100, "nowhere": 0} {
			want := "int64 utf8 decimal(38, 4) "
			if late == 0 {
				want = "int64 utf8 decimal(38, 2) "
			}
			data := largeFile(size, late, multiline)
			table, types := inferLarge(t, data, limit)
			if types != want || !strings.Contains(table.columns[0].inferred, "the first 2 MiB of t.csv and 12") {
				t.Errorf("multiline %t, %s: %s from %s", multiline, name, types, table.columns[0].inferred)
			}
			records := int64(bytes.Count(data, []byte{'\n'}))
			if rows := (int64(len(data))) / table.rowBytes; !multiline && (rows < records*9/10 || rows > records*11/10) {
				t.Errorf("%d rows, want about %d", rows, records)
			}
		}
	}
}

// TestBlocksAreRecords: wherever a block begins, only records of the file are added, or
// none.
func TestBlocksAreRecords(t *testing.T) {
	data := largeFile(1<<20, 0, true)
	data = append(data, "9,\"the end\",1.50"...)
	want := []column{{kind: integerKind}, {kind: textKind}, {kind: decimalKind, scale: 2}}
	taken := 0
	for at := 100; at < len(data)-1; at += 997 {
		s, _, err := newBareSource(Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.fsys = fstest.MapFS{"t.csv": {Data: data}}
		f := tableFile{name: "t.csv", size: int64(len(data)), state: fileState{size: int64(len(data))}}
		input, err := s.openFile(t.Context(), &f, rfc4180)
		if err != nil {
			t.Fatal(err)
		}
		in := newScanner(input.reader, f.name, rfc4180, largestBuffer, &sampleMemory{most: maxSampleRecord})
		columns := make([]column, 3)
		p := &sampler{source: s, file: &f, input: input, in: in, guess: newRecordGuesser(columns, nil, false), sample: &fileSample{}}
		ok, err := p.block(t.Context(), int64(at), 4<<10)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			taken++
			for i := range columns {
				columns[i].inferred = ""
				p.guess.guesses[i].apply(&columns[i])
			}
			if diff := cmp.Diff(want, columns, cmp.AllowUnexported(column{})); diff != "" {
				t.Fatalf("at %d (-want +got):\n%s", at, diff)
			}
		} else if p.sample.records > 0 {
			t.Fatalf("at %d: %d records of a block that was left out", at, p.sample.records)
		}
		in.release()
		if err := input.Close(); err != nil {
			t.Error(err)
		}
	}
	if all := (len(data) - 100) / 997; taken < all*9/10 {
		t.Errorf("%d of %d blocks were read", taken, all)
	}
}

// TestInferFromTheBeginning: of standard input and of a large compressed file only the
// beginning is read, and the description of the types says so.
func TestInferFromTheBeginning(t *testing.T) {
	text := "v\n" + strings.Repeat("1\n", 5000) + "2.5\n"
	s, err := newStdinSource(strings.NewReader(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.(*source).tables["stdin"].columns[0]; got.kind != integerKind || got.inferred != "the first 1000 records" {
		t.Errorf("standard input: %+v", got)
	}
	data := []byte("\xff\xfe")
	for _, c := range []byte(text) {
		data = append(data, c, 0)
	}
	table, types := inferLarge(t, data, 4<<10)
	if got := table.columns[0].inferred; types != "int64 " || got != "the first 4 KiB of t.csv after decompression and decoding" {
		t.Errorf("another encoding: %s from %s", types, got)
	}
}

// openCounter counts the files that are opened.
type openCounter struct {
	fs.FS
	opened int
}

func (c *openCounter) Open(name string) (fs.File, error) {
	c.opened++
	return c.FS.Open(name)
}

// TestSamplesAreRemembered: a file is read once, until anything about it or about how it is
// read changes.
func TestSamplesAreRemembered(t *testing.T) {
	data := []byte("v\n1\n2.5\n")
	files := &openCounter{FS: fstest.MapFS{"t.csv": {Data: data, ModTime: time.Unix(1e9, 0)}}}
	long := time.Now().Add(-time.Hour)
	state := fileState{size: int64(len(data)), modified: time.Unix(1e9, 0), inode: inode{1, 2, long.UnixNano()}}
	load := func(state fileState, o Options) {
		t.Helper()
		s, d, err := newBareSource(o)
		if err != nil {
			t.Fatal(err)
		}
		s.fsys = files
		tb := &table{tableSpec: tableSpec{table: "t", dialect: d, inferred: true}, files: []tableFile{{name: "t.csv", state: state, size: state.size}}}
		sample, err := s.sampleFile(t.Context(), tb, 0, sampleBytes)
		if err != nil || sample.records != 2 || !cmp.Equal(sample.names, []string{"v"}) {
			t.Fatalf("%+v, %v", sample, err)
		}
	}
	want := func(opened int) {
		t.Helper()
		if files.opened != opened {
			t.Errorf("the file was opened %d times, want %d", files.opened, opened)
		}
	}
	load(state, Options{})
	load(state, Options{})
	load(state, Options{FileColumn: "f"})
	want(1)
	changed := state
	changed.inode.changed++
	load(changed, Options{})
	load(state, Options{Null: []string{"1"}})
	load(state, Options{Quote: '\''})
	want(4)
	unsettled := state
	unsettled.inode.changed = time.Now().Add(time.Hour).UnixNano()
	load(unsettled, Options{})
	load(unsettled, Options{})
	unknown := state
	unknown.inode = inode{}
	load(unknown, Options{})
	load(unknown, Options{})
	want(8)
}

// TestMemoIsBounded: what was not used for the longest time goes first.
func TestMemoIsBounded(t *testing.T) {
	m := sampleMemo{most: 8 << 10}
	key := func(i int) sampleKey { return sampleKey{byte(i), byte(i >> 8)} }
	for i := range 300 {
		m.put(key(i), &fileSample{records: int64(i)})
		m.get(key(0))
	}
	if m.bytes > m.most || m.order.Len() != len(m.byKey) || m.get(key(0)) == nil || m.get(key(299)) == nil || m.get(key(1)) != nil {
		t.Errorf("%d entries of %d bytes", len(m.byKey), m.bytes)
	}
	m.put(key(1000), &fileSample{guesses: make([]typeGuess, 1000)})
	if m.get(key(1000)) != nil {
		t.Error("a sample larger than the memo was kept")
	}
}

// TestInferenceIsCanceled: inference ends when its context does.
func TestInferenceIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	data := largeFile(8<<20, 0, false)
	source, err := New(cancelingFS{fstest.MapFS{"t.csv": {Data: data}}, cancel}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Catalog(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was canceled", err)
	}
}

// cancelingFS cancels a context once a file is read beyond its first mebibyte.
type cancelingFS struct {
	fs.FS
	cancel func()
}

func (c cancelingFS) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil || name == "." {
		return f, err
	}
	return &cancelingFile{File: f, left: 1 << 20, cancel: c.cancel}, nil
}

type cancelingFile struct {
	fs.File
	left   int
	cancel func()
}

func (f *cancelingFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if f.left -= n; f.left < 0 {
		f.cancel()
	}
	return n, err
}
