package csv

import "math"

// A position is a file's number in its table and an offset in that file, packed
// into one int64 that grows from record to record.
const offsetBits = 44 // 16 TiB

func positionOf(file int, offset int64) int64 { return int64(file)<<offsetBits | offset }

func fileOf(position int64) int     { return int(position >> offsetBits) }
func offsetOf(position int64) int64 { return position & (1<<offsetBits - 1) }

// endOfTable is beyond every position.
const endOfTable = math.MaxInt64

// positionRange holds the records that begin at positions in [from, to).
type positionRange struct{ from, to int64 }

// wholeTable returns the range of all records of the table.
func (t *table) wholeTable() positionRange {
	return positionRange{positionOf(0, t.files[0].start), endOfTable}
}

// contains reports whether a record of the table can begin at the position.
func (t *table) contains(position int64) bool {
	return fileOf(position) < len(t.files) && offsetOf(position) >= t.files[fileOf(position)].start
}

// clipRanges returns the parts of spans that lie within another.
func clipRanges(spans []positionRange, within positionRange) []positionRange {
	clipped := spans[:0]
	for _, s := range spans {
		if s.from, s.to = max(s.from, within.from), min(s.to, within.to); s.from < s.to {
			clipped = append(clipped, s)
		}
	}
	return clipped
}
