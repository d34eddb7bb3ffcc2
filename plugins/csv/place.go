package csv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/penstock-data/penstock/sources"
)

// place is where a scan is in its table.
type place struct {
	at      int64
	records int64 // that were given
}

// The first bytes of cursors and partitions, so that a later form can be told
// from this.
const (
	cursorVersion = 2
	partVersion   = 1
)

func (t *table) cursor(p place) sources.Cursor {
	c := sources.Cursor{cursorVersion}
	c = binary.AppendUvarint(c, uint64(p.at))
	c = binary.AppendUvarint(c, uint64(p.records))
	return append(c, t.identity...)
}

func (t *table) parseCursor(c sources.Cursor) (p place, err error) {
	numbers, identity, ok := readNumbers(c, cursorVersion)
	if !ok {
		return p, &sources.Error{Kind: sources.Invalid, Err: errors.New("the cursor is not one of this source's")}
	}
	p = place{at: numbers[0], records: numbers[1]}
	if identity != t.identity || !t.has(p.at) {
		return p, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("the cursor is of another file, or %s has changed since it was made: read it from the start", t.files[0].name)}
	}
	return p, nil
}

// has reports whether a place can be one of the table's.
func (t *table) has(at int64) bool {
	return fileOf(at) < len(t.files) && offsetOf(at) >= t.files[fileOf(at)].start
}

// readNumbers reads two numbers and what is behind them.
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

// partBytes is how large a partition is at least, and maxParts how many there
// are of a file at most.
const (
	partBytes = 4 << 20
	maxParts  = 256
)

// parts divides the table's files at round places: where the records near them
// begin is found when a part is scanned, for a plan reads nothing. They are nil
// where a file cannot be read from the middle.
func (t *table) parts() []sources.Part {
	if !t.divides() {
		return nil
	}
	var parts []sources.Part
	for i, f := range t.files {
		step := max(partBytes, (f.size-f.start)/maxParts+1)
		for from := f.start; from < f.size || from == f.start; from += step {
			to := from + step
			if to >= f.size {
				to = 1<<offsetBits - 1 // also what the file's last line begins behind
			}
			part := sources.Part{partVersion}
			part = binary.AppendUvarint(part, uint64(placeOf(i, from)))
			part = binary.AppendUvarint(part, uint64(placeOf(i, to)))
			parts = append(parts, append(part, t.identity...))
		}
	}
	return parts
}

// divides reports whether parts of the table can be read by themselves. The
// number of quotes before a place says whether it lies within a field, unless
// there are others than those around fields, also in records that are left out.
func (t *table) divides() bool {
	return !t.skips && !t.packed && !t.streams() && t.dialect.escape == 0 && t.dialect.comment == 0 && t.dialect.doubleQuote
}

func (t *table) parsePart(b sources.Part) (span, error) {
	numbers, identity, ok := readNumbers(b, partVersion)
	s := span{numbers[0], numbers[1]}
	if !ok || identity != t.identity || !t.has(s.from) || s.to <= s.from || fileOf(s.to) != fileOf(s.from) {
		return s, &sources.Error{Kind: sources.Invalid, Err: errors.New("the partition is not one of this table's, or its file has changed")}
	}
	return s, nil
}

// parity remembers for places of files how many quotes are before them, so that
// the partitions of a file count each quote once. It is safe for concurrent use.
type parity struct {
	mu    sync.Mutex
	known map[string]map[int64]bool // file and identity -> offset -> within quotes
}

// nearest returns the last known offset that is not behind one, and its parity.
func (p *parity) nearest(file string, start, offset int64) (at int64, within bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at = start
	for known, odd := range p.known[file] {
		if known <= offset && known > at {
			at, within = known, odd
		}
	}
	return at, within
}

func (p *parity) note(file string, offset int64, within bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]map[int64]bool{}
	}
	if p.known[file] == nil {
		p.known[file] = map[int64]bool{}
	}
	p.known[file][offset] = within
}

// boundaries moves both ends of a part to the first record that begins there or
// behind it.
func (s *source) boundaries(ctx context.Context, t *table, part span) (span, error) {
	from, err := s.boundary(ctx, t, part.from)
	if err != nil {
		return span{}, err
	}
	return span{from, part.to}, nil
}

// boundary returns the place of the first record that begins at a place or
// behind it, by counting the quotes before it.
func (s *source) boundary(ctx context.Context, t *table, at int64) (int64, error) {
	f := &t.files[fileOf(at)]
	offset := offsetOf(at)
	if offset <= f.start {
		return at, nil
	}
	input, err := s.openFile(ctx, f, t.dialect)
	if err != nil {
		return 0, err
	}
	defer input.Close()
	key := f.name + "\x00" + f.identity
	// The line that ends right before the place counts, so begin one byte
	// earlier.
	counted, within := s.parity.nearest(key, f.start, offset-1)
	if err := input.seek(counted); err != nil {
		return 0, err
	}
	if quote := t.dialect.quote; quote != 0 {
		err = copyTo(input.reader, offset-1-counted, func(b []byte) {
			if bytes.Count(b, []byte{quote})%2 == 1 {
				within = !within
			}
		})
		if err != nil {
			return 0, err
		}
		s.parity.note(key, offset-1, within)
	}
	if err := input.seek(offset - 1); err != nil {
		return 0, err
	}
	return s.lineAfter(input, t, at, within)
}

// lineAfter returns the place behind the first line's end that is not within
// quotes, of what input reads from the byte before at.
func (s *source) lineAfter(input *input, t *table, at int64, within bool) (int64, error) {
	place, cr := at-1, false
	buf := make([]byte, smallestBuffer)
	for {
		n, err := input.reader.Read(buf)
		for _, b := range buf[:n] {
			switch {
			case cr && b == '\n':
				return place + 1, nil
			case cr:
				return place, nil
			case b == t.dialect.quote && b != 0:
				within = !within
			case within:
			case b == '\n':
				return place + 1, nil
			case b == '\r':
				cr = true
			}
			place++
		}
		if err == io.EOF {
			return place, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// copyTo reads n bytes, or what there is, and shows them.
func copyTo(in io.Reader, n int64, show func([]byte)) error {
	buf := make([]byte, min(max(n, 1), largestBuffer))
	for n > 0 {
		got, err := in.Read(buf[:min(n, int64(len(buf)))])
		show(buf[:got])
		if n -= int64(got); err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
