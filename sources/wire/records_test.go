package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// nested has every layout that a decoder handles: bitmaps, offsets, children, and
// dictionaries within lists.
func nested(mem memory.Allocator, rows int) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int64},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "d", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true})), Nullable: true},
		{Name: "f", Type: &arrow.FixedSizeBinaryType{ByteWidth: 3}, Nullable: true},
		{Name: "n", Type: arrow.Null, Nullable: true},
		{Name: "v", Type: arrow.BinaryTypes.StringView, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		if i%3 == 0 {
			for _, f := range b.Fields()[1:] {
				f.AppendNull()
			}
			continue
		}
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("text ", i))
		b.Field(2).(*array.BooleanBuilder).Append(i%2 == 0)
		if err := b.Field(3).(*array.BinaryDictionaryBuilder).AppendString(fmt.Sprint(i % 5)); err != nil {
			panic(err)
		}
		l := b.Field(4).(*array.ListBuilder)
		l.Append(true)
		for j := range i % 4 {
			s := l.ValueBuilder().(*array.StructBuilder)
			s.Append(true)
			s.FieldBuilder(0).(*array.Float64Builder).Append(float64(j))
		}
		b.Field(5).(*array.FixedSizeBinaryBuilder).Append([]byte("abc"))
		b.Field(6).AppendNull()
		b.Field(7).(*array.StringViewBuilder).Append(fmt.Sprint("a text that is too long to be inline ", i))
	}
	return b.NewRecordBatch()
}

