package sources

import (
	"fmt"
	"strings"
)

// Suggest returns a text that completes an error about an unknown table, column or
// option: "; the nearest is ..." with the name that is most similar to typed, or if
// none is similar, a list of the names. It returns an empty text if there are no
// names.
func Suggest(typed string, names []string) string {
	best, least := "", max(2, len(typed)/3)+1
	for _, name := range names {
		if d := distance(strings.ToLower(typed), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	for _, name := range names {
		if best == "" && len(typed) > 2 && strings.HasPrefix(strings.ToLower(name), strings.ToLower(typed)) {
			best = name
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("; the nearest is %q", best)
	case len(names) == 0:
		return ""
	case len(names) > 10:
		return fmt.Sprintf("; there are %s and %d more", strings.Join(names[:10], ", "), len(names)-10)
	}
	return "; there are " + strings.Join(names, ", ")
}

// distance returns how many characters must be inserted, deleted, replaced or swapped
// with the next one to turn a into b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := range x {
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
