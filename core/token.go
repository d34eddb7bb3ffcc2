package core

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/zeebo/xxh3"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// Token is a place between two chunks of a stream's rows, as a text: a stream of
// the same query goes on right there ([Query.After]), also in another process,
// and long after. It is bound to the query, but for its Limit, and to the table
// as the catalogue had it. It holds no rows and no secret, but where the source's
// cursor does: PostgreSQL's has the values of the order's columns in one row.
//
// Chunks end within pages. So a token is the cursor of the last page that was
// given whole, how many rows were given since, and their checksum: they are read
// once more, and must be the same.
type Token string

// tokenVersion is the first byte of every token. The format is not append only: a
// token of another version is refused.
const tokenVersion = 1

const (
	bindingBytes  = 8 // of the digest of a query or a table
	checksumBytes = 16
)

// binding is what a token belongs to.
type binding struct {
	query, table [bindingBytes]byte
}

// resumePoint is what a token says.
type resumePoint struct {
	binding
	cursor sources.Cursor // nil: the beginning
	since  int64          // rows given since, after shaping
	sum    []byte         // of those; nil where there are none
}

// bind digests a query without its limit and its place, and its table. It is
// false where the query holds what cannot be encoded, and so has no tokens.
func bind(table *sources.Table, q Query) (b binding, ok bool) {
	shape := query.TableFingerprint(table)
	copy(b.table[:], shape[:])
	asked, ok := query.KeyFrom(query.Fingerprint{}, query.Fingerprint{}, &sources.Query{Table: q.Table, Columns: q.Columns, Where: q.Where, OrderBy: q.OrderBy})
	copy(b.query[:], asked.Digest[:])
	return b, ok
}

// token writes the bookmark as a text.
func (p resumePoint) token() Token {
	b := make([]byte, 0, 64+len(p.cursor))
	b = append(b, tokenVersion)
	b = append(b, p.query[:]...)
	b = append(b, p.table[:]...)
	b = binary.AppendUvarint(b, uint64(p.since))
	if p.since > 0 {
		b = append(b, p.sum...)
	}
	if p.cursor != nil {
		b = append(append(b, 1), p.cursor...)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(xxh3.Hash(b)))
	return Token(base64.RawURLEncoding.EncodeToString(b))
}

var errToken = errors.New("this is no token, or a part of it is missing")

// parseToken reads what token wrote.
func parseToken(t Token) (resumePoint, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(t))
	if err != nil || len(b) < 4 || binary.BigEndian.Uint32(b[len(b)-4:]) != uint32(xxh3.Hash(b[:len(b)-4])) {
		return resumePoint{}, errToken
	}
	in := bytes.NewReader(b[:len(b)-4])
	if version, err := in.ReadByte(); err == nil && version != tokenVersion {
		return resumePoint{}, fmt.Errorf("the token is of version %d, this program's are of version %d: read from the start", version, tokenVersion)
	}
	var p resumePoint
	_, err1 := io.ReadFull(in, p.query[:])
	_, err2 := io.ReadFull(in, p.table[:])
	since, err3 := binary.ReadUvarint(in)
	if errors.Join(err1, err2, err3) != nil || since > math.MaxInt64 {
		return resumePoint{}, errToken
	}
	if p.since = int64(since); since > 0 {
		p.sum = make([]byte, checksumBytes)
		if _, err := io.ReadFull(in, p.sum); err != nil {
			return resumePoint{}, errToken
		}
	}
	switch has, err := in.ReadByte(); {
	case err != nil || has > 1 || has == 0 && in.Len() > 0:
		return resumePoint{}, errToken
	case has == 1:
		p.cursor = make([]byte, in.Len())
		_, _ = io.ReadFull(in, p.cursor) // a reader of bytes has as many
	}
	return p, nil
}

