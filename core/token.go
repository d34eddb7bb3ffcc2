package core

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/zeebo/xxh3"

	"github.com/penstock-data/penstock/core/digest"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Token marks the end of a chunk. A stream of the same query resumes there, see
// [Query.After], also in another process and at a later time. A token is bound to the
// query, except for its Limit and Load, and to the table's description in the catalog.
// It is printable ASCII without spaces, and not encrypted: it contains the source's
// cursor, which may show data. The cursor of PostgreSQL, for example, has the values
// of the columns in OrderBy for one row.
//
// Since chunks may end within a page, a token has the cursor of the last page that
// the consumer received in full, the number of rows received after it, and the ordered
// sum of their digest. Resuming reads these rows again and fails if they differ.
//
// A token also has the number and, unless [Options.NoDigests] is set, the digest of all
// rows up to it, so that the receipt of the resumed stream covers them.
//
// A token of a table with snapshots also identifies the data that was read, including that of
// relations. A stream resumes only if it reads the same data, or with
// [Options.AcrossSnapshots]; see [Stream.Resumption].
type Token string

// tokenVersion is the first byte of every token. A token of another version is
// rejected.
const tokenVersion = 3

const bindingBytes = 8 // leading bytes of the fingerprint of a query or a table

// binding identifies the query and the table that a token belongs to.
type binding struct {
	query, table [bindingBytes]byte
}

// resumePoint is the content of a token.
type resumePoint struct {
	binding
	cursor    sources.Cursor // nil is the start of the table; in partitions, a [partPosition]
	states    []tableState   // of the tables that the stream reads
	snapshots uint64         // how many states the rows up to here come from; at least 1
	parts     partsDigest    // of the partitions that the stream reads; zero if it reads in one scan
	rowsAfter int64          // rows after the cursor that the consumer received
	sum       [16]byte       // of these rows, as [digest.Digest.OrderedSum]
	totalRows int64          // rows up to here, also those before the cursor
	digest    digest.Digest  // of these rows; zero if digests are off
}

// inParts reports whether the token was made while reading partitions.
func (p *resumePoint) inParts() bool { return p.parts != partsDigest{} }

// bind returns the binding of a query, without its limit and its token, and of a
// table. Without push-down the source gets another query, which has other cursors, and
// so the binding is another one. It returns false if the query has a value that cannot be
// encoded: such a query has no tokens.
func bind(table *sources.Table, q Query, noPushdown bool) (b binding, ok bool) {
	var asked query.Fingerprint
	if noPushdown {
		asked = query.Identify("no push-down")
	}
	fingerprint := query.TableFingerprint(table)
	copy(b.table[:], fingerprint[:])
	key, ok := query.KeyFrom(asked, query.Fingerprint{}, &sources.Query{Table: q.Table, Columns: q.Columns, Where: q.Where, OrderBy: q.OrderBy})
	copy(b.query[:], key.Digest[:])
	return b, ok
}

// token encodes the resume point.
func (p resumePoint) token() Token {
	b := make([]byte, 0, 64+len(p.cursor))
	b = append(b, tokenVersion)
	b = append(b, p.query[:]...)
	b = append(b, p.table[:]...)
	b = append(b, p.parts[:]...)
	b = binary.AppendUvarint(b, uint64(len(p.states)))
	for _, s := range p.states {
		b = append(append(b, s.table[:]...), s.state[:]...)
	}
	b = binary.AppendUvarint(b, p.snapshots)
	b = binary.AppendUvarint(b, uint64(p.rowsAfter))
	if p.rowsAfter > 0 {
		b = append(b, p.sum[:]...)
	}
	b = binary.AppendUvarint(b, uint64(p.totalRows))
	if p.digest.IsZero() {
		b = append(b, 0)
	} else {
		state, _ := p.digest.MarshalBinary() // cannot fail
		b = append(append(b, byte(len(state))), state...)
	}
	if p.cursor != nil {
		b = append(append(b, 1), p.cursor...)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(xxh3.Hash(b)))
	return Token(base64.RawURLEncoding.EncodeToString(b))
}

var errMalformedToken = errors.New("not a valid token, or part of it is missing")

