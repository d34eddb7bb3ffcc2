package csv

import (
	"bytes"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/sources"
)

// cell is one field of a record. Its places are in the record's bytes.
type cell struct {
	from, to int32 // without quotes
	quoted   bool
	escaped  bool // it holds doubled quotes or escape characters
}

// padding is how many bytes behind what is read may be looked at, so that a word
// of eight bytes can be taken at any place. What stands there counts for nothing.
const padding = 8

// The size of a scanner's buffer when it starts: large enough to read at the
// speed of memory, small enough for a processor's cache.
const (
	largestBuffer  = 256 << 10
	smallestBuffer = 16 << 10
)

// maxColumns bounds a record whose number of columns is not known.
const maxColumns = 100_000

// scanner divides bytes into records and fields as RFC 4180 says, and no other
// way: what a lenient reader would guess at is a fault with its place. LF, CRLF
// and CR end a record. Lines without anything in them are skipped, unless blank
// says that they are records of one field.
//
// It holds the bytes of the record that was read last, and of those behind it
// what was read in one go. A record is divided by one pure function over bytes;
// where it wants more, more is read, and it is called again.
type scanner struct {
	in      io.Reader
	dialect dialect
	name    string // of the file, for faults
	blank   bool   // a line without anything in it is a record
	columns int    // how many cells are kept of a record; what is more is counted
	ahead   int    // how much is read at once, in bytes

	mem    memory.Allocator
	buf    []byte // from mem; its last bytes are padding
	from   int    // where the next record begins in buf
	filled int    // how much of buf is read
	base   int64  // the place of buf[0] in the file
	eof    bool

	lines *counter // of what is behind base; nil where the file can be read again

	start  int64  // where the record that was read last begins in the file
	record []byte // its bytes, with its end
	cells  []cell
	count  int  // the record's fields, also those that are not among cells
	ascii  bool // every cell that is not quoted is ASCII

	delimiters, quotes, escapes uint64 // each byte of the word is the character
}

// newScanner makes a scanner over what begins at the place base in the file. Its
// buffer of size bytes comes from mem; the caller releases it.
func newScanner(in io.Reader, name string, d dialect, size int, mem memory.Allocator) *scanner {
	s := &scanner{in: in, dialect: d, name: name, mem: mem, columns: maxColumns}
	size = min(max(size, smallestBuffer), largestBuffer)
	s.buf, s.ahead = mem.Allocate(size+padding), size
	s.delimiters, s.quotes, s.escapes = uint64(d.delimiter)*ones, uint64(d.quote)*ones, uint64(d.escape)*ones
	if d.quote == 0 { // nothing is a quote: look for delimiters twice
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

// reset begins anew with bytes whose place in the file is base.
func (s *scanner) reset(in io.Reader, base int64) {
	s.in, s.base, s.from, s.filled, s.eof = in, base, 0, 0, false
}

// offset is the place in the file where the next record begins.
func (s *scanner) offset() int64 { return s.base + int64(s.from) }

// room is how many bytes the buffer holds.
func (s *scanner) room() int { return len(s.buf) - padding }

// fill reads more. What belongs to the record that is being read stays.
func (s *scanner) fill() error {
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
	// A pipe gives little at a time, and what is divided again should have
	// grown.
	wanted := min(s.filled+max(s.ahead, s.filled/2), s.room())
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
	}
	if s.filled < wanted {
		return s.unreadable(io.ErrNoProgress)
	}
	return nil
}

// unreadable is what the system, or what unpacks the file, says of a read.
func (s *scanner) unreadable(err error) error {
	return fmt.Errorf("%s: after byte %d: %w", s.name, s.base+int64(s.filled), err)
}

// grow doubles the buffer.
func (s *scanner) grow() error {
	size := min(2*int64(s.room()), s.dialect.maxRecord())
	if size <= int64(s.room()) {
		return s.fault(0, 0, "the record has more than %d bytes: is a quote missing its end, or is this not CSV?", s.dialect.maxRecord()).
			with("max_field=BYTES allows longer ones")
	}
	larger, err := sources.GuardCall("", "", func() ([]byte, error) { return s.mem.Allocate(int(size) + padding), nil })
	if err != nil {
		return &sources.Error{Kind: sources.KindOf(err), Err: fmt.Errorf("%s: the record at byte %d has more than %d bytes, and there is no memory to hold it: %w", s.name, s.offset(), s.filled, err)}
	}
	copy(larger, s.buf[:s.filled])
	s.mem.Free(s.buf)
	s.buf = larger
	s.ahead = max(s.ahead, int(size)/2)
	return nil
}

// need makes n bytes from the next record's beginning readable, if there are so
// many, and returns what there is.
func (s *scanner) need(n int) ([]byte, error) {
	for s.filled-s.from < n && !s.eof {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	return s.buf[s.from:s.filled], nil
}

// next reads a record into cells, and reports whether there was one. Its bytes
// are valid until the next call.
func (s *scanner) next() (bool, error) {
	for {
		if s.from == s.filled {
			if s.eof {
				return false, nil
			}
			if err := s.fill(); err != nil {
				return false, err
			}
			continue
		}
		switch c := s.buf[s.from]; {
		case (c == '\n' || c == '\r') && !s.blank:
			if _, err := s.need(2); err != nil {
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
		if err := s.fill(); err != nil {
			return false, err
		}
	}
}

// lineEnd is how long the line's end is that b begins with; 0 where it begins
// with none.
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

// skipLine goes behind the end of the line, whatever is in it.
func (s *scanner) skipLine() error {
	for {
		rest := s.buf[s.from:s.filled]
		if i := bytes.IndexAny(rest, "\r\n"); i >= 0 {
			s.from += i
			if _, err := s.need(2); err != nil {
				return err
			}
			s.from += lineEnd(s.buf[s.from:s.filled])
			return nil
		}
		s.from = s.filled
		if s.eof {
			return nil
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// discard goes forward to a place in the file, by reading.
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
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

// locate counts the lines before a fault in what the scanner holds.
func (s *scanner) locate(f *fault) {
	c := *s.lines
	c.count(s.buf[:min(max(f.offset-s.base, 0), int64(s.filled))])
	f.line, f.column = c.line+1, int(f.offset-c.lineStart)+1
}

// text returns the bytes of a cell. It takes the escapes out in place.
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
