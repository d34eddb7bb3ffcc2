package wire_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

func TestTally(t *testing.T) {
	var sent, got wire.Tally
	for _, tally := range []*wire.Tally{&sent, &got} {
		tally.AddPage(3)
		tally.AddBytes([]byte("abc"))
	}
	if err := got.Check(sent.Trailer(nil)); err != nil {
		t.Errorf("equal ends: %v", err)
	}
	if err := got.Check(&wire.Trailer{Rows: 3, Batches: 1}); err != nil {
		t.Errorf("a sender without a checksum: %v", err)
	}
	sent.AddBytes([]byte("x"))
	if err := got.Check(sent.Trailer(nil)); sources.KindOf(err) != sources.Invalid {
		t.Errorf("another checksum: %v", err)
	}
	if err := got.Check(&wire.Trailer{Rows: 4, Batches: 1}); sources.KindOf(err) != sources.Invalid {
		t.Errorf("another count: %v", err)
	}
	fault := &sources.Error{Kind: sources.Denied}
	if err := got.Check(&wire.Trailer{Err: fault}); err != fault {
		t.Errorf("the source's own error became %v", err)
	}
	if err := new(wire.Tally).Check(&wire.Trailer{}); err == nil {
		t.Error("a scan of no pages passed")
	}
	if err := got.TruncatedError(); sources.KindOf(err) != sources.Unavailable {
		t.Errorf("a cut stream: %v", err)
	}
}

func TestSumIsTheSameInAnyPieces(t *testing.T) {
	data := make([]byte, 1000)
	for i := range data {
		data[i] = byte(i * 31)
	}
	sum := func(b []byte, piece int) string {
		var tally wire.Tally
		for len(b) > 0 {
			n := min(piece, len(b))
			tally.AddBytes(b[:n])
			b = b[n:]
		}
		return tally.Trailer(nil).Sum
	}
	for _, n := range []int{0, 1, 7, 8, 9, 31, 32, 33, 1000} {
		for _, piece := range []int{1, 3, 8, 13, 40} {
			if got, want := sum(data[:n], piece), sum(data[:n], 1000); got != want {
				t.Errorf("%d bytes in pieces of %d: %s, want %s", n, piece, got, want)
			}
		}
	}
	// By the definition in doc.go, the words are 0x0807060504030201, 0x09, 9.
	if got, want := sum([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, 9), fmt.Sprintf("fletcher64:%016x%016x", uint64(0x0807060504030201)*3+9*2+9, uint64(0x0807060504030201)+9+9); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	swapped := bytes.Clone(data)
	copy(swapped, data[8:16])
	copy(swapped[8:], data[:8])
	for name, other := range map[string][]byte{"shorter": data[:999], "a zero more": append(bytes.Clone(data), 0), "swapped words": swapped} {
		if sum(other, 100) == sum(data, 100) {
			t.Errorf("%s: the same sum", name)
		}
	}
}
