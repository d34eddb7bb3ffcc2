package csv

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"sync"

	"github.com/penstock-data/penstock/sources"
)

// minPartitionBytes is the smallest partition, and maxPartitions the largest number
// of partitions of one file.
const (
	minPartitionBytes = 4 << 20
	maxPartitions     = 256
)

// partitions divides the table's files at fixed intervals. Planning reads nothing:
// the scan of a partition finds its first record. The result is nil if a file
// cannot be read from the middle.
func (t *table) partitions() []sources.Part {
	if !t.canPartition() {
		return nil
	}
	var parts []sources.Part
	for i, f := range t.files {
		step := max(minPartitionBytes, (f.size-f.start)/maxPartitions+1)
		for from := f.start; from < f.size || from == f.start; from += step {
			to := from + step
			if to >= f.size {
				to = 1<<offsetBits - 1 // beyond the file's last line
			}
			part := sources.Part{partVersion}
			part = binary.AppendUvarint(part, uint64(positionOf(i, from)))
			part = binary.AppendUvarint(part, uint64(positionOf(i, to)))
			parts = append(parts, append(part, t.identity...))
		}
	}
	return parts
}

// canPartition reports whether partitions of the table can be read independently.
// The number of quotes before an offset tells whether it lies inside a field. That
// does not hold if quotes can be escaped or commented out, or if they may be stray
// ones in records that are left out.
func (t *table) canPartition() bool {
	return !t.skips && !t.packed && !t.isOnePass() && t.dialect.escape == 0 && t.dialect.comment == 0 && t.dialect.doubleQuote
}

func (t *table) parsePartition(b sources.Part) (positionRange, error) {
	invalid := sources.Errorf(sources.Invalid, "", "", "the partition does not belong to this table, or its file has changed: plan again")
	if len(b) == 0 || b[0] != partVersion {
		return positionRange{}, invalid
	}
	numbers, identity, ok := readNumbers(b[1:], 2)
	if !ok {
		return positionRange{}, invalid
	}
	s := positionRange{numbers[0], numbers[1]}
	if string(identity) != t.identity || !t.contains(s.from) || s.to <= s.from || fileOf(s.to) != fileOf(s.from) {
		return s, invalid
	}
	return s, nil
}

// quoteParity caches whether the number of quotes before an offset is odd, so that
// the partitions of a file count each quote once. It is safe for concurrent use.
type quoteParity struct {
	mu    sync.Mutex
	known map[string]map[int64]bool // file and identity -> offset -> within quotes
}

// nearest returns the last cached offset up to the given one, and whether it lies
// inside quotes.
func (p *quoteParity) nearest(file string, start, offset int64) (at int64, within bool) {
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

func (p *quoteParity) note(file string, offset int64, within bool) {
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

// alignPartition returns the range of the records that begin in a partition.
func (s *source) alignPartition(ctx context.Context, t *table, part positionRange) (positionRange, error) {
	from, err := s.recordAfter(ctx, t, part.from)
	if err != nil {
		return positionRange{}, err
	}
	return positionRange{from, part.to}, nil
}

// recordAfter returns the position of the first record that begins at or after the
// given one. It counts the quotes before that to tell whether it lies inside a
// field.
func (s *source) recordAfter(ctx context.Context, t *table, at int64) (int64, error) {
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
	key := f.name + "\x00" + input.state.strict()
	// A line may end right before the position, so start one byte earlier.
	counted, within := s.quotes.nearest(key, f.start, offset-1)
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
		s.quotes.note(key, offset-1, within)
	}
	if err := input.seek(offset - 1); err != nil {
		return 0, err
	}
	return s.lineEndAfter(input, t, at, within)
}

// lineEndAfter returns the position after the first line end outside quotes. The
// input is at the byte before the position at.
func (s *source) lineEndAfter(input *input, t *table, at int64, within bool) (int64, error) {
	position, cr := at-1, false
	buf := make([]byte, smallestBuffer)
	for {
		n, err := input.reader.Read(buf)
		for _, b := range buf[:n] {
			switch {
			case cr && b == '\n':
				return position + 1, nil
			case cr:
				return position, nil
			case b == t.dialect.quote && b != 0:
				within = !within
			case within:
			case b == '\n':
				return position + 1, nil
			case b == '\r':
				cr = true
			}
			position++
		}
		if err == io.EOF {
			return position, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// copyTo passes the next n bytes of in, or as many as there are, to show.
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
