package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of all other messages
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/penstock-data/penstock/sources"
)

// codec takes the messages of a scan as gRPC has them, in pieces, so that the
// bytes of a record are copied once: from there into the session's memory, which
// refuses before anything is copied. All other messages are protobuf's.
type codec struct{ encoding.CodecV2 }

var scanCodec = codec{encoding.GetCodecV2("proto")}

// Unmarshal keeps the pieces until the message is closed.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*incoming); ok {
		m.open(data)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// incoming is one message of Flight's DoGet: protobuf's FlightData, whose body
// comes last. One is used for all messages of a scan, one after the other.
type incoming struct {
	reader mem.Reader
	header []byte // Arrow's metadata; empty where the message has no record
	meta   []byte // app_metadata
	body   int    // bytes that are still to be read
}

// The fields of FlightData.
const (
	fieldHeader = 2
	fieldMeta   = 3
	fieldBody   = 1000
)

// What a message may have beside its body.
const (
	maxHeader = 16 << 20
	maxMeta   = 1 << 20
)

func (m *incoming) open(data mem.BufferSlice) {
	m.reader.Reset(data)
	m.header, m.meta, m.body = m.header[:0], m.meta[:0], 0
}

// close gives gRPC's pieces back. Header and meta stay until the next open.
func (m *incoming) close() { _ = m.reader.Close() }

// parse reads up to the body, for whose bytes nothing is allocated.
func (m *incoming) parse() error {
	for m.reader.Remaining() > 0 {
		tag, err := binary.ReadUvarint(&m.reader)
		if err != nil {
			return malformed("a field's tag is cut")
		}
		field, kind := protowire.DecodeTag(tag)
		switch {
		case field < 1:
			return malformed("%d is no field", field)
		case kind == protowire.VarintType:
			_, err = binary.ReadUvarint(&m.reader)
		case kind == protowire.Fixed32Type:
			_, err = m.reader.Discard(4)
		case kind == protowire.Fixed64Type:
			_, err = m.reader.Discard(8)
		case kind != protowire.BytesType:
			return malformed("field %d is of kind %d", field, kind)
		default:
			var n uint64
			if n, err = binary.ReadUvarint(&m.reader); err == nil && n > uint64(m.reader.Remaining()) {
				return malformed("field %d says that it has %d bytes, and %d are left", field, n, m.reader.Remaining())
			}
			switch field {
			case fieldHeader:
				m.header, err = m.take(m.header, n, maxHeader)
			case fieldMeta:
				m.meta, err = m.take(m.meta, n, maxMeta)
			case fieldBody:
				if n < uint64(m.reader.Remaining()) {
					return malformed("%d bytes follow the record's body, which comes last", uint64(m.reader.Remaining())-n)
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
			return malformed("field %d is cut", field)
		}
	}
	return nil
}

// take reads a field of n bytes into b.
func (m *incoming) take(b []byte, n, most uint64) ([]byte, error) {
	if n > most {
		return b, malformed("%d bytes of metadata, at most %d are taken", n, most)
	}
	if uint64(cap(b)) < n {
		b = make([]byte, n)
	}
	b = b[:n]
	_, err := io.ReadFull(&m.reader, b)
	return b, err
}

// fill reads the body, which has as many bytes as b.
func (m *incoming) fill(b []byte) error {
	_, err := io.ReadFull(&m.reader, b)
	return err
}

func malformed(format string, args ...any) error {
	return &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("malformed message: "+format, args...)}
}
