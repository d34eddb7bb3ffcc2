package wire_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// A decoder must not panic on any input, and what it accepts must survive another
// round trip unchanged.

func FuzzRequest(f *testing.F) {
	for _, q := range queries(f, memory.DefaultAllocator) {
		b, err := wire.MarshalRequest(wire.Request{Op: wire.OpScan, Query: q})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"op":"open","version":2,"config":{"uri":"x","options":{"a":"b"}}}`))
	f.Add([]byte(`{"op":"begin","env":{"page":{"bytes":1,"rows":2},"join":"j"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
		defer mem.AssertSize(t, 0)
		first, err := wire.UnmarshalRequest(b, mem)
		if err != nil {
			return
		}
		defer first.Release()
		b, err = wire.MarshalRequest(first)
		if err != nil {
			t.Fatalf("%+v was taken and cannot be sent: %v", first, err)
		}
		second, err := wire.UnmarshalRequest(b, mem)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		defer second.Release()
		if first.Op == wire.OpOpen && first.Version == 0 {
			first.Version = wire.Version
		}
		if diff := cmp.Diff(first, second, exact, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, r := range []wire.Reply{
		{Version: 1}, {Session: 2}, {Catalog: catalog()}, {Err: errors.New("x")},
		{Plan: &sources.Plan{Rows: 1, Bytes: -1, Parts: []sources.Part{[]byte("p")}}},
	} {
		b, err := wire.MarshalReply(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, op := range []wire.Op{wire.OpCatalog, wire.OpPlan} {
			r, err := wire.UnmarshalReply(op, b)
			if err == nil && r.Err == nil && (op == wire.OpCatalog && r.Catalog == nil || op == wire.OpPlan && r.Plan == nil) {
				t.Errorf("%s is answered by %+v", op, r)
			}
		}
		first, err := wire.UnmarshalReply(wire.OpOpen, b)
		if err != nil {
			return
		}
		b, err = wire.MarshalReply(first)
		if err != nil {
			t.Fatalf("%+v was taken and cannot be sent: %v", first, err)
		}
		second, err := wire.UnmarshalReply(wire.OpOpen, b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if diff := cmp.Diff(first, second, exact, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzMeta(f *testing.F) {
	f.Add(wire.MarshalMeta(wire.Meta{Page: &wire.Page{Rows: 1, Cursor: sources.Cursor("c"), Skipped: sources.Skipped{Records: 1, Locations: []string{"here"}}}}))
	f.Add(wire.MarshalMeta(wire.Meta{Trailer: &wire.Trailer{Rows: 1, Batches: 1, Sum: "fletcher64:0", Err: errors.New("x")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = wire.UnmarshalError(b)
		first, err := wire.UnmarshalMeta(b)
		if err != nil {
			return
		}
		second, err := wire.UnmarshalMeta(wire.MarshalMeta(first))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, second, exact); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add(stream(f, []arrow.RecordBatch{nested(memory.DefaultAllocator, 3)}))
	b, err := wire.MarshalSchema(catalog().Tables[0].Schema)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = drain(t, b)
		_, _ = wire.UnmarshalSchema(b)
	})
}

func FuzzRecord(f *testing.F) {
	for rows := range 3 {
		r := nested(memory.DefaultAllocator, rows)
		b, err := wire.MarshalRecord(r)
		r.Release()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
		defer mem.AssertSize(t, 0)
		first, err := wire.UnmarshalRecord(b, mem)
		if err != nil {
			if sources.KindOf(err) != sources.Invalid {
				t.Errorf("%v is not invalid", err)
			}
			return
		}
		defer first.Release()
		if b, err = wire.MarshalRecord(first); err != nil {
			t.Fatalf("%v was taken and cannot be sent: %v", first, err)
		}
		second, err := wire.UnmarshalRecord(b, mem)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Release()
		if !first.Schema().Equal(second.Schema()) || first.NumRows() != second.NumRows() {
			t.Fatalf("%v became %v", first, second)
		}
		for i, c := range first.Columns() {
			for row := range min(c.Len(), 1000) {
				if x, y := sources.ValueAt(c, row), sources.ValueAt(second.Column(i), row); x.String() != y.String() {
					t.Errorf("column %d, row %d: %s became %s", i, row, x, y)
				}
			}
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("R\x02\x00\x00\x00{}P\x01\x00\x00\x00xT\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := wire.NewFrameReader(bytes.NewReader(b))
		var out bytes.Buffer
		w := wire.NewFrameWriter(&out)
		for {
			kind, n, err := in.Next()
			if err != nil {
				if err == io.EOF && !bytes.Equal(out.Bytes(), b) {
					t.Errorf("%q became %q", b, out.Bytes())
				}
				return
			}
			body, err := in.Bytes(1 << 20)
			if err != nil {
				return
			}
			if int64(len(body)) != n {
				t.Fatalf("a frame of %d bytes gave %d", n, len(body))
			}
			if err := w.Write(kind, body); err != nil {
				t.Fatal(err)
			}
		}
	})
}
