package sources

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The limits of a search for the nearest name. A source may have any number of names of
// up to [MaxName] bytes, and the time to compare two grows with the product of their
// lengths.
const (
	maxCompared  = 128      // longer names are not compared, in characters
	maxListed    = 64       // the bytes that a list shows of each name
	maxDistances = 10 << 20 // pairs of characters that are compared in all
)

// Suggest returns a text that completes an error about an unknown table, column or
// option: "; the nearest is ..." with the name that is most similar to typed, or if
// none is similar, a list of the names. It returns an empty text if there are no
// names. It compares neither long names nor any number of
// them, and shows the beginning of a long one.
func Suggest(typed string, names []string) string {
	switch best := nearest(typed, names); {
	case best != "":
		return fmt.Sprintf("; the nearest is %q", Clip(best, shownName))
	case len(names) == 0:
		return ""
	}
	listed := make([]string, min(len(names), 10))
	for i := range listed {
		listed[i] = Clip(names[i], maxListed)
	}
	list := "; there are " + strings.Join(listed, ", ")
	if more := len(names) - len(listed); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// nearest returns the name that is most similar to typed, or else one that begins with
// it. It returns an empty name if there is none.
func nearest(typed string, names []string) string {
	if len(typed) > maxCompared*utf8.UTFMax {
		return ""
	}
	typed = strings.ToLower(typed)
	x := []rune(typed)
	best, least := "", max(2, len(typed)/3)+1
	for work, i := 0, 0; i < len(names) && len(x) <= maxCompared && work < maxDistances; i++ {
		// Each insertion or deletion adds one to the distance.
		if n := utf8.RuneCountInString(Clip(names[i], maxCompared*utf8.UTFMax)); n > maxCompared || n-len(x) >= least || len(x)-n >= least {
			work++
			continue
		}
		y := []rune(strings.ToLower(names[i]))
		work += (len(x) + 1) * (len(y) + 1)
		if d := distance(x, y); d < least {
			best, least = names[i], d
		}
	}
	if best != "" || len(x) < 3 {
		return best
	}
	for _, name := range names {
		if strings.HasPrefix(strings.ToLower(Clip(name, (len(typed)+1)*utf8.UTFMax)), typed) {
			return name
		}
	}
	return ""
}

// distance returns how many characters must be inserted, deleted, replaced or swapped
// with the next one to turn x into y.
func distance(x, y []rune) int {
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
