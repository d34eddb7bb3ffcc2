package process

import (
	"bytes"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/penstock-data/penstock/sources"
)

// FuzzIncoming checks that no length in a message is trusted, and that parsing
// gives the same result as protobuf's own parser, however gRPC splits the message.
func FuzzIncoming(f *testing.F) {
	whole, err := proto.Marshal(&flight.FlightData{DataHeader: []byte("header"), AppMetadata: []byte(`{"page":{"rows":1}}`), DataBody: bytes.Repeat([]byte("body"), 20)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, uint8(7))
	f.Add(whole[:len(whole)-1], uint8(200))
	f.Add(append(bytes.Clone(whole), 0x1a, 1, 'x'), uint8(1))
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f}, uint8(3))
	f.Add([]byte{0x0a, 2, 8, 1, 0x18, 5, 0x12, 1, 'h'}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var pieces mem.BufferSlice
		for rest := b; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			pieces = append(pieces, mem.SliceBuffer(rest[:n]))
			rest = rest[n:]
		}
		var m incoming
		m.open(pieces)
		defer m.close()
		if err := m.parse(); err != nil {
			if sources.KindOf(err) != sources.Invalid {
				t.Fatalf("%v is not invalid", err)
			}
			return
		}
		body := make([]byte, m.body)
		if err := m.readBody(body); err != nil {
			t.Fatalf("a body of %d bytes: %v", len(body), err)
		}
		var want flight.FlightData
		if err := proto.Unmarshal(b, &want); err != nil {
			return // protobuf also parses fields that are skipped here
		}
		if !bytes.Equal(m.header, want.DataHeader) || !bytes.Equal(m.meta, want.AppMetadata) || !bytes.Equal(body, want.DataBody) {
			t.Errorf("%x, %q and %x, want %x, %q and %x", m.header, m.meta, body, want.DataHeader, want.AppMetadata, want.DataBody)
		}
	})
}
