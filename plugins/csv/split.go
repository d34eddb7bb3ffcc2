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

// match has the high bit of each byte that is zero in x unset, and set in every
// other; the other bits mean nothing. Unlike the shorter formulas it is exact
// for every byte.
func match(x uint64) uint64 { return (x&lows + lows) | x }

// split divides the record at from, of which n bytes are read. It returns the
// size of the record with its end, or 0 where it does not end within these bytes
// and more may come.
//
// Eight bytes are looked at in one go. Each bit of mask stands for a byte of the
// word at base that is a delimiter, a quote or a line's end, the first one
// lowest.
func (s *scanner) split(n int, eof bool) (int, *fault) {
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
				return s.rest(cells, count, start, n, eof, escaped, seen)
			}
			word := binary.LittleEndian.Uint64(padded[next:])
			none := match(word^s.delimiters) & match(word^s.quotes) & match(word^('\n'*ones)) & match(word^('\r'*ones))
			if escape != 0 {
				none &= match(word ^ s.escapes)
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
				return 0, s.tooLong(start, start)
			}
			if count++; count <= s.columns {
				cells = append(cells, cell{from: int32(start), to: int32(i), escaped: escaped})
			}
			start, escaped = i+1, false
		case c == '\n' || c == '\r':
			if i-start > most {
				return 0, s.tooLong(start, start)
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
			return 0, s.fault(i, i, "a quote within a field that does not begin with one: put the whole field in quotes and write the quote twice").
				with("quote=none reads quotes as they stand")
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
				what := "a quote within a field is written twice"
				if escape != 0 {
					what = "a quote within a field stands behind an escape character"
				}
				return 0, s.fault(end+1, end+1, "%q after a closing quote: %s", b[end+1], what).with("quote=none reads quotes as they stand")
			}
		}
	}
}

// rest is where no more of a record is read: it ends there, or more is needed.
func (s *scanner) rest(cells []cell, count, start, n int, eof, escaped bool, seen uint64) (int, *fault) {
	s.cells = cells
	if int64(n-start) > s.dialect.maxField {
		return 0, s.tooLong(start, start)
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

// quotedEnd returns where the closing quote is of the field that begins at from,
// behind its quote, or -1 where more is needed. doubled says that there are
// escapes before it.
func (s *scanner) quotedEnd(b []byte, from int, eof bool) (end int, doubled bool, f *fault) {
	most := int(s.dialect.maxField)
	quote, escape := s.dialect.quote, s.dialect.escape
	escapes := 0 // bytes that are no part of the field's text
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
			return 0, false, s.tooLong(from-1, 0)
		case k < 0 && eof:
			return 0, false, s.fault(from-1, 0, "the quote that begins here has no end").with("quote=none reads quotes as they stand")
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

// tooLong is the fault of the field at start. Where its quote may be the one that
// has no end, the line of the record's beginning is all that is known to be bad.
func (s *scanner) tooLong(start, from int) *fault {
	return s.fault(start, from, "the field has more than %d bytes: is a quote missing its end?", s.dialect.maxField).with("max_field=BYTES allows longer ones")
}
