//go:build !wasip1 && !js

package serve

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of all other messages
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

// codec passes the messages of a scan to gRPC as slices of the record's own buffers, so
// that they are copied only to the socket. Other messages are encoded by protobuf.
type codec struct{ encoding.CodecV2 }

// Marshal encodes a message.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*outgoing); ok {
		return m.pieces, nil
	}
	return c.CodecV2.Marshal(v)
}

// outgoing is an encoded FlightData message in pieces.
type outgoing struct{ pieces mem.BufferSlice }

// The field numbers of FlightData.
const (
	fieldHeader = 2
	fieldMeta   = 3
	fieldBody   = 1000
)

// sender sends the records of one scan as Arrow IPC messages, and tallies them.
type sender struct {
	to     grpc.ServerStream
	writer *ipc.Writer
	tally  wire.Tally
	gone   error // why the host cannot be reached, or nil

	// The record that is being written, and its metadata.
	record arrow.RecordBatch
	meta   []byte
}

// send sends a record. gRPC may transmit it after send has returned, so send retains it
// until then; the caller may release its own reference.
func (s *sender) send(r arrow.RecordBatch, meta []byte) error {
	r = sources.NormalizeRecord(r)
	defer r.Release()
	if s.writer == nil {
		// The writer's own buffers, such as rebased offsets, are garbage collected: gRPC
		// may still use them when the writer releases them.
		s.writer = ipc.NewWriterWithPayloadWriter(s, ipc.WithSchema(r.Schema()), ipc.WithAllocator(memory.NewGoAllocator()))
	}
	s.record, s.meta = r, meta
	defer func() { s.record, s.meta = nil, nil }()
	return s.writer.Write(r)
}

// sender implements [ipc.PayloadWriter].

// Start does nothing: the schema is sent as a payload.
func (s *sender) Start() error { return nil }

// Close does nothing: the trailer ends the scan.
func (s *sender) Close() error { return nil }

// WritePayload sends one IPC message.
func (s *sender) WritePayload(p ipc.Payload) error {
	header := p.Meta()
	defer header.Release()
	body := pieces{hold: &hold{s.record}}
	if err := p.SerializeBody(&body); err != nil {
		body.all.Free()
		return err
	}
	body.flush()
	head := make([]byte, 0, header.Len()+len(s.meta)+32)
	head = protowire.AppendTag(head, fieldHeader, protowire.BytesType)
	head = protowire.AppendBytes(head, header.Bytes())
	head = protowire.AppendTag(head, fieldMeta, protowire.BytesType)
	head = protowire.AppendBytes(head, s.meta)
	size := body.all.Len()
	if size > 0 {
		head = protowire.AppendTag(head, fieldBody, protowire.BytesType)
		head = binary.AppendUvarint(head, uint64(size))
	}
	s.tally.AddBytes(header.Bytes())
	for _, b := range body.all {
		s.tally.AddBytes(b.ReadOnlyData())
	}
	message := outgoing{append(mem.BufferSlice{mem.SliceBuffer(head)}, body.all...)}
	s.gone = s.to.SendMsg(&message)
	return s.gone
}

// close releases the dictionaries that are kept for the next record.
func (s *sender) close() {
	if s.writer != nil {
		_ = s.writer.Close() // send returned the error
	}
}

// trailer sends the end of the scan.
func (s *sender) trailer(err error) error {
	meta := wire.MarshalMeta(wire.Meta{Trailer: s.tally.Trailer(err)})
	b := protowire.AppendTag(make([]byte, 0, len(meta)+8), fieldMeta, protowire.BytesType)
	return s.to.SendMsg(&outgoing{mem.BufferSlice{mem.SliceBuffer(protowire.AppendBytes(b, meta))}})
}

// pieces collects written bytes. It keeps large slices, which are buffers of the record,
// without copying, and joins small ones.
type pieces struct {
	hold  *hold
	all   mem.BufferSlice
	small []byte
}

// leastPiece is the smallest slice that is not copied. gRPC does not release slices of
// up to a kilobyte, and copying a small slice is cheaper than tracking it.
const leastPiece = 4 << 10

func (p *pieces) Write(b []byte) (int, error) {
	if len(b) < leastPiece {
		p.small = append(p.small, b...)
		return len(b), nil
	}
	p.flush()
	p.hold.record.Retain()
	p.all = append(p.all, mem.NewBuffer(&b, p.hold))
	return len(b), nil
}

func (p *pieces) flush() {
	if len(p.small) > 0 {
		p.all = append(p.all, mem.SliceBuffer(p.small))
		p.small = nil
	}
}

// hold is the buffer pool that gRPC returns a record's buffers to. Each return releases
// one reference to the record.
type hold struct{ record arrow.RecordBatch }

// Get is required by the interface and never called.
func (h *hold) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put is called when gRPC no longer needs a buffer.
func (h *hold) Put(*[]byte) { h.record.Release() }
