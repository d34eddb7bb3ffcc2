package csv

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

const (
	ones  = 0x0101010101010101 // a byte of one in each byte of a word
	lows  = 0x7f * ones
	highs = 0x80 * ones
)

// nonzeroMask returns a word whose high bits tell which bytes of x are not zero.
// Its other bits mean nothing. Unlike the well-known shorter formulas it is exact
// for every byte.
func nonzeroMask(x uint64) uint64 { return (x&lows + lows) | x }

// split divides the record at s.from into cells; n bytes of it are in the buffer. It
// returns the size of the record with its line end, or 0 if the record does not end
// within these bytes and more may follow.
//
// It looks at eight bytes at a time. Each bit of mask stands for a byte of the word
// at base that is a delimiter, a quote or a line end; the first byte is the lowest.
func (s *scanner) split(n int, eof bool) (int, *ParseError) {
	var (
		b         = s.buf[s.from : s.from+n]
		padded    = s.buf[s.from : s.from+n+padding]
		cells     = s.cells[:0]
		count     = 0
		start     = 0 // of the field
		next      = 0 // the word to look at
		base      = 0
		mask      = uint64(0)
		seen      = uint64(0)
		escaped   = false
		delimiter = s.dialect.delimiter
		escape    = s.dialect.escape
		most      = int(s.dialect.maxField)
	)
	for {
		for mask == 0 {
			if next >= n {
				return s.splitEnd(cells, count, start, n, eof, escaped, seen)
			}
			word := binary.LittleEndian.Uint64(padded[next:])
			none := nonzeroMask(word^s.delimiters) & nonzeroMask(word^s.quotes) & nonzeroMask(word^('\n'*ones)) & nonzeroMask(word^('\r'*ones))
			if escape != 0 {
				none &= nonzeroMask(word ^ s.escapes)
			}
			mask = ^none & highs
			if left := n - next; left < 8 {
				mask &= 1<<(8*left) - 1
				word &= 1<<(8*left) - 1
			}
			seen |= word
			base, next = next, next+8
		}
		i := base + bits.TrailingZeros64(mask)>>3
		mask &= mask - 1
		switch c := b[i]; {
		case c == delimiter:
			if i-start > most {
				return 0, s.fieldTooLong(start, start)
			}
			if count++; count <= s.columns {
				cells = append(cells, cell{from: int32(start), to: int32(i), escaped: escaped})
			}
			start, escaped = i+1, false
		case c == '\n' || c == '\r':
			if i-start > most {
				return 0, s.fieldTooLong(start, start)
			}
			if c == '\r' && i+1 == n && !eof { // is it a CRLF?
				s.cells = cells
				return 0, nil
			}
			if count++; count <= s.columns {
				cells = append(cells, cell{from: int32(start), to: int32(i), escaped: escaped})
			}
			s.cells, s.count, s.ascii = cells, count, seen&highs == 0
			return i + lineEnd(b[i:]), nil
		case c == escape:
			if i+1 == n && !eof {
				s.cells = cells
				return 0, nil
			}
			escaped = true
			next, mask = i+2, 0
		case i != start:
			return 0, s.syntaxError(i, i, "a quote in an unquoted field: enclose the whole field in quotes and double the quote").
				with("set quote=none to read quotes as ordinary characters")
		default:
			end, doubled, fault := s.quotedEnd(b, i+1, eof)
			if fault != nil || end < 0 {
				s.cells = cells
				return 0, fault
			}
			if count++; count <= s.columns {
				cells = append(cells, cell{from: int32(i + 1), to: int32(end), quoted: true, escaped: doubled})
			}
			if end+1 == n {
				s.cells = cells
				if !eof {
					return 0, nil
				}
				s.count, s.ascii = count, seen&highs == 0
				return n, nil
			}
			switch b[end+1] {
			case delimiter:
				start = end + 2
				next, mask, escaped = start, 0, false
			case '\r':
				if end+2 == n && !eof {
					s.cells = cells
					return 0, nil
				}
				fallthrough
			case '\n':
				s.cells, s.count, s.ascii = cells, count, seen&highs == 0
				return end + 1 + lineEnd(b[end+1:]), nil
			default:
				what := "double a quote inside a field"
				if escape != 0 {
					what = "escape a quote inside a field"
				}
				return 0, s.syntaxError(end+1, end+1, "%q after a closing quote: %s", b[end+1], what).with("set quote=none to read quotes as ordinary characters")
			}
		}
	}
}

// splitEnd handles the end of the buffered bytes: the record ends there if the file
// does; otherwise split needs more.
func (s *scanner) splitEnd(cells []cell, count, start, n int, eof, escaped bool, seen uint64) (int, *ParseError) {
	s.cells = cells
	if int64(n-start) > s.dialect.maxField {
		return 0, s.fieldTooLong(start, start)
	}
	if !eof {
		return 0, nil
	}
	if count++; count <= s.columns {
		cells = append(cells, cell{from: int32(start), to: int32(n), escaped: escaped})
	}
	s.cells, s.count, s.ascii = cells, count, seen&highs == 0
	return n, nil
}

// quotedEnd returns the index of the closing quote of the field whose text begins
// at from, or -1 if more bytes are needed. doubled reports whether the field
// contains escapes.
func (s *scanner) quotedEnd(b []byte, from int, eof bool) (end int, doubled bool, f *ParseError) {
	most := int(s.dialect.maxField)
	quote, escape := s.dialect.quote, s.dialect.escape
	escapes := 0 // bytes that are not part of the field's text
	for i := from; ; {
		window := b[i:]
		if left := from + escapes + most + 1 - i; len(window) > left {
			window = window[:left]
		}
		k := bytes.IndexByte(window, quote)
		if escape != 0 {
			before := window
			if k >= 0 {
				before = window[:k]
			}
			if e := bytes.IndexByte(before, escape); e >= 0 {
				escapes++
				if i += e + 2; i > len(b) {
					i = len(b)
				}
				continue
			}
		}
		switch {
		case k < 0 && len(b)-from-escapes > most:
			return 0, false, s.fieldTooLong(from-1, 0)
		case k < 0 && eof:
			return 0, false, s.syntaxError(from-1, 0, "the quote that begins here is never closed").with("set quote=none to read quotes as ordinary characters")
		case k < 0:
			return -1, false, nil
		}
		i += k
		if s.dialect.doubleQuote {
			if i+1 == len(b) && !eof {
				return -1, false, nil
			}
			if i+1 < len(b) && b[i+1] == quote {
				escapes++
				i += 2
				continue
			}
		}
		return i, escapes > 0, nil
	}
}

// fieldTooLong returns the error for the field at start. If its quote may be the
// unclosed one, only the line where the record begins is known to be bad: from is 0.
func (s *scanner) fieldTooLong(start, from int) *ParseError {
	return s.syntaxError(start, from, "the field has more than %d bytes: is a closing quote missing?", s.dialect.maxField).with("max_field=BYTES allows longer ones")
}
