// Package display measures text in terminal columns and escapes what a terminal
// would interpret: [Printable] does it for a value, [Writer] for everything that a program
// prints.
package display

import (
	"unicode"

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
