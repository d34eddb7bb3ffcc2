package core

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/penstock-data/penstock/sources"
)

// partPosition is a position in a table that is read partition by partition. As a cursor,
// it takes the place of the source's own cursors.
type partPosition struct {
	part   int            // the index of the partition
	cursor sources.Cursor // of the source, in that partition; nil is its start
}

// encode returns the position as a cursor.
func (p partPosition) encode() sources.Cursor {
	return append(binary.AppendUvarint(nil, uint64(p.part)), p.cursor...)
}

// parsePartPosition decodes a position in one of n partitions, and reports whether it is
// valid. An empty one is the start.
func parsePartPosition(c sources.Cursor, n int) (partPosition, bool) {
	if c == nil {
		return partPosition{}, true
	}
	part, length := binary.Uvarint(c)
	if length <= 0 || part >= uint64(n) {
		return partPosition{}, false
	}
	return partPosition{part: int(part), cursor: c[length:]}, true
}

// partsDigest identifies a division into partitions. It is never zero.
type partsDigest [bindingBytes]byte

func digestParts(parts []sources.Part) (d partsDigest) {
	h := sha256.New()
	var length [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		_, _ = h.Write(length[:]) // a hash does not fail
		_, _ = h.Write(p)
	}
	copy(d[:], h.Sum(nil))
	d[0] |= 1
	return d
}
