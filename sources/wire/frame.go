package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strconv"

	"github.com/penstock-data/penstock/sources"
)

// FrameKind is the first byte of a frame.
type FrameKind byte

// The kinds of frames.
const (
	FrameReply   FrameKind = 'R' // a reply's message
	FrameArrow   FrameKind = 'A' // complete messages of the scan's Arrow IPC stream
	FrameRows    FrameKind = 'J' // complete lines of JSON, one for each row
	FramePage    FrameKind = 'P' // the metadata of a page; ends the page
	FrameTrailer FrameKind = 'T' // a scan's trailer
)

// The lines that a host writes during a scan, one for each page.
const (
	LineNext = "next"
	LineStop = "stop"
)

// MaxFrame is the maximum length of a frame's contents in bytes.
const MaxFrame = 1 << 30

const frameHeader = 5

func (k FrameKind) known() bool {
	switch k {
	case FrameReply, FrameArrow, FrameRows, FramePage, FrameTrailer:
		return true
	}
	return false
}

// summed reports whether frames of this kind are part of a scan's checksum.
func (k FrameKind) summed() bool {
	return k == FrameArrow || k == FrameRows || k == FramePage
}

// FrameWriter writes frames to a pipe. It is not safe for concurrent use.
type FrameWriter struct {
	w     io.Writer
	buf   bytes.Buffer
	tally *Tally
}

// NewFrameWriter returns a FrameWriter that writes each frame to w in a single Write.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

// SetTally makes f add the contents of later frames to the checksum of t, or to none
// if t is nil.
func (f *FrameWriter) SetTally(t *Tally) { f.tally = t }

// Write writes one frame.
func (f *FrameWriter) Write(kind FrameKind, contents []byte) error {
	return f.WriteFrom(kind, func(w *bytes.Buffer) error {
		_, err := w.Write(contents)
		return err
	})
}

// WriteFrom writes one frame with the contents that fill writes to the buffer. If
// fill returns an error, nothing is written.
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
		return sources.Errorf(sources.Exhausted, "", "", "a frame has %d bytes, but the limit is %d", n, MaxFrame)
	}
	b[0] = byte(kind)
	binary.LittleEndian.PutUint32(b[1:], uint32(n))
	if f.tally != nil && kind.summed() {
		f.tally.AddBytes(b[frameHeader:])
	}
	_, err := f.w.Write(b)
	return err
}

// FrameReader reads frames from a pipe. It does not allocate memory for bytes that
// have not arrived. It is not safe for concurrent use.
type FrameReader struct {
	r     *bufio.Reader
	left  int64 // of the current frame
	kind  FrameKind
	tally *Tally
}

// NewFrameReader returns a FrameReader that reads from r.
func NewFrameReader(r io.Reader) *FrameReader {
	return &FrameReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// SetTally makes f add the contents of later frames to the checksum of t, or to none
// if t is nil.
func (f *FrameReader) SetTally(t *Tally) { f.tally = t }

// Next skips the rest of the current frame and returns the kind and the length of the
// next one. The error is io.EOF if the pipe ends between frames, and
// io.ErrUnexpectedEOF if it ends inside one. It is of kind [sources.Invalid] if the
// data is not a frame.
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

// garbage returns the error for data that is not a frame.
func (f *FrameReader) garbage() error {
	b, _ := f.r.Peek(min(f.r.Buffered(), 40))
	if i := bytes.IndexByte(b, '\n'); i > 0 {
		b = b[:i]
	}
	return invalid("no frame begins with %s; a source must write only frames to its standard output", strconv.QuoteToASCII(string(b)))
}

// Read reads from the contents of the current frame. It implements [io.Reader].
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

// Left returns how many bytes of the current frame are unread.
func (f *FrameReader) Left() int64 { return f.left }

// Bytes reads the rest of the current frame, which must not have more than most
// bytes.
func (f *FrameReader) Bytes(most int64) ([]byte, error) {
	if f.left > most {
		return nil, invalid("a frame %q has %d bytes; at most %d are allowed", rune(f.kind), f.left, most)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, f); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// ReadLine reads a line that a host wrote: a request, [LineNext] or [LineStop]. The
// result has no line end; in the input, the last line may lack it. The error is
// io.EOF at the end of the input.
func ReadLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxMessage {
			return nil, invalid("a line has more than %d bytes", MaxMessage)
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
