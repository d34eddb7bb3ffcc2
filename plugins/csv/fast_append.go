package csv

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// Most fields are in a plain format: text without escapes, digits only, dates as
// in ISO 8601. fastAppend decodes these from the record's bytes right into the
// vector, with few function calls, which are slow in WebAssembly. Everything else,
// and every error, is left to column.parse, which knows all formats.

// fastFormat is the plain format of a column's type.
type fastFormat uint8

const (
	fastNone fastFormat = iota
	fastText
	fastInteger
	fastDecimal
	fastDate
	fastTimestamp
)

// fastFormat returns the plain format of a column, or fastNone if the column's
// declaration changes how its values are written.
func (c *column) fastFormat() fastFormat {
	if c.words || c.group != "" || c.decimal != 0 && c.decimal != '.' || c.layout != "" {
		return fastNone
	}
	switch c.kind {
	case textKind:
		return fastText
	case integerKind:
		return fastInteger
	case decimalKind:
		if c.scale <= 8 {
			return fastDecimal
		}
	case dateKind:
		return fastDate
	case localKind, instantKind:
		return fastTimestamp
	}
	return fastNone
}

// fastAppend appends the value of a cell if it is in the plain format, and reports
// whether it did. The record must have padding after it.
func (v *vector) fastAppend(record []byte, c *cell, ascii bool) bool {
	if c.escaped {
		return false
	}
	text := record[c.from:c.to]
	if len(text) == 0 {
		if c.quoted || v.column.required {
			return false
		}
		v.appendNull()
		return true
	}
	if v.rows == v.capacity {
		v.grow()
	}
	i := v.rows
	switch v.fast {
	case fastText:
		if (!ascii || c.quoted) && !utf8.Valid(text) {
			return false
		}
		end := v.used + len(text)
		if end > len(v.text) {
			v.growText(end)
		}
		copy(v.text[v.used:end], text)
		v.used = end
		binary.LittleEndian.PutUint32(v.values[4*i+4:], uint32(end))
	case fastInteger:
		n, ok := v.fastInteger(text)
		if !ok {
			return false
		}
		binary.LittleEndian.PutUint64(v.values[8*i:], uint64(n))
	case fastDecimal:
		n, ok := v.fastDecimal(text)
		if !ok {
			return false
		}
		binary.LittleEndian.PutUint64(v.values[16*i:], uint64(n))
		binary.LittleEndian.PutUint64(v.values[16*i+8:], uint64(n>>63))
	case fastDate:
		if len(text) != 10 {
			return false
		}
		days, ok := isoDate(text)
		if !ok {
			return false
		}
		binary.LittleEndian.PutUint32(v.values[4*i:], uint32(days))
	case fastTimestamp:
		clock, zoned := bytes.CutSuffix(text, []byte{'Z'})
		if len(clock) != 19 || zoned != (v.column.kind == instantKind) || text[10] != 'T' && text[10] != ' ' {
			return false
		}
		days, ok := isoDate(text)
		seconds, ok2 := isoClock(text[11:])
		if !ok || !ok2 {
			return false
		}
		binary.LittleEndian.PutUint64(v.values[8*i:], uint64((days*86400+seconds)*1e6))
	default:
		return false
	}
	if v.valid != nil {
		v.valid[i/8] |= 1 << (i % 8)
	}
	v.rows++
	return true
}

// fastInteger parses up to 16 digits.
func (v *vector) fastInteger(text []byte) (int64, bool) {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	n := len(text)
	if n == 0 || n > 16 || text[0] == '0' && (n > 1 || negative) {
		return 0, false
	}
	var value uint64
	var ok bool
	if n <= 8 {
		w := binary.LittleEndian.Uint64(text[:8])
		value, ok = digits8(w<<(8*(8-n)) | '0'*ones>>(8*n))
	} else {
		w := binary.LittleEndian.Uint64(text[:8])
		head, ok1 := digits8(w<<(8*(16-n)) | '0'*ones>>(8*(n-8)))
		tail, ok2 := digits8(binary.LittleEndian.Uint64(text[n-8:]))
		value, ok = head*1e8+tail, ok1 && ok2
	}
	if negative {
		return -int64(value), ok
	}
	return int64(value), ok
}

// fastDecimal parses up to 8 digits before the point and exactly as many after it as
// the column's scale.
func (v *vector) fastDecimal(text []byte) (int64, bool) {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	scale := int(v.column.scale)
	n := len(text)
	if scale > 0 {
		n -= 1 + scale
	}
	if n <= 0 || n > 8 || n+scale > int(v.column.precision()) || text[0] == '0' && n > 1 {
		return 0, false
	}
	value, ok := digits8(binary.LittleEndian.Uint64(text[:8])<<(8*(8-n)) | '0'*ones>>(8*n))
	if scale > 0 {
		if text[n] != '.' {
			return 0, false
		}
		w := binary.LittleEndian.Uint64(text[n+1 : n+9])
		fraction, ok2 := digits8(w<<(8*(8-scale)) | '0'*ones>>(8*scale))
		value, ok = value*tens[scale]+fraction, ok && ok2
	}
	if negative {
		return -int64(value), ok && value != 0 // a signed zero may be a code, not a number
	}
	return int64(value), ok
}

// isoDate parses YYYY-MM-DD as days since 1970-01-01.
func isoDate(text []byte) (days int64, ok bool) {
	w := binary.LittleEndian.Uint64(text)
	n, ok := digits8(w&0xffffffff | w>>40<<48>>16 | uint64(text[8])<<48 | uint64(text[9])<<56)
	if !ok || w>>32&0xff != '-' || w>>56 != '-' {
		return 0, false
	}
	return daysSinceEpoch(int64(n/10000), n/100%100, int32(n%100))
}

// isoClock parses HH:MM:SS as seconds since midnight.
func isoClock(text []byte) (seconds int64, ok bool) {
	w := binary.LittleEndian.Uint64(text)
	n, ok := digits8('0' | '0'<<8 | w&0xffff<<16 | w>>24&0xffff<<32 | w>>48<<48)
	hour, minute, second := int64(n/10000), int64(n/100%100), int64(n%100)
	return hour*3600 + minute*60 + second, ok && w>>16&0xff == ':' && w>>40&0xff == ':' && hour < 24 && minute < 60 && second < 60
}