// parseToken decodes a token. It is the inverse of resumePoint.token.
func parseToken(t Token) (resumePoint, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(t))
	if err != nil || len(b) < 4 || binary.BigEndian.Uint32(b[len(b)-4:]) != uint32(xxh3.Hash(b[:len(b)-4])) {
		return resumePoint{}, errMalformedToken
	}
	in := bytes.NewReader(b[:len(b)-4])
	if version, err := in.ReadByte(); err == nil && version != tokenVersion {
		return resumePoint{}, fmt.Errorf("the token has version %d, but this program supports version %d: read from the start", version, tokenVersion)
	}
	var p resumePoint
	_, err1 := io.ReadFull(in, p.query[:])
	_, err2 := io.ReadFull(in, p.table[:])
	_, err3 := io.ReadFull(in, p.parts[:])
	err4 := p.parseStates(in)
	snapshots, err5 := binary.ReadUvarint(in)
	rowsAfter, err6 := binary.ReadUvarint(in)
	if errors.Join(err1, err2, err3, err4, err5, err6) != nil || rowsAfter > math.MaxInt64 || snapshots == 0 || snapshots > math.MaxInt32 {
		return resumePoint{}, errMalformedToken
	}
	p.snapshots = snapshots
	if p.rowsAfter = int64(rowsAfter); rowsAfter > 0 {
		if _, err := io.ReadFull(in, p.sum[:]); err != nil {
			return resumePoint{}, errMalformedToken
		}
	}
	if !p.parseTotal(in) {
		return resumePoint{}, errMalformedToken
	}
	switch has, err := in.ReadByte(); {
	case err != nil || has > 1 || has == 0 && in.Len() > 0:
		return resumePoint{}, errMalformedToken
	case has == 1:
		p.cursor = make([]byte, in.Len())
		_, _ = io.ReadFull(in, p.cursor) // cannot fail: in has Len bytes left
	}
	return p, nil
}

// parseStates decodes the states of tables.
func (p *resumePoint) parseStates(in *bytes.Reader) error {
	n, err := binary.ReadUvarint(in)
	if err != nil || n > maxStates {
		return errMalformedToken
	}
	for range n {
		var s tableState
		_, err1 := io.ReadFull(in, s.table[:])
		_, err2 := io.ReadFull(in, s.state[:])
		if err1 != nil || err2 != nil {
			return errMalformedToken
		}
		p.states = append(p.states, s)
	}
	return nil
}

// parseTotal decodes the number and the digest of all rows, and reports whether they are
// valid.
func (p *resumePoint) parseTotal(in *bytes.Reader) bool {
	total, err1 := binary.ReadUvarint(in)
	length, err2 := in.ReadByte()
	state := make([]byte, length)
	_, err3 := io.ReadFull(in, state)
	if errors.Join(err1, err2, err3) != nil || total > math.MaxInt64 {
		return false
	}
	p.totalRows = int64(total)
	if length > 0 && (p.digest.UnmarshalBinary(state) != nil || p.digest.IsZero()) {
		return false
	}
	return p.totalRows >= max(p.rowsAfter, p.digest.Rows())
}

// madeInParts reports whether a token was made while reading partitions.
func madeInParts(t Token) bool {
	p, err := parseToken(t)
	return err == nil && p.inParts()
}

// resumeFrom returns the resume point of a query's token, or the start of the table
// without one. A token that does not belong to the query and the table is an error of
// kind [sources.Invalid].
func resumeFrom(table *sources.Table, q Query, noPushdown bool) (resumePoint, error) {
	now, ok := bind(table, q, noPushdown)
	switch {
	case !ok:
		return resumePoint{}, sources.Errorf(sources.Invalid, "", "", "a condition has a value of a type that tokens do not support: read without tokens")
	case q.After == "":
		return resumePoint{binding: now, snapshots: 1}, nil
	}
	t := q.After
	p, err := parseToken(t)
	switch {
	case err != nil:
	case p.table != now.table:
		err = errors.New("the token belongs to another table, or the table has changed since the token was made (its columns, types, key or abilities): read from the start")
	case p.query != now.query:
		err = errors.New("the token belongs to another query: use the same table, columns, conditions and order, with or without push-down as before")
	}
	if err != nil {
		return p, sources.Errorf(sources.Invalid, "", "", "after: %w", err)
	}
	return p, nil
}

