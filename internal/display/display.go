// Package display measures text in terminal columns and escapes what a terminal
// would interpret.
package display

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Width returns the number of terminal columns that s takes.
func Width(s string) int {
	total := 0
	for _, r := range s {
		total += RuneWidth(r)
	}
	return total
}

// RuneWidth returns the number of terminal columns that r takes: 0, 1 or 2.
func RuneWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

const hexDigits = "0123456789abcdef"

// Printable returns s with control characters escaped, so that it cannot move a
// terminal's cursor or change its colors, and with U+FFFD for bytes that are not
// UTF-8.
func Printable(s string) string {
	clean := true
	for _, r := range s {
		clean = clean && r != utf8.RuneError && (unicode.IsGraphic(r) || r == '\u200d')
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100 && !unicode.IsGraphic(r):
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[r>>4])
			b.WriteByte(hexDigits[r&15])
		case !unicode.IsGraphic(r) && r != '\u200d':
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
