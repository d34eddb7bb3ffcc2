package csv

import (
	"encoding/binary"

	"github.com/penstock-data/penstock/sources"
)

// cursorPosition is how far a scan has come.
type cursorPosition struct {
	position int64
	rows     int64 // that were given
}

// The first bytes of cursors and partitions. They change with the format.
const (
	cursorVersion = 2
	partVersion   = 1
)

func (t *table) cursor(p cursorPosition) sources.Cursor {
	c := sources.Cursor{cursorVersion}
	c = binary.AppendUvarint(c, uint64(p.position))
	c = binary.AppendUvarint(c, uint64(p.rows))
	return append(c, t.identity...)
}

func (t *table) parseCursor(c sources.Cursor) (p cursorPosition, err error) {
	numbers, identity, ok := readNumbers(c, cursorVersion)
	if !ok {
		return p, sources.Errorf(sources.Invalid, "", "", "the cursor was not made by this source")
	}
	p = cursorPosition{position: numbers[0], rows: numbers[1]}
	if identity != t.identity || !t.contains(p.position) {
		return p, sources.Errorf(sources.Invalid, "", "", "the cursor belongs to another file, or %s has changed since it was made: read the table from the start", t.files[0].name)
	}
	return p, nil
}

// readNumbers decodes two numbers after the version byte, and returns the rest as
// a string.
func readNumbers(b []byte, version byte) (numbers [2]int64, rest string, ok bool) {
	if len(b) == 0 || b[0] != version {
		return numbers, "", false
	}
	b = b[1:]
	for i := range numbers {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > 1<<62 {
			return numbers, "", false
		}
		numbers[i], b = int64(n), b[size:]
	}
	return numbers, string(b), true
}
