package csv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// dialect is how a file is written.
type dialect struct {
	delimiter byte
	quote     byte // 0: nothing is quoted
	comment   byte // 0: no comments
	header    bool
}

// standard is RFC 4180.
var standard = dialect{delimiter: ',', quote: '"', header: true}

// The limits of a record. A file that is not CSV at all would otherwise be one
// record.
const (
	maxRecord  = 64 << 20 // bytes
	readBuffer = 64 << 10
)

// field is one field of the record that was read last.
type field struct {
	start, end int  // in the record's bytes, without quotes
	column     int  // where the field begins in its line, in bytes, from 1
	line       int  // of the field's beginning, from 1
	quoted     bool // it was in quotes
	escaped    bool // and holds doubled quotes
}

// scanner divides a file into records and fields as RFC 4180 says, and no
// other way: what a lenient reader would guess at is an error with its place.
// LF, CRLF and CR end a record. Lines without anything in them are skipped,
// unless blank says that they are records of one field.
type scanner struct {
	in      io.Reader
	dialect dialect
	name    string // of the file, for errors
	blank   bool   // a line without anything in it is a record
	ahead   int    // how much is read at once, in bytes

	buf    []byte
	from   int   // where the next record begins in buf
	filled int   // how much of buf is read
	base   int64 // the place of buf[0] in the file
	eof    bool

	start    int64 // where the record that was read last begins in the file
	line     int   // of the next record, from 1
	records  int64 // that were read
	fields   []field
	record   []byte // of the fields
	lineFrom int    // where the line that is read begins in buf, relative to from
}

func newScanner(in io.Reader, name string, d dialect) *scanner {
	return &scanner{in: in, dialect: d, name: name, buf: make([]byte, readBuffer), ahead: readBuffer, line: 1}
}

// at returns a fault in the file with its place.
func (s *scanner) at(line, column int, format string, args ...any) error {
	return fmt.Errorf("%s:%d:%d: %w", s.name, line, column, fmt.Errorf(format, args...))
}

