package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/penstock-data/penstock/sources"
)

// FrameKind is the first byte of a frame.
type FrameKind byte

// The frames that a source writes.
const (
	FrameReply   FrameKind = 'R' // a reply's message
	FrameArrow   FrameKind = 'A' // whole messages of the scan's Arrow IPC stream
	FrameRows    FrameKind = 'J' // whole lines of JSON, one row each
	FramePage    FrameKind = 'P' // a page's metadata: what came since the last one is a page
	FrameTrailer FrameKind = 'T' // a scan's trailer
)

// The lines that a host writes after a scan's request, one for each page.
const (
	LineNext = "next"
	LineStop = "stop"
)

// MaxFrame is how long a frame's contents may be, in bytes.
const MaxFrame = 1 << 30

const frameHeader = 5

func (k FrameKind) known() bool {
	switch k {
	case FrameReply, FrameArrow, FrameRows, FramePage, FrameTrailer:
		return true
	}
	return false
}

// summed reports whether the frame's contents are part of a scan's checksum.
func (k FrameKind) summed() bool {
	return k == FrameArrow || k == FrameRows || k == FramePage
}

// FrameWriter writes frames to a pipe. It is for one goroutine.
type FrameWriter struct {
	w     io.Writer
	buf   bytes.Buffer
	tally *Tally
}

// NewFrameWriter returns a writer of frames. Each frame reaches w whole, in one
// Write.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

// Count sums the contents of the frames from now on; nil ends it.
func (f *FrameWriter) SetTally(t *Tally) { f.tally = t }

// Write writes one frame.
func (f *FrameWriter) Write(kind FrameKind, contents []byte) error {
	return f.WriteFrom(kind, func(w *bytes.Buffer) error {
		_, err := w.Write(contents)
		return err
	})
}

// WriteFrom writes one frame of what fill puts into the buffer. Where fill fails
// nothing is written.
func (f *FrameWriter) WriteFrom(kind FrameKind, fill func(*bytes.Buffer) error) error {
	f.buf.Reset()
	f.buf.Write(make([]byte, frameHeader))
	if err := fill(&f.buf); err != nil {
		return err
	}
	b := f.buf.Bytes()
	n := len(b) - frameHeader
	if n > MaxFrame {
		f.buf = bytes.Buffer{}
		return &sources.Error{Kind: sources.Exhausted, Err: fmt.Errorf("a frame of %d bytes; at most %d can be sent", n, MaxFrame)}
	}
	b[0] = byte(kind)
	binary.LittleEndian.PutUint32(b[1:], uint32(n))
	if f.tally != nil && kind.summed() {
		f.tally.AddBytes(b[frameHeader:])
	}
	_, err := f.w.Write(b)
	return err
}

// FrameReader reads frames from a pipe, and believes no length: nothing is
// allocated for bytes that did not come. It is for one goroutine.
type FrameReader struct {
	r     *bufio.Reader
	left  int64 // of the current frame
	kind  FrameKind
	tally *Tally
}

// NewFrameReader returns a reader of frames.
func NewFrameReader(r io.Reader) *FrameReader {
	return &FrameReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Count sums the contents of the frames from now on; nil ends it.
func (f *FrameReader) SetTally(t *Tally) { f.tally = t }

// Next goes to the next frame, past what was not read of the current one, and
// returns its kind and how many bytes it has. It is io.EOF where the pipe ends
// between frames, io.ErrUnexpectedEOF where it ends inside of one, and
// [sources.Invalid] where what comes is no frame.
func (f *FrameReader) Next() (FrameKind, int64, error) {
	if f.left > 0 {
		if _, err := io.Copy(io.Discard, f); err != nil {
			return 0, 0, err
		}
	}
	head, err := f.r.Peek(frameHeader)
	if len(head) > 0 && !FrameKind(head[0]).known() {
		return 0, 0, f.garbage()
	}
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, err
	}
	kind, n := FrameKind(head[0]), int64(binary.LittleEndian.Uint32(head[1:]))
	if n > MaxFrame {
		return 0, 0, f.garbage()
	}
	if _, err := f.r.Discard(frameHeader); err != nil {
		return 0, 0, err
	}
	f.kind, f.left = kind, n
	return kind, n, nil
}

// garbage shows the beginning of what stands where a frame should.
func (f *FrameReader) garbage() error {
	b, _ := f.r.Peek(min(f.r.Buffered(), 40))
	if i := bytes.IndexByte(b, '\n'); i > 0 {
		b = b[:i]
	}
	return invalid("no frame begins with %s; a source writes frames, and nothing else, to its standard output", strconv.QuoteToASCII(string(b)))
}

// Read reads the contents of the current frame, up to its end.
func (f *FrameReader) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, err := f.r.Read(p)
	f.left -= int64(n)
	if f.tally != nil && f.kind.summed() {
		f.tally.AddBytes(p[:n])
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Left returns how many bytes of the current frame are still to be read.
func (f *FrameReader) Left() int64 { return f.left }

// Bytes reads the contents of the current frame, which may have so many bytes.
func (f *FrameReader) Bytes(most int64) ([]byte, error) {
	if f.left > most {
		return nil, invalid("a frame %q of %d bytes, at most %d are taken", rune(f.kind), f.left, most)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, f); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// ReadLine reads one line of a host's, without its end: a request's message,
// [LineNext] or [LineStop]. It is io.EOF where there is none; the last line may
// lack its end.
func ReadLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxMessage {
			return nil, invalid("a line of more than %d bytes", MaxMessage)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(line) > 0:
		case err != nil:
			return nil, err
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
}
