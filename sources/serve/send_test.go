package serve

import (
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// later is a gRPC stream that sends its messages after everything else is done, as
// gRPC may.
type later struct {
	grpc.ServerStream
	queue []mem.BufferSlice
	err   error
}

func (l *later) SendMsg(m any) error {
	data, err := codec{}.Marshal(m)
	if err != nil {
		return err
	}
	l.queue = append(l.queue, data)
	return l.err
}

// reusing is an allocator that overwrites freed memory, as one that reuses it would.
type reusing struct{ *memory.CheckedAllocator }

func (r reusing) Free(b []byte) {
	for i := range b {
		b[i] = 0xAA
	}
	r.CheckedAllocator.Free(b)
}

// TestSendHolds checks that a record which is released right after send stays intact
// until gRPC has sent it, is freed after that, and has the encoding of protobuf's own
// message. It has buffers of all sizes.
func TestSendHolds(t *testing.T) {
	alloc := reusing{memory.NewCheckedAllocator(memory.DefaultAllocator)}
	to := &later{}
	s := &sender{to: to}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "d", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}},
	}, nil)
	var want []string
	sizes := []int{1, 100, 129, 513, 5000, 0, 20000}
	for page, size := range sizes {
		b := array.NewRecordBuilder(alloc, schema)
		for i := range size + 3 {
			b.Field(0).(*array.Int64Builder).Append(int64(i * page))
			if i%7 == 0 {
				b.Field(1).AppendNull()
			} else {
				b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("text ", i))
			}
			if err := b.Field(2).(*array.BinaryDictionaryBuilder).AppendString(fmt.Sprint(page, i%300)); err != nil {
				t.Fatal(err)
			}
		}
		record := b.NewRecordBatch()
		b.Release()
		part := record.NewSlice(int64(min(size, 3)), record.NumRows()) // offsets do not begin at 0
		record.Release()
		want = append(want, text(part)...)
		if err := s.send(part, wire.MarshalMeta(wire.Meta{Page: &wire.Page{Rows: part.NumRows()}})); err != nil {
			t.Fatal(err)
		}
		s.tally.AddPage(part.NumRows())
		part.Release()
	}
	s.close()
	if err := s.trailer(nil); err != nil {
		t.Fatal(err)
	}
	decoder := wire.NewDecoder(memory.DefaultAllocator)
	defer decoder.Release()
	var got []string
	var tally wire.Tally
	for i, data := range to.queue {
		var message flight.FlightData
		if err := proto.Unmarshal(data.Materialize(), &message); err != nil {
			t.Fatal(err)
		}
		data.Free()
		if i == len(to.queue)-1 {
			meta, err := wire.UnmarshalMeta(message.AppMetadata)
			if err != nil || meta.Trailer == nil {
				t.Fatalf("the last message is %v, %v", meta, err)
			}
			if err := tally.Check(meta.Trailer); err != nil {
				t.Error(err)
			}
			continue
		}
		tally.AddBytes(message.DataHeader)
		tally.AddBytes(message.DataBody)
		record, err := decoder.ReadMessage(message.DataHeader, int64(len(message.DataBody)), func(b []byte) error { copy(b, message.DataBody); return nil })
		if record == nil {
			continue // a schema or a dictionary
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, text(record)...)
		tally.AddPage(record.NumRows())
		record.Release()
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d rows came, %d were sent, and they are not the same", len(got), len(want))
	}
	alloc.AssertSize(t, 0)
}

func text(r arrow.RecordBatch) (rows []string) {
	for i := range int(r.NumRows()) {
		row := ""
		for _, c := range r.Columns() {
			row += sources.ValueAt(c, i).String() + "|"
		}
		rows = append(rows, row)
	}
	return rows
}