// tokenTracker computes the token of each chunk from the pages that the chunks are
// made of. It is for one goroutine, the one that ranges over the stream.
type tokenTracker struct {
	start     resumePoint        // where the stream began
	last      resumePoint        // the end of the last chunk
	abilities sources.Capability // of the table
	columns   int                // number of columns of the result without relations, which sum covers
	none      digest.Digest      // of no rows with these columns
	changed   bool               // the rows before the token may differ, and the consumer accepts that
	sum       digest.Digest      // of the rows between the cursor and the end of the last chunk
	pageEnds  []pageEnd          // of pages whose last row is not in a chunk yet
	received  int64              // rows in pages, after those that were skipped
	delivered int64              // rows in chunks
}

// pageEnd is the end of a page that has a cursor.
type pageEnd struct {
	rows   int64 // rows received up to the end of the page
	cursor sources.Cursor
}

// newTokenTracker returns a tracker for a stream that begins at start. The result has
// the first shown columns of scanned.
func newTokenTracker(start resumePoint, table *sources.Table, scanned *arrow.Schema, shown int) *tokenTracker {
	none := digest.New(arrow.NewSchema(scanned.Fields()[:shown], nil))
	return &tokenTracker{start: start, last: start, abilities: table.Capabilities, columns: shown, none: none, sum: none}
}

var errDataChanged = errors.New("the rows before the token differ from those that were read when it was made: the data has changed; read from the start")

// skipDelivered yields pages without the rows between the cursor and the token, which
// an earlier stream delivered, and records where pages end. If the sum of the skipped
// rows differs from that of the token, it yields an error instead.
func (t *tokenTracker) skipDelivered(table string, pages sources.Batches) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		left := t.start.rowsAfter
		fail := func() {
			yield(sources.Batch{}, sources.NewError(sources.Invalid, "scan", table, errDataChanged))
		}
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			if left > 0 {
				skip := min(left, page.Record.NumRows())
				t.sum.AddColumns(page.Record.Columns()[:t.columns], 0, skip)
				if left -= skip; left == 0 && !t.changed && t.sum.OrderedSum() != t.start.sum {
					fail()
					return
				}
				if !t.yieldFrom(page, skip, yield) {
					return
				}
				continue
			}
			if !t.yieldFrom(page, 0, yield) {
				return
			}
		}
		if left > 0 && !t.changed {
			fail()
		}
	}
}

// yieldFrom yields a page without its first skip rows.
func (t *tokenTracker) yieldFrom(page sources.Batch, skip int64, yield func(sources.Batch, error) bool) bool {
	if skip > 0 {
		page.Record = page.Record.NewSlice(skip, page.Record.NumRows())
		defer page.Record.Release()
	}
	t.received += page.Record.NumRows()
	if page.Cursor != nil && t.abilities.Has(sources.CapResume) {
		end := pageEnd{t.received, bytes.Clone(page.Cursor)}
		if n := len(t.pageEnds); n > 0 && t.pageEnds[n-1].rows == t.received { // no row of this page met the condition
			t.pageEnds[n-1] = end
		} else {
			t.pageEnds = append(t.pageEnds, end)
		}
	}
	return yield(page, nil)
}

// advance moves to the end of the next chunk and returns its token. all is the digest of
// all rows up to there; zero if digests are off. The token is empty if the table cannot
// resume there: it has no cursor yet, and a new scan could yield other rows.
func (t *tokenTracker) advance(record arrow.RecordBatch, all digest.Digest) Token {
	n := record.NumRows()
	from := int64(0)
	for len(t.pageEnds) > 0 && t.pageEnds[0].rows <= t.delivered+n {
		from = t.pageEnds[0].rows - t.delivered
		t.last.cursor, t.last.rowsAfter = t.pageEnds[0].cursor, 0
		t.sum = t.none
		t.pageEnds = t.pageEnds[1:]
	}
	t.delivered += n
	t.last.totalRows += n
	t.last.digest = all
	if t.last.rowsAfter += n - from; t.last.rowsAfter > 0 {
		t.sum.AddColumns(record.Columns()[:t.columns], from, n)
		t.last.sum = t.sum.OrderedSum()
	}
	if t.last.cursor == nil && !t.abilities.Has(sources.CapStable) {
		return ""
	}
	return t.last.token()
}
