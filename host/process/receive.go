package process

import (
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of all other messages
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/penstock-data/penstock/sources"
)

// codec leaves the messages of a scan in gRPC's buffers, so that the bytes of a
// record are copied only once: into the session's memory, which is allocated (or
// refused) before the copy. It decodes all other messages as protobuf.
type codec struct{ encoding.CodecV2 }

var scanCodec = codec{encoding.GetCodecV2("proto")}

// Unmarshal keeps the buffers until the message is closed.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*incoming); ok {
		m.open(data)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// incoming is a message of Flight's DoGet: a protobuf FlightData, whose body comes
// last. A scan uses one for all its messages in turn.
type incoming struct {
	reader mem.Reader
	header []byte // Arrow's metadata; empty if the message has no record
	meta   []byte // app_metadata
	body   int    // bytes of the body, not yet read
}

// The field numbers of FlightData.
const (
	fieldHeader = 2
	fieldMeta   = 3
	fieldBody   = 1000
)

// The sizes to which the fields beside the body are limited, in bytes.
const (
	maxHeader = 16 << 20
	maxMeta   = 1 << 20
)

func (m *incoming) open(data mem.BufferSlice) {
	m.reader.Reset(data)
	m.header, m.meta, m.body = m.header[:0], m.meta[:0], 0
}

// close releases gRPC's buffers. header and meta stay valid until the next open.
func (m *incoming) close() { _ = m.reader.Close() }

// parse reads the message up to the body. It allocates no memory for the body.
func (m *incoming) parse() error {
	for m.reader.Remaining() > 0 {
		tag, err := binary.ReadUvarint(&m.reader)
		if err != nil {
			return malformed("a field's tag is truncated")
		}
		field, kind := protowire.DecodeTag(tag)
		switch {
		case field < 1 || field > protowire.MaxValidNumber:
			return malformed("invalid field number %d", field)
		case kind == protowire.VarintType:
			_, err = binary.ReadUvarint(&m.reader)
		case kind == protowire.Fixed32Type:
			_, err = m.reader.Discard(4)
		case kind == protowire.Fixed64Type:
			_, err = m.reader.Discard(8)
		case kind != protowire.BytesType:
			return malformed("field %d has the unexpected wire type %d", field, kind)
		default:
			// A truncated length must not be used: the part that was read is a number, too.
			var n uint64
			if n, err = binary.ReadUvarint(&m.reader); err != nil {
				return malformed("the length of field %d is truncated", field)
			}
			if n > uint64(m.reader.Remaining()) {
				return malformed("field %d has a length of %d bytes, but only %d remain", field, n, m.reader.Remaining())
			}
			switch field {
			case fieldHeader:
				m.header, err = m.readField(m.header, n, maxHeader)
			case fieldMeta:
				m.meta, err = m.readField(m.meta, n, maxMeta)
			case fieldBody:
				if n < uint64(m.reader.Remaining()) {
					return malformed("%d bytes follow the record's body, which must be last", uint64(m.reader.Remaining())-n)
				}
				m.body = int(n)
				return nil
			default:
				_, err = m.reader.Discard(int(n))
			}
		}
		if err != nil {
			var e *sources.Error
			if errors.As(err, &e) {
				return err
			}
			return malformed("field %d is truncated", field)
		}
	}
	return nil
}

// readField reads a field of n bytes into b.
func (m *incoming) readField(b []byte, n, limit uint64) ([]byte, error) {
	if n > limit {
		return b, malformed("%d bytes of metadata exceed the limit of %d", n, limit)
	}
	if uint64(cap(b)) < n {
		b = make([]byte, n)
	}
	b = b[:n]
	_, err := io.ReadFull(&m.reader, b)
	return b, err
}

// readBody reads the body into b, which has its length.
func (m *incoming) readBody(b []byte) error {
	_, err := io.ReadFull(&m.reader, b)
	return err
}

func malformed(format string, args ...any) error {
	return sources.Errorf(sources.Invalid, "", "", "malformed message: "+format, args...)
}
