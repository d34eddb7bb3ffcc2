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

	"github.com/penstock-data/penstock/sources/wire"
)

// codec gives gRPC the messages of a scan in pieces, which are the record's own
// buffers: nothing is copied before the socket's buffer. All other messages are
// protobuf's.
type codec struct{ encoding.CodecV2 }

// Marshal is asked for each message that is sent.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*outgoing); ok {
		return m.pieces, nil
	}
	return c.CodecV2.Marshal(v)
}

// outgoing is one message of Flight's DoGet: protobuf's FlightData, taken apart.
type outgoing struct{ pieces mem.BufferSlice }

// The fields of FlightData.
const (
	fieldHeader = 2
	fieldMeta   = 3
	fieldBody   = 1000
)

// sender sends the records of one scan, as Arrow's IPC messages, and counts them.
type sender struct {
	to     grpc.ServerStream
	writer *ipc.Writer
	tally  wire.Tally
	gone   error // the host is

	// The record that is being written, and what goes with it.
	record arrow.RecordBatch
	meta   []byte
}

// send sends a record. gRPC sends it after send has returned: its buffers are
// held until then, the record itself is the caller's again.
func (s *sender) send(r arrow.RecordBatch, meta []byte) error {
	if s.writer == nil {
		// The writer's own buffers, as offsets that begin at 0, are left to the
		// garbage collector, for gRPC has them when the writer releases them.
		s.writer = ipc.NewWriterWithPayloadWriter(s, ipc.WithSchema(r.Schema()), ipc.WithAllocator(memory.NewGoAllocator()))
	}
	s.record, s.meta = r, meta
	defer func() { s.record, s.meta = nil, nil }()
	return s.writer.Write(r)
}

// The methods of [ipc.PayloadWriter].

// Start does nothing: the schema is a payload like others.
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

// close gives back the dictionaries that the next record might have shared.
func (s *sender) close() {
	if s.writer != nil {
		_ = s.writer.Close() // what failed was told by send
	}
}

// trailer sends the end of the scan.
func (s *sender) trailer(err error) error {
	meta := wire.MarshalMeta(wire.Meta{Trailer: s.tally.Trailer(err)})
	b := protowire.AppendTag(make([]byte, 0, len(meta)+8), fieldMeta, protowire.BytesType)
	return s.to.SendMsg(&outgoing{mem.BufferSlice{mem.SliceBuffer(protowire.AppendBytes(b, meta))}})
}

// pieces collects what is written to it. A large piece is kept as it is: it is a
// buffer of the record's. Small ones are copied together.
type pieces struct {
	hold  *hold
	all   mem.BufferSlice
	small []byte
}

// leastPiece is the smallest piece that is not copied. gRPC forgets to tell of
// those of a kilobyte and less that it is done with them, and some hundred bytes
// are sooner copied than looked after.
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

// hold stands in for the pool of a record's buffers: what gRPC gives back is one
// reference to the record.
type hold struct{ record arrow.RecordBatch }

// Get is never asked.
func (h *hold) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put is called when gRPC has sent a buffer, or will not send it any more.
func (h *hold) Put(*[]byte) { h.record.Release() }
