package csv

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// Everything that is written to disk for an index consists of pages, each with a
// checksum of its own: a lookup reads few pages, and must not trust a single one that
// the disk has changed.
const (
	pageEntries  = 255
	pageContents = pageEntries * int(indexEntryBytes)
	pageBytes    = pageContents + 16
)

// indexPage is one page: entries, as rank and position in little endian, followed by
// the checksum. Unused entries are zero.
type indexPage [pageBytes]byte

func (p *indexPage) entry(i int) indexEntry {
	b := p[i*int(indexEntryBytes):]
	return indexEntry{binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))}
}

func (p *indexPage) setEntry(i int, e indexEntry) {
	b := p[i*int(indexEntryBytes):]
	binary.LittleEndian.PutUint64(b, e.rank)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.at))
}

// checksum returns the checksum of the contents. The file's seed and the page's number
// in the file are part of it, so that no other page can take its place.
func (p *indexPage) checksum(seed uint64, number int64) [16]byte {
	sum := xxh3.Hash128Seed(p[:pageContents], seed)
	sum.Lo ^= uint64(number) * 0x9e3779b97f4a7c15
	return sum.Bytes()
}

func (p *indexPage) seal(seed uint64, number int64) {
	sum := p.checksum(seed, number)
	copy(p[pageContents:], sum[:])
}

// isSealed reports whether the page is as it was when it was sealed.
func (p *indexPage) isSealed(seed uint64, number int64) bool {
	return p.checksum(seed, number) == [16]byte(p[pageContents:])
}

// pagesFor returns how many pages n entries take.
func pagesFor(n int64) int64 { return (n + pageEntries - 1) / pageEntries }
