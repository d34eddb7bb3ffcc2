package display

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestWidth(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "日本語": 6, "e\u0301": 1, "\u200d": 0} {
		if got := Width(s); got != want {
			t.Errorf("Width(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"plain": "plain", "tab\there": `tab\there`, "\x1b[31m": `\x1b[31m`, "a\r\n": `a\r\n`, "\xff": "\ufffd", "日本語": "日本語", "\a\x7f": `\x07\u007f`,
		"\u009b31m": `\u009b31m`, "\u202egpj.exe": `\u202egpj.exe`, "a\u2066b\u2069": `a\u2066b\u2069`, "\u2028": `\u2028`, "\ufeff": `\ufeff`,
		"\U000e0041": `\udb40\udc41`, "می\u200cخواهم": "می\u200cخواهم", "👩\u200d🚀": "👩\u200d🚀", "\x00": `\x00`, "a\u200bb": `a\u200bb`,
	} {
		if got := Printable(s); got != want {
			t.Errorf("Printable(%q) = %q, want %q", s, got, want)
		}
	}
}

// TestWriter tests that a text which is written in pieces of any size reads as if it was
// written at once.
func TestWriter(t *testing.T) {
	const text = "a\tb\n日本語\x1b]0;title\a\u202eok\r\n\xff\xe6\x97!\U0001f680\u009bm\n"
	const want = "a\tb\n日本語" + `\x1b]0;title\x07\u202eok\r` + "\n\ufffd\ufffd\ufffd!\U0001f680" + `\u009bm` + "\n"
	for size := 1; size <= len(text); size++ {
		var b strings.Builder
		w := NewWriter(&b)
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if wrote, err := w.Write([]byte(rest[:n])); wrote != n || err != nil {
				t.Fatalf("%d, %v", wrote, err)
			}
			rest = rest[n:]
		}
		if b.String() != want {
			t.Errorf("in pieces of %d: %q", size, b.String())
		}
	}
	cut := errors.New("cut")
	if _, err := NewWriter(failing{cut}).Write([]byte("x")); !errors.Is(err, cut) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzWriter tests that nothing that a terminal interprets is written, and that a JSON
// document keeps its meaning.
func FuzzWriter(f *testing.F) {
	f.Add("\x1b[2J\u202e\u009b\U000e0041\u2028\x7f")
	f.Fuzz(func(t *testing.T, s string) {
		var b strings.Builder
		if _, err := NewWriter(&b).Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.String() {
			if r != '\n' && r != '\t' && r != '\u200c' && r != '\u200d' && r != utf8.RuneError && !unicode.IsGraphic(r) {
				t.Errorf("%q has %U", b.String(), r)
			}
		}
		document, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if _, err := NewWriter(&b).Write(document); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := json.Unmarshal([]byte(b.String()), &got); err != nil || got != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Errorf("%s: %q, %v", b.String(), got, err)
		}
	})
}
