package process

import (
	"bytes"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
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
		if !wellFormed(b) {
			t.Fatalf("%x was parsed, but a field of it is malformed", b)
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

// wellFormed reports whether b consists of whole fields, whatever they contain.
func wellFormed(b []byte) bool {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// TestTruncatedMessage checks that a message which ends within a field is an error, wherever
// it is cut: also within the length of a field.
func TestTruncatedMessage(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 300) // its length has two bytes
	whole, err := proto.Marshal(&flight.FlightData{DataHeader: long, AppMetadata: long, DataBody: long})
	if err != nil {
		t.Fatal(err)
	}
	whole = append(protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), long), whole...)
	cut := 0
	for n := range whole {
		if wellFormed(whole[:n]) {
			continue
		}
		cut++
		var m incoming
		m.open(mem.BufferSlice{mem.SliceBuffer(whole[:n])})
		if err := m.parse(); err == nil || sources.KindOf(err) != sources.Invalid {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
		m.close()
	}
	if cut < len(whole)-5 {
		t.Errorf("only %d of %d messages were cut within a field", cut, len(whole))
	}
}
