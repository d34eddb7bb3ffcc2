package csv

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/penstock-data/penstock/sources"
)

// encoding is the character encoding of a file.
type encoding uint8

const (
	encodingAuto encoding = iota // what the byte order mark says, or UTF-8
	encodingUTF8
	encodingUTF16   // the byte order mark tells the order; big endian without one
	encodingUTF16LE // little endian
	encodingUTF16BE // big endian
	encodingLatin1  // ISO-8859-1
	encodingCP1252  // windows-1252
)

var encodingNames = []string{"utf-8", "utf-16", "utf-16le", "utf-16be", "latin-1", "iso-8859-1", "windows-1252"}

// parseEncoding returns an encoding by one of its common names.
func parseEncoding(name string) (encoding, error) {
	switch strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(name)) {
	case "", "auto":
		return encodingAuto, nil
	case "utf8", "utf8sig", "ascii", "usascii":
		return encodingUTF8, nil
	case "utf16":
		return encodingUTF16, nil
	case "utf16le":
		return encodingUTF16LE, nil
	case "utf16be":
		return encodingUTF16BE, nil
	case "latin1", "iso88591", "l1":
		return encodingLatin1, nil
	case "windows1252", "cp1252":
		return encodingCP1252, nil
	}
	return 0, fmt.Errorf("unknown encoding %q%s", name, sources.Suggest(name, encodingNames))
}

// cp1252 holds the characters of 0x80 to 0x9f; 0 is undefined.
var cp1252 = [32]rune{
	'€', 0, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', 0, 'Ž', 0,
	0, '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', 0, 'ž', 'Ÿ',
}

// decoder converts another encoding to UTF-8. Invalid bytes are an error; they are
// never replaced.
type decoder struct {
	in       io.Reader
	encoding encoding

	raw     [4096]byte
	rest    int   // bytes of an incomplete character at the beginning of raw
	read    int64 // bytes decoded
	out     []byte
	pending []byte // decoded and not yet read
	err     error  // returned once pending is read
}

// Read reads decoded bytes.
func (d *decoder) Read(p []byte) (int, error) {
	for len(d.pending) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.in.Read(d.raw[d.rest:])
		d.err = err
		d.decode(d.raw[:d.rest+n])
	}
	n := copy(p, d.pending)
	d.pending = d.pending[n:]
	return n, nil
}

// decode decodes the complete characters of b and keeps the rest.
func (d *decoder) decode(b []byte) {
	d.out = d.out[:0]
	i := 0
	for i < len(b) {
		r, size := d.rune(b[i:])
		if size == 0 && d.err != io.EOF {
			break // an incomplete character
		}
		if size <= 0 {
			d.err = damage{undecodable{fmt.Errorf("the bytes %x at byte %d are not a character in %s", b[i:min(i+2, len(b))], d.read+int64(i), d.encoding)}}
			break
		}
		d.out = utf8.AppendRune(d.out, r)
		i += size
	}
	d.read += int64(i)
	d.rest = copy(d.raw[:], b[i:])
	d.pending = d.out
}

// rune returns the first character and its size in bytes. The size is 0 if the
// character is incomplete, and -1 if it is invalid.
func (d *decoder) rune(b []byte) (rune, int) {
	switch d.encoding {
	case encodingLatin1:
		return rune(b[0]), 1
	case encodingCP1252:
		if b[0] >= 0x80 && b[0] < 0xa0 {
			if r := cp1252[b[0]-0x80]; r != 0 {
				return r, 1
			}
			return 0, -1
		}
		return rune(b[0]), 1
	}
	unit := func(b []byte) rune {
		if d.encoding == encodingUTF16LE {
			return rune(b[0]) | rune(b[1])<<8
		}
		return rune(b[0])<<8 | rune(b[1])
	}
	if len(b) < 2 {
		return 0, 0
	}
	r := unit(b)
	if !utf16.IsSurrogate(r) {
		return r, 2
	}
	if len(b) < 4 {
		if r >= 0xdc00 {
			return 0, -1
		}
		return 0, 0
	}
	if r = utf16.DecodeRune(r, unit(b[2:])); r == utf8.RuneError {
		return 0, -1
	}
	return r, 4
}
