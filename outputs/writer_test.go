package outputs

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
)

func newWriter(t testing.TB, format string, w io.Writer, schema *arrow.Schema, o Options) Writer {
	t.Helper()
	f, ok := Lookup(format)
	if !ok {
		t.Fatalf("no format %q", format)
	}
	rows, err := f.NewWriter(w, schema, o)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// pieces are the rows of a record, a few at a time.
func pieces(record arrow.RecordBatch) []arrow.RecordBatch {
	var all []arrow.RecordBatch
	for from := int64(0); from < record.NumRows(); from += 7 {
		all = append(all, record.NewSlice(from, min(from+7, record.NumRows())))
	}
	return all
}

func write(t *testing.T, w Writer, records ...arrow.RecordBatch) {
	t.Helper()
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
}

// nested returns rows with a dictionary, a struct and a list of structs.
func nested(t *testing.T, mem memory.Allocator) arrow.RecordBatch {
	t.Helper()
	text := arrow.BinaryTypes.String
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "kind", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: text}, Nullable: true},
		{Name: "who", Type: arrow.StructOf(arrow.Field{Name: "name", Type: text, Nullable: true}), Nullable: true},
		{Name: "lines", Type: arrow.ListOf(arrow.StructOf(arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int8, Nullable: true})), Nullable: true},
	}, nil)
	var rows []string
	for range 9 {
		rows = append(rows, `{"kind":"a","who":{"name":"x"},"lines":[{"n":1},{"n":2}]}`, `{"kind":null,"who":null,"lines":[]}`)
	}
	record, _, err := array.RecordFromJSON(mem, schema, strings.NewReader("["+strings.Join(rows, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// TestOutputsCanBeContinued cuts an output behind each record, as after a kill,
// and lets another writer write the rest: the result is that of one writer.
func TestOutputsCanBeContinued(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	flat, deep := shopLine(mem, 50), nested(t, mem)
	defer flat.Release()
	defer deep.Release()
	for _, test := range []struct {
		format  string
		record  arrow.RecordBatch
		flatten bool
	}{
		{"ndjson", flat, false}, {"csv", flat, false}, {"arrow", flat, false},
		{"ndjson", deep, false}, {"csv", deep, true}, {"ndjson", deep, true},
	} {
		records := pieces(test.record)
		o := Options{Allocator: mem, Flatten: test.flatten}
		var whole bytes.Buffer
		w := newWriter(t, test.format, &whole, test.record.Schema(), o)
		write(t, w, records...)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for n := range len(records) + 1 {
			var out bytes.Buffer
			first := newWriter(t, test.format, &out, test.record.Schema(), o)
			write(t, first, records[:n]...)
			offset, err := first.Flush()
			if err != nil || offset != int64(out.Len()) {
				t.Fatalf("%s: flushed %d bytes of %d: %v", test.format, offset, out.Len(), err)
			}
			write(t, first, records[n:]...)
			first.Abort()
			out.Truncate(int(offset))
			rest := o
			rest.Offset = offset
			second := newWriter(t, test.format, &out, test.record.Schema(), rest)
			write(t, second, records[n:]...)
			if end, err := second.Flush(); err != nil || end != int64(out.Len()) {
				t.Fatalf("%s: flushed %d bytes of %d: %v", test.format, end, out.Len(), err)
			}
			if err := second.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(whole.Bytes(), out.Bytes()) {
				t.Errorf("%s: continued after %d records at %d, got\n%s\nwant\n%s", test.format, n, offset, out.Bytes(), whole.Bytes())
			}
		}
		for _, r := range records {
			r.Release()
		}
	}
}

func TestPartsAreOutputs(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	record, schema := shopLine(mem, 20), shopLine(mem, 0)
	defer record.Release()
	defer schema.Release()
	for _, f := range formats {
		var want, first, second, third bytes.Buffer
		w := newWriter(t, f.Name, &want, record.Schema(), Options{Allocator: mem})
		write(t, w, record)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w = newWriter(t, f.Name, &first, record.Schema(), Options{Allocator: mem})
		write(t, w, record)
		err := w.NextPart(&second)
		if !f.Parts {
			if err == nil || !strings.Contains(err.Error(), "cannot be divided") {
				t.Errorf("%s: %v", f.Name, err)
			}
			w.Abort()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, w, record)
		if err := w.NextPart(&third); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), want.Bytes()) || !bytes.Equal(second.Bytes(), want.Bytes()) {
			t.Errorf("%s: the parts are\n%s\nand\n%s\nwant\n%s", f.Name, first.Bytes(), second.Bytes(), want.Bytes())
		}
		var empty bytes.Buffer
		w = newWriter(t, f.Name, &empty, record.Schema(), Options{Allocator: mem})
		if err := w.Close(); err != nil || !bytes.Equal(third.Bytes(), empty.Bytes()) {
			t.Errorf("%s: a part without rows is %q, want %q: %v", f.Name, third.Bytes(), empty.Bytes(), err)
		}
	}
}

func TestAbortWritesNothing(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	flat, deep := shopLine(mem, 50), nested(t, mem)
	defer flat.Release()
	defer deep.Release()
	for _, f := range formats {
		for _, record := range []arrow.RecordBatch{flat, deep} {
			if f.Name == "csv" && record == deep {
				continue
			}
			var out bytes.Buffer
			w := newWriter(t, f.Name, &out, record.Schema(), Options{Allocator: mem})
			write(t, w, record)
			before := out.Len()
			w.Abort()
			w.Abort()
			if out.Len() != before {
				t.Errorf("%s: Abort wrote %d bytes", f.Name, out.Len()-before)
			}
			if err := w.Write(record); !errors.Is(err, errClosed) {
				t.Errorf("%s: a write after Abort: %v", f.Name, err)
			}
			if err := w.Close(); !errors.Is(err, errClosed) {
				t.Errorf("%s: Close after Abort: %v", f.Name, err)
			}
		}
	}
}

// limited is an allocator that refuses as a budget does.
type limited struct {
	memory.Allocator
	largest int
}

func (l limited) Allocate(size int) []byte {
	if size > l.largest {
		panic(sources.Errorf(sources.Exhausted, "", "", "no room"))
	}
	return l.Allocator.Allocate(size)
}

// TestWritersMakeDo: a small buffer writes the same, and none at all is an error
// of its kind.
func TestWritersMakeDo(t *testing.T) {
	record := shopLine(memory.NewGoAllocator(), 50)
	defer record.Release()
	for _, f := range formats {
		var want string
		for _, most := range []int{1 << 20, 5000, 300, minBuffer} {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			var out bytes.Buffer
			o := Options{Allocator: limited{mem, most}}
			if f.Name == "arrow" {
				o.Allocator, o.Buffer = mem, most // Arrow allocates what it needs
			}
			w := newWriter(t, f.Name, &out, record.Schema(), o)
			write(t, w, record)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if want == "" {
				want = out.String()
			}
			if diff := cmp.Diff(want, out.String()); diff != "" {
				t.Errorf("%s in %d bytes (-want +got):\n%s", f.Name, most, diff)
			}
			mem.AssertSize(t, 0)
		}
		_, err := f.NewWriter(io.Discard, record.Schema(), Options{Allocator: limited{memory.NewGoAllocator(), minBuffer - 1}})
		if sources.KindOf(err) != sources.Exhausted {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
}

// TestWideRowsOutgrowTheBuffer: rows of any size are written whole, and the
// buffer stays within its bound.
func TestWideRowsOutgrowTheBuffer(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.BinaryTypes.String}}, nil))
	defer b.Release()
	var want strings.Builder
	want.WriteString("x\n")
	for _, n := range []int{1, 200, 1000, 5, 100_000, 3} {
		text := strings.Repeat("y", n)
		b.Field(0).(*array.StringBuilder).Append(text)
		want.WriteString(text + "\n")
	}
	record := b.NewRecordBatch()
	defer record.Release()
	var out bytes.Buffer
	w := newWriter(t, "csv", &out, record.Schema(), Options{Allocator: limited{mem, 500}, Buffer: 100})
	write(t, w, record)
	if err := w.Close(); err != nil || out.String() != want.String() {
		t.Errorf("%v, got %d bytes, want %d", err, out.Len(), want.Len())
	}
}