// fill reads more. What belongs to the record that is being read stays.
func (s *scanner) fill() error {
	if s.from > 0 {
		copy(s.buf, s.buf[s.from:s.filled])
		s.base += int64(s.from)
		s.filled -= s.from
		s.from = 0
	}
	if s.filled == len(s.buf) {
		if len(s.buf) >= maxRecord {
			return s.at(s.line, 1, "the record has more than %d MiB: is a quote missing its end, or is this not CSV?", maxRecord>>20)
		}
		larger := make([]byte, 2*len(s.buf))
		copy(larger, s.buf[:s.filled])
		s.buf = larger
	}
	for range 100 {
		n, err := s.in.Read(s.buf[s.filled:min(s.filled+s.ahead, len(s.buf))])
		s.filled += n
		if errors.Is(err, io.EOF) {
			s.eof = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if n > 0 {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", s.name, io.ErrNoProgress)
}

// offset is the place in the file where the next record begins.
func (s *scanner) offset() int64 { return s.base + int64(s.from) }

// peek returns the byte at i, counted from the record's beginning.
func (s *scanner) peek(i int) (byte, bool, error) {
	for s.from+i >= s.filled {
		if s.eof {
			return 0, false, nil
		}
		if err := s.fill(); err != nil {
			return 0, false, err
		}
	}
	return s.buf[s.from+i], true, nil
}

// skipBOM skips the mark that some programs begin UTF-8 with.
func (s *scanner) skipBOM() error {
	if _, _, err := s.peek(2); err != nil {
		return err
	}
	head := s.buf[s.from:s.filled]
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		s.from += 3
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return s.at(1, 1, "the file is UTF-16: write it as UTF-8")
	case bytes.HasPrefix(head, []byte("\x1f\x8b")), bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return s.at(1, 1, "the file is compressed: unpack it first")
	}
	return nil
}

// next reads a record into fields, and reports whether there was one. Bytes of
// fields are valid until the next call.
func (s *scanner) next() (bool, error) {
	for {
		b, ok, err := s.peek(0)
		switch {
		case err != nil || !ok:
			return false, err
		case (b == '\n' || b == '\r') && !s.blank:
			size, err := s.ending(0)
			if err != nil {
				return false, err
			}
			s.from += size
			s.line++
		case b == s.dialect.comment && b != 0:
			if err := s.comment(); err != nil {
				return false, err
			}
		default:
			return true, s.read()
		}
	}
}

// ending returns how long the line's end at i is.
func (s *scanner) ending(i int) (int, error) {
	if s.buf[s.from+i] == '\n' {
		return 1, nil
	}
	b, ok, err := s.peek(i + 1)
	if ok && b == '\n' {
		return 2, err
	}
	return 1, err
}

func (s *scanner) comment() error {
	for i := 0; ; i++ {
		b, ok, err := s.peek(i)
		if err != nil || !ok {
			s.from = min(s.from+i, s.filled)
			return err
		}
		if b == '\n' || b == '\r' {
			s.from += i
			return nil
		}
		if i == readBuffer/2 { // a long comment need not be held
			s.from += i
			i = 0
		}
	}
}

// read reads the record at from.
func (s *scanner) read() error {
	s.fields, s.lineFrom, s.start = s.fields[:0], 0, s.offset()
	line := s.line
	for i := 0; ; {
		next, more, err := s.field(i, &line)
		if err != nil {
			return err
		}
		if !more {
			size := 0
			if s.from+next < s.filled {
				if size, err = s.ending(next); err != nil {
					return err
				}
			}
			s.record = s.buf[s.from : s.from+next]
			s.from += next + size
			s.line = line + 1
			s.records++
			return nil
		}
		i = next
	}
}

// field reads the field at i. It returns where the next one begins and true, or
// where the line's end is and false.
func (s *scanner) field(i int, line *int) (int, bool, error) {
	f := field{start: i, column: i - s.lineFrom + 1, line: *line}
	b, ok, err := s.peek(i)
	if err != nil {
		return 0, false, err
	}
	if ok && b == s.dialect.quote && b != 0 {
		return s.quoted(i, line, f)
	}
	for {
		window := s.buf[s.from+i : s.filled]
		for at, b := range window {
			switch {
			case b == s.dialect.delimiter:
				f.end = i + at
				s.fields = append(s.fields, f)
				return f.end + 1, true, nil
			case b == '\n' || b == '\r':
				f.end = i + at
				s.fields = append(s.fields, f)
				return f.end, false, nil
			case b == s.dialect.quote && b != 0:
				return 0, false, s.at(*line, i+at-s.lineFrom+1, "a quote within a field that does not begin with one: put the whole field in quotes and write the quote twice")
			}
		}
		i += len(window)
		if _, ok, err := s.peek(i); err != nil {
			return 0, false, err
		} else if !ok {
			f.end = i
			s.fields = append(s.fields, f)
			return i, false, nil
		}
	}
}

// quoted reads the field whose opening quote is at i.
func (s *scanner) quoted(i int, line *int, f field) (int, bool, error) {
	f.quoted = true
	i++
	f.start = i
	for {
		b, ok, err := s.peek(i)
		if err != nil {
			return 0, false, err
		}
		if !ok {
			return 0, false, s.at(f.line, f.column, "the quote that begins here has no end")
		}
		switch b {
		case s.dialect.quote:
			b, ok, err := s.peek(i + 1)
			switch {
			case err != nil:
				return 0, false, err
			case ok && b == s.dialect.quote:
				f.escaped = true
				i += 2
				continue
			}
			f.end = i
			s.fields = append(s.fields, f)
			switch {
			case !ok || b == '\n' || b == '\r':
				return i + 1, false, nil
			case b == s.dialect.delimiter:
				return i + 2, true, nil
			}
			return 0, false, s.at(*line, i+2-s.lineFrom, "%q after a closing quote: a quote within a field is written twice", b)
		case '\n', '\r':
			size, err := s.ending(i)
			if err != nil {
				return 0, false, err
			}
			i += size
			*line++
			s.lineFrom = i
		default:
			i++
		}
	}
}

// text returns the bytes of a field. It unescapes in place.
func (s *scanner) text(f *field) []byte {
	text := s.record[f.start:f.end]
	if !f.escaped {
		return text
	}
	out := text[:0]
	for i := 0; i < len(text); i++ {
		out = append(out, text[i])
		if text[i] == s.dialect.quote {
			i++
		}
	}
	f.end, f.escaped = f.start+len(out), false
	return out
}
