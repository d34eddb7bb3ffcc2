package display

import "testing"

func TestWidth(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "日本語": 6, "e\u0301": 1, "\u200d": 0} {
		if got := Width(s); got != want {
			t.Errorf("Width(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"plain": "plain", "tab\there": `tab\there`, "\x1b[31m": `\x1b[31m`, "a\r\n": `a\r\n`, "\xff": "\ufffd", "日本語": "日本語",
	} {
		if got := Printable(s); got != want {
			t.Errorf("Printable(%q) = %q, want %q", s, got, want)
		}
	}
}
