package display

import (
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable returns s with all characters escaped that a terminal may interpret, so that
// s stays on its line, and cannot move the cursor, change colors, or reverse the
// direction of text. It has U+FFFD for bytes that are not UTF-8.
func Printable(s string) string {
	for i, r := range s {
		if !isPlain(r) {
			return string(appendPrintable([]byte(s[:i]), s[i:], isPlain))
		}
	}
	return s
}

// isPlain reports whether a terminal only shows r. The joiners are part of words in some
// scripts, and of emojis.
func isPlain(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r <= '~'
	}
	return r != utf8.RuneError && (unicode.IsGraphic(r) || r == '\u200c' || r == '\u200d')
}

// isPlainText is like isPlain for text of several lines.
func isPlainText(r rune) bool { return r == '\n' || r == '\t' || isPlain(r) }

// appendPrintable appends s to b with those characters escaped that are not plain. The
// escapes of characters that JSON allows within a string are those of JSON, so that a
// JSON document keeps its meaning.
func appendPrintable[T string | []byte](b []byte, s T, plain func(rune) bool) []byte {
	const hex = "0123456789abcdef"
	escape := func(unit rune) {
		b = append(b, '\\', 'u', hex[unit>>12&15], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
	}
	for _, r := range string(s) {
		switch {
		case plain(r):
			b = utf8.AppendRune(b, r)
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < ' ':
			b = append(b, '\\', 'x', hex[r>>4], hex[r&15])
		case r == utf8.RuneError:
			b = utf8.AppendRune(b, r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			escape(high)
			escape(low)
		default:
			escape(r)
		}
	}
	return b
}

// Writer writes text with all characters escaped that a terminal may interpret, as
// [Printable] does, except for line ends and tabs. A program that prints through it
// needs to know nothing about the text. JSON documents keep their meaning. A Writer is not
// safe for concurrent use, except that concurrent writes of whole lines are safe if
// those of the underlying writer are.
type Writer struct {
	out  io.Writer
	rest []byte // the beginning of a character whose end is not written yet
}

// NewWriter returns a Writer that writes to out.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Unwrap returns the underlying writer.
func (w *Writer) Unwrap() io.Writer { return w.out }

// Write writes p. The error is that of the underlying writer.
func (w *Writer) Write(p []byte) (int, error) {
	text := p
	if len(w.rest) > 0 {
		text = append(w.rest, p...)
		w.rest = nil
	}
	if n := incomplete(text); n > 0 {
		w.rest = append([]byte(nil), text[len(text)-n:]...)
		text = text[:len(text)-n]
	}
	if _, err := w.out.Write(appendPrintable(nil, text, isPlainText)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// incomplete returns how many bytes at the end of text are the beginning of a character.
func incomplete(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if tail := text[len(text)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