// stream encodes the records as one IPC stream.
func stream(t testing.TB, records []arrow.RecordBatch, opts ...ipc.Option) []byte {
	t.Helper()
	var b bytes.Buffer
	w := ipc.NewWriter(&b, append(opts, ipc.WithSchema(records[0].Schema()))...)
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecoderReadsAStream(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	records := []arrow.RecordBatch{nested(mem, 10), nested(mem, 0), nested(mem, 100)}
	b := stream(t, records)
	d := wire.NewDecoder(mem)
	in := bytes.NewReader(b)
	var kept []arrow.RecordBatch
	for _, want := range records {
		got, err := d.Read(in, int64(in.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(want, got) || !got.Schema().Equal(want.Schema()) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got.Schema() != d.Schema() {
			t.Error("the records of one stream have several schemas")
		}
		kept = append(kept, got)
	}
	if _, err := d.Read(in, int64(in.Len())); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	d.Release()
	for i, r := range kept { // they outlive the decoder
		if !array.RecordEqual(records[i], r) {
			t.Errorf("record %d changed when the decoder was released", i)
		}
		r.Release()
		records[i].Release()
	}
}

// tight is an allocator with a limit, as a stream's budget.
type tight struct {
	*memory.CheckedAllocator
	limit int
}

var errTight = sources.Errorf(sources.Exhausted, "", "", "no room")

func (m *tight) Allocate(n int) []byte {
	if m.CurrentAlloc()+n > m.limit {
		panic(errTight)
	}
	return m.CheckedAllocator.Allocate(n)
}

func TestDecoderSurvivesEveryRefusal(t *testing.T) {
	records := []arrow.RecordBatch{nested(memory.DefaultAllocator, 50)}
	b := stream(t, records)
	refused := 0
	for limit := 0; limit < 10000; limit += 64 {
		mem := &tight{memory.NewCheckedAllocator(memory.DefaultAllocator), limit}
		d := wire.NewDecoder(mem)
		r, err := d.Read(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			r.Release()
		} else if refused++; err != errTight {
			t.Fatalf("limit %d: %v", limit, err)
		}
		d.Release()
		mem.AssertSize(t, 0)
	}
	if refused == 0 {
		t.Error("nothing was ever refused")
	}
}

func TestDecoderRefusesCompression(t *testing.T) {
	b := stream(t, []arrow.RecordBatch{nested(memory.DefaultAllocator, 1000)}, ipc.WithZstd())
	mem := &tight{memory.NewCheckedAllocator(memory.DefaultAllocator), 0} // nothing may be allocated
	d := wire.NewDecoder(mem)
	defer d.Release()
	_, err := d.Read(bytes.NewReader(b), int64(len(b)))
	if sources.KindOf(err) != sources.Invalid || !bytes.Contains([]byte(err.Error()), []byte("compressed")) {
		t.Errorf("%v, want invalid", err)
	}
}

// drain decodes a stream and reads every value of its records, which must be safe.
func drain(t testing.TB, b []byte) (int64, error) {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	d := wire.NewDecoder(mem)
	defer d.Release()
	in := bytes.NewReader(b)
	var rows int64
	for {
		r, err := d.Read(in, int64(in.Len()))
		if err != nil {
			return rows, err
		}
		rows += r.NumRows()
		sources.Size(r)
		for _, c := range r.Columns() {
			for i := range min(c.Len(), 1000) {
				sources.ValueAt(c, i)
			}
		}
		r.Release()
	}
}

func TestDecoderOnEveryCutAndEveryFlip(t *testing.T) {
	b := stream(t, []arrow.RecordBatch{nested(memory.DefaultAllocator, 7), nested(memory.DefaultAllocator, 3)})
	if rows, err := drain(t, b); rows != 10 || err != io.EOF {
		t.Fatalf("whole: %d rows, %v", rows, err)
	}
	for n := 1; n < len(b); n++ {
		if _, err := drain(t, b[:n]); err == nil {
			t.Errorf("cut after %d bytes: no error", n)
		}
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			broken := bytes.Clone(b)
			broken[n] ^= flip
			if _, err := drain(t, broken); err == nil {
				t.Errorf("byte %d: no error and no end", n)
			}
		}
	}
}

func TestRecordOfNothingElse(t *testing.T) {
	r := nested(memory.DefaultAllocator, 5)
	b, err := wire.MarshalRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	got, err := wire.UnmarshalRecord(b, mem)
	if err != nil {
		t.Fatal(err)
	}
	if !array.RecordEqual(r, got) {
		t.Errorf("got %v", got)
	}
	got.Release()
	two := stream(t, []arrow.RecordBatch{r, r})
	for name, bad := range map[string][]byte{"two records": two, "more behind": append(bytes.Clone(b), 0), "no record": stream(t, []arrow.RecordBatch{r})[:400], "nothing": nil} {
		if _, err := wire.UnmarshalRecord(bad, mem); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// apart returns the messages of a stream, as metadata and bodies.
type apart struct{ metas, bodies [][]byte }

func (a *apart) Start() error { return nil }
func (a *apart) Close() error { return nil }
func (a *apart) WritePayload(p ipc.Payload) error {
	meta := p.Meta()
	defer meta.Release()
	var body bytes.Buffer
	err := p.SerializeBody(&body)
	a.metas, a.bodies = append(a.metas, bytes.Clone(meta.Bytes())), append(a.bodies, body.Bytes())
	return err
}

// TestReadMessage checks that ReadMessage decodes the same records as Read, and that
// it reads a body only if the metadata is valid and there is memory.
func TestReadMessage(t *testing.T) {
	records := []arrow.RecordBatch{nested(memory.DefaultAllocator, 7), nested(memory.DefaultAllocator, 300)}
	sent := &apart{}
	w := ipc.NewWriterWithPayloadWriter(sent, ipc.WithSchema(records[0].Schema()))
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	mem := &tight{memory.NewCheckedAllocator(memory.DefaultAllocator), 1 << 20}
	defer mem.AssertSize(t, 0)
	d := wire.NewDecoder(mem)
	defer d.Release()
	var got []arrow.RecordBatch
	for i, meta := range sent.metas {
		r, err := d.ReadMessage(meta, int64(len(sent.bodies[i])), func(b []byte) error {
			if copy(b, sent.bodies[i]) != len(sent.bodies[i]) {
				t.Errorf("message %d: a body of %d bytes is read into %d", i, len(sent.bodies[i]), len(b))
			}
			return nil
		})
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if r != nil {
			got = append(got, r)
		}
		clear(meta) // it is the caller's again
	}
	if len(got) != len(records) {
		t.Fatalf("%d records of %d", len(got), len(records))
	}
	for i, r := range got {
		if !array.RecordEqual(r, records[i]) {
			t.Errorf("record %d is %v", i, r)
		}
		r.Release()
	}

	again := &apart{}
	if err := ipc.NewWriterWithPayloadWriter(again, ipc.WithSchema(records[1].Schema())).Write(records[1]); err != nil {
		t.Fatal(err)
	}
	meta, size := again.metas[len(again.metas)-1], int64(len(again.bodies[len(again.bodies)-1]))
	gone := errors.New("the carrier is gone")
	for name, c := range map[string]struct {
		size  int64
		limit int
		fill  func([]byte) error
		want  error
	}{
		"too long":  {size: size + 8, limit: 1 << 20},
		"too short": {size: size - 8, limit: 1 << 20},
		"no room":   {size: size, limit: 0, want: errTight},
		"cut":       {size: size, limit: 1 << 20, fill: func([]byte) error { return gone }, want: gone},
	} {
		mem.limit = c.limit
		if c.fill == nil {
			c.fill = func([]byte) error { t.Errorf("%s: the body is read", name); return nil }
		}
		_, err := d.ReadMessage(meta, c.size, c.fill)
		if c.want == nil && sources.KindOf(err) != sources.Invalid || c.want != nil && err != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	mem.limit = 1 << 20
}
