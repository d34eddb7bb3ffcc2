package csv

import (
	"bytes"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// cell is one field of a record: its bytes are record[from:to].
type cell struct {
	from, to int32 // without the enclosing quotes
	quoted   bool
	escaped  bool // it contains doubled quotes or escape characters
}

// padding is how many bytes after the data the buffer has, so that an eight-byte
// word can be loaded at any index. Their contents do not matter.
const padding = 8

// The bounds of a scanner's initial buffer: large enough to read at full speed,
// small enough for the processor's cache.
const (
	largestBuffer  = 256 << 10
	smallestBuffer = 16 << 10
)

// maxColumns bounds the columns of a header.
const maxColumns = 100_000

// scanner divides a file into records and fields, strictly by RFC 4180: anything
// ambiguous is an error. LF, CRLF and CR end a record. Empty lines are skipped,
// unless blankIsRecord is set.
//
// The buffer holds the current record and what was read after it. A record is
// divided by a pure function over these bytes, split; if it needs more, the
// scanner reads more and calls it again.
type scanner struct {
	in            io.Reader
	dialect       dialect
	name          string // of the file, for errors
	blankIsRecord bool   // an empty line is a record of one empty field
	columns       int    // how many cells of a record are kept; further ones are only counted
	ahead         int    // how many bytes are read at a time

	mem    memory.Allocator
	buf    []byte // from mem; it ends with the padding
	from   int    // the index of the next record in buf
	filled int    // the end of the data in buf
	base   int64  // the offset of buf[0] in the file
	eof    bool

	due   *dueTime     // of the page that the records go to; nil if there is none
	lines *lineCounter // counts the lines before base; nil if the file can be read again

	start  int64  // the offset of the current record in the file
	record []byte // the bytes of the current record, with its line end
	cells  []cell
	count  int  // the number of the record's fields, which may be more than len(cells)
	ascii  bool // every unquoted cell is ASCII

	delimiters, quotes, escapes uint64 // the character in each byte of a word
}

// newScanner returns a scanner with a buffer of about size bytes from mem. The
// caller must call release.
func newScanner(in io.Reader, name string, d dialect, size int, mem memory.Allocator) *scanner {
	s := &scanner{in: in, dialect: d, name: name, mem: mem, columns: maxColumns}
	size = min(max(size, smallestBuffer), largestBuffer)
	s.buf, s.ahead = mem.Allocate(size+padding), size
	s.delimiters, s.quotes, s.escapes = uint64(d.delimiter)*ones, uint64(d.quote)*ones, uint64(d.escape)*ones
	if d.quote == 0 { // no quotes: look for delimiters twice
		s.quotes = s.delimiters
	}
	return s
}

func (s *scanner) release() {
	if s.buf != nil {
		s.mem.Free(s.buf)
		s.buf = nil
	}
}

// reset makes the scanner read from in, which is at offset base of the file.
func (s *scanner) reset(in io.Reader, base int64) {
	s.in, s.base, s.from, s.filled, s.eof = in, base, 0, 0, false
}

// offset returns the offset of the next record in the file.
func (s *scanner) offset() int64 { return s.base + int64(s.from) }

// room returns the buffer's capacity in bytes.
func (s *scanner) room() int { return len(s.buf) - padding }

// read reads more bytes after those of the unfinished record.
func (s *scanner) read() error {
	if s.from > 0 {
		if s.lines != nil {
			s.lines.count(s.buf[:s.from])
		}
		copy(s.buf, s.buf[s.from:s.filled])
		s.base += int64(s.from)
		s.filled -= s.from
		s.from = 0
	}
	if s.filled == s.room() {
		if err := s.grow(); err != nil {
			return err
		}
	}
	// A pipe gives little at a time, but split should not start over for a few
	// bytes.
	wanted := min(s.filled+max(s.ahead, s.filled/2), s.room())
	until := s.due.endOfRead()
	for idle := 0; s.filled < wanted && idle < 100; idle++ {
		n, err := s.in.Read(s.buf[s.filled:wanted])
		if s.filled += n; n > 0 {
			idle = 0
		}
		if err == io.EOF {
			s.eof = true
			return nil
		}
		if err != nil {
			return s.unreadable(err)
		}
		if n > 0 && !until.IsZero() && s.filled < wanted && time.Until(until) <= 0 {
			return nil
		}
	}
	if s.filled < wanted {
		return s.unreadable(io.ErrNoProgress)
	}
	return nil
}

// unreadable returns the error for a read that failed.
func (s *scanner) unreadable(err error) error {
	return readError(s.name, s.base+int64(s.filled), err)
}

// grow doubles the buffer.
func (s *scanner) grow() error {
	size := min(2*int64(s.room()), s.dialect.maxRecord())
	if size <= int64(s.room()) {
		return s.syntaxError(0, 0, "the record has more than %d bytes: is a closing quote missing, or is this not CSV?", s.dialect.maxRecord()).
			with("set max_field=BYTES to allow longer ones")
	}
	larger, err := sources.GuardCall("", "", func() ([]byte, error) { return s.mem.Allocate(int(size) + padding), nil })
	if err != nil {
		return sources.Errorf(sources.KindOf(err), "", "", "%s: the record at byte %d has more than %d bytes and does not fit in memory: %w", s.name, s.offset(), s.filled, err)
	}
	copy(larger, s.buf[:s.filled])
	s.mem.Free(s.buf)
	s.buf = larger
	s.ahead = max(s.ahead, int(size)/2)
	return nil
}

// ensure reads until the buffer holds n bytes from the next record's beginning, or
// the file ends. It returns the bytes that there are.
func (s *scanner) ensure(n int) ([]byte, error) {
	for s.filled-s.from < n && !s.eof {
		if err := s.read(); err != nil {
			return nil, err
		}
	}
	return s.buf[s.from:s.filled], nil
}

// next divides the next record into cells and reports whether there was one. The
// record's bytes are valid until the next call. If the page is due, the error may be
// errDue instead.
func (s *scanner) next() (bool, error) {
	for {
		if s.from == s.filled {
			if s.eof {
				return false, nil
			}
			if s.due.mustHandOn() {
				return false, errDue
			}
			if err := s.read(); err != nil {
				return false, err
			}
			continue
		}
		switch c := s.buf[s.from]; {
		case (c == '\n' || c == '\r') && !s.blankIsRecord:
			if _, err := s.ensure(2); err != nil {
				return false, err
			}
			s.from += lineEnd(s.buf[s.from:s.filled])
			continue
		case c == s.dialect.comment && c != 0:
			if err := s.skipLine(); err != nil {
				return false, err
			}
			continue
		}
		size, fault := s.split(s.filled-s.from, s.eof)
		if fault != nil {
			return false, fault
		}
		if size > 0 {
			s.start = s.offset()
			s.record = s.buf[s.from : s.from+size]
			s.from += size
			return true, nil
		}
		if s.due.mustHandOn() {
			return false, errDue
		}
		if err := s.read(); err != nil {
			return false, err
		}
	}
}

// lineEnd returns the length of the line end that b begins with, or 0.
func lineEnd(b []byte) int {
	switch {
	case len(b) > 0 && b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	case len(b) > 0 && b[0] == '\r':
		return 1
	}
	return 0
}

// skipLine moves past the end of the line, whatever the line contains.
func (s *scanner) skipLine() error {
	for {
		rest := s.buf[s.from:s.filled]
		if i := bytes.IndexAny(rest, "\r\n"); i >= 0 {
			s.from += i
			if _, err := s.ensure(2); err != nil {
				return err
			}
			s.from += lineEnd(s.buf[s.from:s.filled])
			return nil
		}
		s.from = s.filled
		if s.eof {
			return nil
		}
		if err := s.read(); err != nil {
			return err
		}
	}
}

// discard reads forward to an offset of the file.
func (s *scanner) discard(to int64) error {
	for s.offset() < to {
		s.from = int(min(to-s.base, int64(s.filled)))
		if s.from < s.filled {
			return nil
		}
		if s.offset() == to {
			return nil
		}
		if s.eof {
			return nil
		}
		if err := s.read(); err != nil {
			return err
		}
	}
	return nil
}

// locate sets the line and the column of an error that lies within the buffer.
func (s *scanner) locate(e *ParseError) {
	c := *s.lines
	c.count(s.buf[:min(max(e.Offset-s.base, 0), int64(s.filled))])
	e.Line, e.Column = c.line+1, int(e.Offset-c.lineStart)+1
}

// text returns the bytes of a cell. It removes the escapes in place.
func (s *scanner) text(i int) []byte {
	c := &s.cells[i]
	text := s.record[c.from:c.to]
	if !c.escaped {
		return text
	}
	out := text[:0]
	for i := 0; i < len(text); i++ {
		b := text[i]
		if i+1 < len(text) && (b == s.dialect.escape && b != 0 || c.quoted && b == s.dialect.quote) {
			i++
			b = text[i]
		}
		out = append(out, b)
	}
	c.to, c.escaped = c.from+int32(len(out)), false
	return out
}
