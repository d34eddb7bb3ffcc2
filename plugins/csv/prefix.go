package csv

import (
	"context"
	"crypto/sha256"
	"io"
	"math"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/penstock-data/penstock/sources"
)

// prefix is a hash of the bytes that a scan has read, from its first record on, as they are after
// decompression. A cursor has it, so that a scan resumes only if they are still the same.
//
// The state of a hash cannot be stored. A scan that resumes begins a new hash with the
// digest of the last one, at a cut: whoever compares the digest again must cut there too.
type prefix struct {
	table *table
	hash  *xxh3.Hasher
	upTo  int64   // the position up to which bytes are in the hash
	cuts  []int64 // earlier values of upTo
}

// maxCuts is how often a scan resumes before it reads all bytes again, to start without cuts.
const maxCuts = 64

// prefixState is a prefix as a cursor has it.
type prefixState struct {
	upTo   int64
	cuts   []int64
	digest [16]byte
	// files is a hash of the files' strict state when the scan began. It is zero if they
	// had just changed, or if the file system does not tell.
	files [8]byte
}

func newPrefix(t *table, from int64) *prefix { return &prefix{table: t, hash: xxh3.New(), upTo: from} }

// add adds the bytes at a position, except those that are in the hash already.
func (p *prefix) add(at int64, b []byte) {
	if file := fileOf(at); file > fileOf(p.upTo) {
		p.upTo = positionOf(file, p.table.files[file].start)
		_, _ = p.hash.Write([]byte{0}) // a hash does not fail
	}
	if skip := p.upTo - at; skip > 0 {
		b = b[min(skip, int64(len(b))):]
	}
	_, _ = p.hash.Write(b)
	p.upTo += int64(len(b))
}

func (p *prefix) digest() [16]byte { return p.hash.Sum128().Bytes() }

// cut begins a new hash with a digest of everything up to a position.
func (p *prefix) cut(at int64, digest [16]byte) {
	p.hash.Reset()
	_, _ = p.hash.Write(digest[:])
	p.upTo, p.cuts = at, append(p.cuts, at)
}

func (p *prefix) state() prefixState {
	return prefixState{upTo: p.upTo, cuts: p.cuts, digest: p.digest()}
}

// prefixReader adds what is read from a file to a prefix.
type prefixReader struct {
	in     io.Reader
	prefix *prefix
	at     int64 // the position of the next byte
}

func (r *prefixReader) Read(b []byte) (int, error) {
	n, err := r.in.Read(b)
	r.prefix.add(r.at, b[:n])
	r.at += int64(n)
	return n, err
}

// startState returns the hash of the files' state for the cursors of a scan that begins; zero if
// it does not identify their contents.
func (s *source) startState(t *table) (hash [8]byte, err error) {
	if t.isOnePass() || slices.ContainsFunc(t.files, func(f tableFile) bool { return f.state.inode == (inode{}) }) {
		return hash, nil
	}
	strict, _, settled, err := s.filesNow(t)
	if err != nil || !settled {
		return hash, err
	}
	sum := sha256.Sum256([]byte(strict))
	return [8]byte(sum[:8]), nil
}

// resumePrefix returns the prefix of a scan that begins at from, and resumes after a cursor with that
// state. If the files may have changed since the cursor was made, it reads what was read before
// again. If that differs, the error is of kind [sources.Invalid].
//
// It returns nil for a lookup, which skips most bytes and so has no hash. Such a cursor is valid
// while the state of the files is the same or, if that was not known, their sizes and times.
func (s *source) resumePrefix(ctx context.Context, t *table, from int64, was prefixState, now [8]byte, isLookup bool) (*prefix, error) {
	same := was.files == now && now != [8]byte{}
	hashed := was.digest != [16]byte{}
	switch {
	case isLookup != !hashed:
		return nil, errChanged(t)
	case isLookup && (same || was.files == [8]byte{}):
		return nil, nil
	case isLookup:
		return nil, errChanged(t)
	}
	p := newPrefix(t, from)
	if same && len(was.cuts) < maxCuts {
		p.cuts = slices.Clone(was.cuts)
		p.cut(was.upTo, was.digest)
		return p, nil
	}
	for _, at := range was.cuts {
		if err := s.readPrefix(ctx, p, at); err != nil {
			return nil, err
		}
		p.cut(at, p.digest())
	}
	if err := s.readPrefix(ctx, p, was.upTo); err != nil {
		return nil, err
	}
	if p.upTo != was.upTo || p.digest() != was.digest {
		return nil, errChanged(t)
	}
	if len(p.cuts) > 0 {
		p = newPrefix(t, from)
		if err := s.readPrefix(ctx, p, was.upTo); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// readPrefix reads the files from p.upTo to a position.
func (s *source) readPrefix(ctx context.Context, p *prefix, to int64) error {
	t := p.table
	for file := fileOf(p.upTo); file <= fileOf(to); file++ {
		from := t.files[file].start
		if file == fileOf(p.upTo) {
			from = offsetOf(p.upTo)
		}
		end := int64(math.MaxInt64)
		if file == fileOf(to) {
			end = offsetOf(to)
		}
		if err := s.readRange(ctx, &t.files[file], t.dialect, from, end, func(offset int64, b []byte) { p.add(positionOf(file, offset), b) }); err != nil {
			return err
		}
	}
	return nil
}

// readRange passes the bytes of a file from one offset to another, or to its end, to show.
func (s *source) readRange(ctx context.Context, f *tableFile, d dialect, from, to int64, show func(offset int64, b []byte)) error {
	in, err := s.openFile(ctx, f, d)
	if err != nil {
		return err
	}
	defer in.Close()
	if in.seekable {
		err = in.seek(from)
	} else {
		err = copyTo(in.reader, from-in.from, func([]byte) {})
	}
	if err != nil {
		return err
	}
	show(from, nil) // so that the file counts, although it may have no records
	return copyTo(in.reader, to-from, func(b []byte) {
		show(from, b)
		from += int64(len(b))
	})
}

func errChanged(t *table) error {
	return sources.Errorf(sources.Invalid, "", "", "the cursor belongs to another file, or %s has changed since it was made: read the table from the start", t.files[0].name)
}