// resumeFrom reads a query's token and holds it against what is asked. An error is of
// kind [sources.Invalid] and says why the token does not fit.
func resumeFrom(table *sources.Table, q Query) (resumePoint, error) {
	now, ok := bind(table, q)
	switch {
	case !ok:
		return resumePoint{}, &sources.Error{Kind: sources.Invalid, Err: errors.New("a condition has a value of a type that tokens cannot be bound to")}
	case q.After == "":
		return resumePoint{binding: now}, nil
	}
	t := q.After
	p, err := parseToken(t)
	switch {
	case err != nil:
	case p.query != now.query:
		err = errors.New("the token belongs to another query: ask for the same table, columns, conditions and order as then")
	case p.table != now.table:
		err = errors.New("the table is not what it was when the token was made: its columns, their types, its key or its abilities have changed; read from the start")
	}
	if err != nil {
		return p, &sources.Error{Kind: sources.Invalid, Err: fmt.Errorf("after: %w", err)}
	}
	return p, nil
}

// tokenTracker follows a stream's rows and knows the token behind each chunk. It is
// for the goroutine that ranges over the stream.
type tokenTracker struct {
	at     resumePoint        // behind the last chunk
	able   sources.Capability // of the table
	schema *arrow.Schema      // of the columns that are compared: the result's, without relations
	sum    *rows.Checksum     // of the rows since the cursor
	marks  []pageEnd          // of pages that were not given whole yet
	passed int64              // rows that came through
	given  int64              // rows that the consumer got
	resume resumePoint        // where the stream began
}

// pageEnd is the end of a page with a cursor.
type pageEnd struct {
	rows   int64 // that came up to it
	cursor sources.Cursor
}

func newTokenTracker(from resumePoint, table *sources.Table, scanned *arrow.Schema, shown int) *tokenTracker {
	t := &tokenTracker{at: from, resume: from, able: table.Capabilities, schema: arrow.NewSchema(scanned.Fields()[:shown], nil)}
	t.sum = rows.NewChecksum(t.schema)
	return t
}

var errNotTheSame = errors.New("the rows before the token are not those that were given then: the data has changed; read from the start")

// behind passes over the rows that were given since the token's cursor, after
// holding them against its checksum, and notes where pages end.
func (t *tokenTracker) behind(table string, pages sources.Batches) sources.Batches {
	return func(yield func(sources.Batch, error) bool) {
		left := t.resume.since
		fail := func() {
			yield(sources.Batch{}, &sources.Error{Op: "scan", Table: table, Kind: sources.Invalid, Err: errNotTheSame})
		}
		for page, err := range pages {
			if err != nil {
				yield(sources.Batch{}, err)
				return
			}
			if left > 0 {
				known := min(left, page.Record.NumRows())
				t.sum.AddSlice(page.Record, 0, known)
				if left -= known; left == 0 && t.sum.Sum() != hex.EncodeToString(t.resume.sum) {
					fail()
					return
				}
				if !t.rest(page, known, yield) {
					return
				}
				continue
			}
			if !t.rest(page, 0, yield) {
				return
			}
		}
		if left > 0 {
			fail()
		}
	}
}

// rest yields a page without its first rows.
func (t *tokenTracker) rest(page sources.Batch, known int64, yield func(sources.Batch, error) bool) bool {
	if known > 0 {
		page.Record = page.Record.NewSlice(known, page.Record.NumRows())
		defer page.Record.Release()
	}
	t.passed += page.Record.NumRows()
	if page.Cursor != nil && t.able.Has(sources.CapResume) {
		t.marks = append(t.marks, pageEnd{t.passed, bytes.Clone(page.Cursor)})
	}
	return yield(page, nil)
}

// chunk returns the token behind the next chunk, or an empty one where there is
// no way to come back there.
func (t *tokenTracker) chunk(record arrow.RecordBatch) Token {
	n := record.NumRows()
	from := int64(0)
	for len(t.marks) > 0 && t.marks[0].rows <= t.given+n {
		from = t.marks[0].rows - t.given
		t.at.cursor, t.at.since = t.marks[0].cursor, 0
		t.sum = rows.NewChecksum(t.schema)
		t.marks = t.marks[1:]
	}
	t.given += n
	if t.at.since += n - from; t.at.since > 0 {
		t.sum.AddSlice(record, from, n)
		t.at.sum, _ = hex.DecodeString(t.sum.Sum())
	}
	if t.at.cursor == nil && !t.able.Has(sources.CapStable) {
		return ""
	}
	return t.at.token()
}
