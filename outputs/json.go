package outputs

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

const hexDigits = "0123456789abcdef"

// appendJSONString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD, so that the output is always valid. U+2028 and U+2029 are escaped, because
// some readers take them for line ends.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if b >= ' ' && b != '"' && b != '\\' && b != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch b {
			case '"', '\\':
				dst = append(dst, '\\', b)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	return append(append(dst, s[start:]...), '"')
}

// appendJSON appends a JSON text without its white space; the digits of its numbers stay
// as they are. A text that is not valid JSON is appended as a JSON string.
func appendJSON(dst []byte, s string) []byte {
	start := len(dst)
	dst = append(dst, s...)
	value := dst[start:]
	if !json.Valid(value) || !utf8.Valid(value) {
		return appendJSONString(dst[:start], s)
	}
	// Outside of strings, valid JSON has no bytes that must be escaped.
	to, quoted := start, false
	for i := start; i < len(dst); i++ {
		switch b := dst[i]; {
		case quoted && b == '\\':
			dst[to], dst[to+1] = b, dst[i+1]
			i++
			to += 2
			continue
		case b == '"':
			quoted = !quoted
		case !quoted && (b == ' ' || b == '\t' || b == '\n' || b == '\r'):
			continue
		}
		dst[to] = dst[i]
		to++
	}
	dst = dst[:to]
	if value = dst[start:]; bytes.ContainsAny(value, "\u2028\u2029\x7f") {
		dst = append(dst[:start], escapeInJSON.Replace(string(value))...)
	}
	return dst
}

// escapeInJSON escapes in valid JSON what [appendJSONString] also escapes.
var escapeInJSON = strings.NewReplacer("\u2028", `\u2028`, "\u2029", `\u2029`, "\x7f", `\u007f`)

// jsonNames returns the name of each field as a JSON key, with its colon. A name
// that occurred before gets a number, so that no key occurs twice.
func jsonNames(fields []arrow.Field) [][]byte {
	taken := make(map[string]bool, len(fields))
	for _, f := range fields {
		taken[f.Name] = true
	}
	seen := make(map[string]bool, len(fields))
	names := make([][]byte, len(fields))
	for i, f := range fields {
		name := f.Name
		for n := 2; seen[name]; n++ {
			if next := f.Name + "_" + strconv.Itoa(n); !taken[next] {
				name = next
			}
		}
		seen[name], taken[name] = true, true
		names[i] = append(appendJSONString(nil, name), ':')
	}
	return names
}
