package wire

import (
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/penstock-data/penstock/sources"
)

// Tally counts a scan as it passes, at both ends: what the sender's says in the
// trailer must be what the receiver's saw. The zero Tally is ready.
type Tally struct {
	rows, batches int64
	sum           uint32
	summed        bool
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Add counts a page of so many rows.
func (t *Tally) Add(rows int64) {
	t.rows += rows
	t.batches++
}

// Sum adds bytes to the checksum, in the order in which they are sent: both ends
// must add the same ones. It is a CRC-32C.
func (t *Tally) Sum(b []byte) {
	t.sum = crc32.Update(t.sum, castagnoli, b)
	t.summed = true
}

// Batches is how many pages passed.
func (t *Tally) Batches() int64 { return t.batches }

// Trailer returns the trailer of a scan that ended with err, nil for a complete
// one.
func (t *Tally) Trailer(err error) *Trailer {
	out := &Trailer{Rows: t.rows, Batches: t.batches, Err: err}
	if t.summed {
		out.Sum = fmt.Sprintf("crc32c:%08x", t.sum)
	}
	return out
}

// Check holds the trailer against what was received. It returns the source's own
// error where the scan failed, an [sources.Invalid] one where the two ends
// disagree, and nil where the scan is complete. A checksum is compared where
// both ends made one.
func (t *Tally) Check(trailer *Trailer) error {
	own := t.Trailer(nil)
	switch {
	case trailer.Err != nil:
		return trailer.Err
	case trailer.Rows != t.rows || trailer.Batches != t.batches:
		return invalid("the source says that it sent %d rows in %d pages, %d rows in %d pages arrived", trailer.Rows, trailer.Batches, t.rows, t.batches)
	case trailer.Sum != "" && own.Sum != "" && trailer.Sum != own.Sum:
		return invalid("what arrived has the checksum %s, what was sent %s", own.Sum, shorten(trailer.Sum, 32))
	case t.batches == 0:
		return &sources.Error{Kind: sources.Internal, Err: errors.New("the scan ended without a page and without an error")}
	}
	return nil
}

// Cut returns the error of a scan that ended without a trailer.
func (t *Tally) Cut() error {
	return &sources.Error{Kind: sources.Unavailable, Err: fmt.Errorf("the stream was cut after %d rows in %d pages", t.rows, t.batches)}
}