// TestFailedWritesStay: after an error nothing more is written.
func TestFailedWritesStay(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	record := shopLine(mem, 50)
	defer record.Release()
	for _, f := range formats {
		to := &failing{}
		w := newWriter(t, f.Name, to, record.Schema(), Options{Allocator: mem, Buffer: 1500})
		if err := w.Write(record); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", f.Name, err)
		}
		if _, err := w.Flush(); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", f.Name, err)
		}
		if err := w.Close(); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", f.Name, err)
		}
		if to.calls != 1 {
			t.Errorf("%s: %d writes", f.Name, to.calls)
		}
	}
}

type failing struct{ calls int }

func (f *failing) Write([]byte) (int, error) { f.calls++; return 0, io.ErrClosedPipe }

func TestFormats(t *testing.T) {
	if diff := cmp.Diff([]string{"table", "ndjson", "csv", "arrow"}, Names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for extension, want := range map[string]string{".csv": "csv", ".CSV": "csv", ".jsonl": "ndjson", ".arrows": "arrow", ".txt": "table", ".xml": "", "": ""} {
		if f, ok := ByExtension(extension); f.Name != want || ok != (want != "") {
			t.Errorf("%q is %q, want %q", extension, f.Name, want)
		}
	}
	if _, ok := Lookup("xml"); ok {
		t.Error("there is a format xml")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int8}}, nil)
	for _, test := range []struct {
		format  string
		options Options
		want    string
	}{
		{"csv", Options{Offset: -1}, "Offset and Buffer must not be negative (got -1 and 0)"},
		{"csv", Options{Buffer: -1}, "Offset and Buffer must not be negative (got 0 and -1)"},
		{"table", Options{Offset: 5}, "cannot be continued"},
		{"arrow", Options{Flatten: true}, "holds nested rows as they are"},
	} {
		f, _ := Lookup(test.format)
		if _, err := f.NewWriter(io.Discard, schema, test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s with %+v: %v", test.format, test.options, err)
		}
	}
	if _, err := (Format{}).NewWriter(io.Discard, schema, Options{}); err == nil {
		t.Error("the zero format has a writer")
	}
}

