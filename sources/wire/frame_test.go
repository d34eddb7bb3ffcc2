package wire_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-data/penstock/sources"
	"github.com/penstock-data/penstock/sources/wire"
)

func TestFrames(t *testing.T) {
	var pipe bytes.Buffer
	var sent, got wire.Tally
	w := wire.NewFrameWriter(&pipe)
	w.SetTally(&sent)
	frames := []struct {
		kind wire.FrameKind
		body string
	}{
		{wire.FrameReply, "{}"}, {wire.FrameArrow, strings.Repeat("a", 200<<10)}, {wire.FrameRows, ""}, {wire.FramePage, "p"}, {wire.FrameTrailer, "t"},
	}
	for _, f := range frames {
		if err := w.Write(f.kind, []byte(f.body)); err != nil {
			t.Fatal(err)
		}
	}
	whole := pipe.Bytes()
	r := wire.NewFrameReader(bytes.NewReader(whole))
	r.SetTally(&got)
	for i, f := range frames {
		kind, n, err := r.Next()
		if err != nil || kind != f.kind || n != int64(len(f.body)) {
			t.Fatalf("frame %d: %c of %d, %v", i, kind, n, err)
		}
		if i%2 == 1 {
			continue // passed over, and yet summed
		}
		if b, err := r.Bytes(1 << 20); err != nil || string(b) != f.body {
			t.Fatalf("frame %d: %d bytes, %v", i, len(b), err)
		}
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if diff := cmp.Diff(sent.Trailer(nil), got.Trailer(nil)); diff != "" {
		t.Error(diff)
	}
	for _, n := range []int{1, 4, 6, len(whole) - 1} {
		r := wire.NewFrameReader(bytes.NewReader(whole[:n]))
		var err error
		for err == nil {
			_, _, err = r.Next()
		}
		if err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	_, _, err := wire.NewFrameReader(strings.NewReader("panic: oops\nmore")).Next()
	if sources.KindOf(err) != sources.Invalid || !strings.Contains(err.Error(), "oops") {
		t.Errorf("garbage: %v", err)
	}
	if _, _, err := wire.NewFrameReader(strings.NewReader("A\xff\xff\xff\xff")).Next(); sources.KindOf(err) != sources.Invalid {
		t.Errorf("a frame of 4 GiB: %v", err)
	}
}
