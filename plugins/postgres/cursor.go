package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// A cursor is a kind, a digest of the query that it belongs to, a digest of the
// moment that was seen where the place means something in that alone, and a
// place. By keyset that is the values of the order's terms in the last row, as
// they were on the wire: a length in 32 bits and the bytes, all ones for NULL. By
// count it is the number of rows that were given.
const (
	byKeyset = 1
	byCount  = 2
)

const digestBytes = 16

var (
	errCursor = errors.New("the cursor does not belong to this query")
	errMoment = errors.New("the cursor or the partition belongs to another snapshot, and rows without an order have no place outside of theirs: " +
		"join the snapshot, or ask for an order, by which a scan resumes anywhere")
)

func digest(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d %s", len(p), p)
	}
	return h.Sum(nil)[:digestBytes]
}

// cursorOf begins a cursor of a query.
func cursorOf(kind byte, q *sources.Query, terms []term) []byte {
	var b bytes.Buffer
	part := func(format string, args ...any) { fmt.Fprintf(&b, format+"\x00", args...) }
	part("%q %q %x", q.Table, q.Columns, []byte(q.Part))
	if q.Where != nil {
		part("where %T %#v %s", q.Where, len(sources.Conjuncts(q.Where)), q.Where)
	}
	for _, t := range terms {
		part("%q %t %t", t.expr, t.desc, t.nullsFirst)
	}
	if q.Keys != nil {
		part("%q %d", q.Keys.Columns, q.Keys.LimitPerKey)
		for i := range int(q.Keys.Values.NumCols()) {
			eachValue(q.Keys.Values.Column(i), func(v sources.Value) { part("%s", v) })
		}
	}
	return append([]byte{kind}, digest(b.String())...)
}

func eachValue(a arrow.Array, visit func(sources.Value)) {
	for row := range a.Len() {
		visit(sources.ValueAt(a, row))
	}
}

// cursors follows a scan and writes the cursor of its last row.
type cursors struct {
	head  []byte
	last  [][]byte // by keyset; nil by count
	count uint64
	disk  bool // the rows must come in the order of the disk, which nobody has asked for
}

var errDisk = &sources.Error{Kind: sources.Unavailable, Err: errors.New("the server has changed the way in which it reads the table since it was asked; read again")}

// cursors holds what the query names of a moment, its partition and its cursor,
// against the moment that the member sees. It returns nil where the table's
// scans have no cursors.
func (n *session) cursors(ctx context.Context, m *member, t *table, q *sources.Query, b *statement) (*cursors, error) {
	c := &cursors{disk: b.unsorted}
	if b.physical {
		c.head = cursorOf(byCount, q, nil)
	} else {
		c.head, c.last = cursorOf(byKeyset, q, b.terms), make([][]byte, len(b.terms))
	}
	if b.momentary {
		place, err := m.place(ctx, t)
		if err != nil {
			return nil, err
		}
		moment := digest(m.moment, place)
		if q.Part != nil && !bytes.Equal(b.part.moment, moment) || q.After != nil && !bytes.Equal(b.seen, moment) {
			return nil, &sources.Error{Kind: sources.Invalid, Err: errMoment}
		}
		c.head = append(c.head, moment...)
	}
	if !b.cursors {
		return nil, nil
	}
	c.count = b.skip
	return c, nil
}

// pass notes a row by the values of the order's terms. They are valid until the
// next row alone.
func (c *cursors) pass(terms [][]byte) error {
	c.count++
	if c.disk && bytes.Compare(terms[0], c.last[0]) <= 0 { // a place is in big endian
		return errDisk
	}
	for i, v := range terms {
		// A nil stays nil; an empty value must not become one.
		if v == nil {
			c.last[i] = nil
			continue
		}
		if c.last[i] == nil {
			c.last[i] = make([]byte, 0, 16)
		}
		c.last[i] = append(c.last[i][:0], v...)
	}
	return nil
}

func (c *cursors) write() sources.Cursor {
	out := bytes.Clone(c.head)
	if c.last == nil {
		return binary.BigEndian.AppendUint64(out, c.count)
	}
	for _, v := range c.last {
		if v == nil {
			out = binary.BigEndian.AppendUint32(out, math.MaxUint32)
			continue
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(v))), v...)
	}
	return out
}

// resume takes the query's cursor apart: what it has seen of a moment, and
// either the number of rows that were given or the values of the terms.
func (b *statement) resume(q *sources.Query) (last [][]byte, err error) {
	kind := byte(byKeyset)
	if b.physical {
		kind = byCount
	}
	head := cursorOf(kind, q, b.terms)
	c, ok := bytes.CutPrefix(q.After, head)
	if !ok {
		return nil, errCursor
	}
	if b.momentary {
		if len(c) < digestBytes {
			return nil, errCursor
		}
		b.seen, c = c[:digestBytes], c[digestBytes:]
	}
	if b.physical {
		if len(c) != 8 {
			return nil, errCursor
		}
		if b.skip = binary.BigEndian.Uint64(c); b.skip > math.MaxInt64 {
			return nil, errCursor
		}
		return nil, nil
	}
	last = make([][]byte, len(b.terms))
	for i := range last {
		if len(c) < 4 {
			return nil, errCursor
		}
		n := binary.BigEndian.Uint32(c)
		if c = c[4:]; n == math.MaxUint32 {
			if !b.terms[i].nullable {
				return nil, errCursor
			}
			continue
		}
		if uint64(n) > uint64(len(c)) {
			return nil, errCursor
		}
		last[i], c = c[:n:n], c[n:]
	}
	if len(c) > 0 {
		return nil, errCursor
	}
	return last, nil
}