func TestFlattenRefusesListsSideBySide(t *testing.T) {
	rows := arrow.ListOf(arrow.StructOf(arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int8}))
	schema := arrow.NewSchema([]arrow.Field{{Name: "tags", Type: rows}, {Name: "lines", Type: rows}}, nil)
	f, _ := Lookup("csv")
	_, err := f.NewWriter(io.Discard, schema, Options{Flatten: true})
	var column *ColumnError
	if !errors.As(err, &column) || column.Column != "lines" || !strings.Contains(err.Error(), `is a list beside the list "tags"`) {
		t.Errorf("got %v", err)
	}
	if _, err = f.NewWriter(io.Discard, schema, Options{}); !errors.As(err, &column) || !column.Flatten {
		t.Errorf("got %v", err)
	}
}

// counted counts what is allocated.
type counted struct {
	memory.Allocator
	n int
}

func (c *counted) Allocate(size int) []byte { c.n++; return c.Allocator.Allocate(size) }

// TestTheBufferStays: rows of ordinary width need one block for all of them.
func TestTheBufferStays(t *testing.T) {
	record := shopLine(memory.NewGoAllocator(), 10_000)
	defer record.Release()
	for _, format := range []string{"table", "ndjson", "csv"} {
		mem := &counted{Allocator: memory.NewGoAllocator()}
		w := newWriter(t, format, io.Discard, record.Schema(), Options{Allocator: mem})
		write(t, w, record, record)
		if err := w.Close(); err != nil || mem.n != 1 {
			t.Errorf("%s: %d blocks, %v", format, mem.n, err)
		}
	}
}

// closing is an allocator that refuses everything once it is closed, as the
// budget of a stream does after its last row.
type closing struct {
	memory.Allocator
	closed bool
}

func (c *closing) Allocate(size int) []byte {
	if c.closed {
		panic(sources.Errorf(sources.Exhausted, "", "", "closed"))
	}
	return c.Allocator.Allocate(size)
}

func (c *closing) Reallocate(size int, old []byte) []byte {
	if c.closed {
		panic(sources.Errorf(sources.Exhausted, "", "", "closed"))
	}
	return c.Allocator.Reallocate(size, old)
}

// TestCloseNeedsNoMemory: an output is ended after its stream, with and without
// rows; a record that needs memory is an error of its kind.
func TestCloseNeedsNoMemory(t *testing.T) {
	record := shopLine(memory.NewGoAllocator(), 50)
	defer record.Release()
	for _, f := range formats {
		for _, records := range [][]arrow.RecordBatch{nil, {record}} {
			checked := memory.NewCheckedAllocator(memory.NewGoAllocator())
			mem := &closing{Allocator: checked}
			var out, want bytes.Buffer
			w := newWriter(t, f.Name, &out, record.Schema(), Options{Allocator: mem})
			write(t, w, records...)
			mem.closed = true
			if err := w.Close(); err != nil {
				t.Errorf("%s: %v", f.Name, err)
			}
			w = newWriter(t, f.Name, &want, record.Schema(), Options{})
			write(t, w, records...)
			if err := w.Close(); err != nil || !bytes.Equal(out.Bytes(), want.Bytes()) || out.Len() == 0 && f.Name != "ndjson" {
				t.Errorf("%s: %d bytes, want %d: %v", f.Name, out.Len(), want.Len(), err)
			}
			checked.AssertSize(t, 0)
		}
	}
	mem := &closing{Allocator: memory.NewGoAllocator()}
	w := newWriter(t, "arrow", io.Discard, record.Schema(), Options{Allocator: mem})
	defer w.Abort()
	mem.closed = true
	if err := w.Write(record); sources.KindOf(err) != sources.Exhausted {
		t.Errorf("got %v", err)
	}
}
