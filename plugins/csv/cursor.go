package csv

import (
	"encoding/binary"

	"github.com/penstock-data/penstock/sources"
)

// cursorPosition is how far a scan has come.
type cursorPosition struct {
	position int64
	rows     int64 // that were given
	prefix   prefixState
}

// The first bytes of cursors and partitions. They change with the format.
const (
	cursorVersion = 3
	partVersion   = 1
)

// A cursor has its position, the rows before it, the position up to which the scan has read, its
// cuts, and two hashes. The rest are the names, sizes and times of the files: a cursor
// stays valid if the files are copied, or their permissions change.
func (t *table) cursor(p cursorPosition) sources.Cursor {
	c := sources.Cursor{cursorVersion}
	c = binary.AppendUvarint(c, uint64(p.position))
	c = binary.AppendUvarint(c, uint64(p.rows))
	c = binary.AppendUvarint(c, uint64(p.prefix.upTo))
	c = binary.AppendUvarint(c, uint64(len(p.prefix.cuts)))
	for _, at := range p.prefix.cuts {
		c = binary.AppendUvarint(c, uint64(at))
	}
	c = append(append(c, p.prefix.digest[:]...), p.prefix.files[:]...)
	return append(c, t.identity...)
}

func (t *table) parseCursor(c sources.Cursor) (p cursorPosition, err error) {
	foreign := sources.Errorf(sources.Invalid, "", "", "the cursor was not made by this source")
	if len(c) == 0 || c[0] != cursorVersion {
		return p, foreign
	}
	numbers, b, ok := readNumbers(c[1:], 4)
	if !ok || numbers[3] > maxCuts {
		return p, foreign
	}
	p = cursorPosition{position: numbers[0], rows: numbers[1]}
	p.prefix.upTo = numbers[2]
	if p.prefix.cuts, b, ok = readNumbers(b, int(numbers[3])); !ok || len(b) < len(p.prefix.digest)+len(p.prefix.files) {
		return p, foreign
	}
	b = b[copy(p.prefix.digest[:], b):]
	b = b[copy(p.prefix.files[:], b):]
	if string(b) != t.identity || !t.contains(p.position) {
		return p, errChanged(t)
	}
	last := int64(0)
	for _, at := range append(p.prefix.cuts, p.prefix.upTo) {
		if at < last || at > 0 && !t.contains(at) {
			return p, foreign
		}
		last = at
	}
	return p, nil
}

// readNumbers decodes n numbers, and returns the bytes after them.
func readNumbers(b []byte, n int) (numbers []int64, rest []byte, ok bool) {
	for range n {
		number, size := binary.Uvarint(b)
		if size <= 0 || number > 1<<62 {
			return nil, nil, false
		}
		numbers, b = append(numbers, int64(number)), b[size:]
	}
	return numbers, b, true
}
