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

// A cursor consists of a kind, a digest of its query, a digest of the snapshot if the
// position is valid only in that, and a position. In a keyset cursor, the position is the
// values of the terms in the last row in binary format, each preceded by its length in 32
// bits, where all ones means NULL. In a counting cursor it is the number of rows.
const (
	byKeyset = 1
	byCount  = 2
)

const digestBytes = 16

var (
	errCursor        = errors.New("the cursor does not belong to this query")
	errOtherSnapshot = errors.New("the cursor or the partition belongs to another snapshot, and without an order it is valid only there: " +
		"use the same snapshot, or set an order, which allows to resume in any snapshot")
)

func digest(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d %s", len(p), p)
	}
	return h.Sum(nil)[:digestBytes]
}

// cursorHeader returns the beginning of the cursors of a query.
func cursorHeader(kind byte, q *sources.Query, terms []term) []byte {
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
		if from := q.Keys.From; from != nil {
			part("%q %q", from.Table, from.Columns)
		}
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

// cursorWriter tracks a scan and makes cursors.
type cursorWriter struct {
	head       []byte
	last       [][]byte // the values of the last row; nil for counting cursors
	count      uint64
	checkOrder bool // check that rows come in physical order, since there is no ORDER BY
}

var errOrderChanged = sources.Errorf(sources.Unavailable, "", "", "the server has changed its plan for the table: read again")

// newCursorWriter checks that the cursor and the partition of a query belong to the snapshot
// of the connection. It returns nil if the scan has no cursors.
func (n *session) newCursorWriter(ctx context.Context, m *snapshotConn, t *table, q *sources.Query, b *statement) (*cursorWriter, error) {
	c := &cursorWriter{checkOrder: b.implicitOrder}
	if b.ctidScan {
		c.head = cursorHeader(byCount, q, nil)
	} else {
		c.head, c.last = cursorHeader(byKeyset, q, b.terms), make([][]byte, len(b.terms))
	}
	if b.snapshotBound {
		node, err := m.filenode(ctx, t)
		if err != nil {
			return nil, err
		}
		snapshot := digest(m.snapshotID, node)
		if q.Part != nil && !bytes.Equal(b.part.snapshot, snapshot) || q.After != nil && !bytes.Equal(b.cursorSnapshot, snapshot) {
			return nil, sources.NewError(sources.Invalid, "", "", errOtherSnapshot)
		}
		c.head = append(c.head, snapshot...)
	}
	if !b.cursors {
		return nil, nil
	}
	c.count = b.offset
	return c, nil
}

// addRow records the values of the terms in a row, which are valid until the next row.
func (c *cursorWriter) addRow(terms [][]byte) error {
	c.count++
	if c.checkOrder && bytes.Compare(terms[0], c.last[0]) <= 0 { // a ctid is big endian
		return errOrderChanged
	}
	for i, v := range terms {
		// Keep nil, which is NULL, distinct from an empty value.
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

func (c *cursorWriter) cursor() sources.Cursor {
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

// readCursor decodes the cursor of a query: its snapshot, and either the number of rows to
// skip or the values of the terms, which it returns.
func (b *statement) readCursor(q *sources.Query) (last [][]byte, err error) {
	kind := byte(byKeyset)
	if b.ctidScan {
		kind = byCount
	}
	head := cursorHeader(kind, q, b.terms)
	c, ok := bytes.CutPrefix(q.After, head)
	if !ok {
		return nil, errCursor
	}
	if b.snapshotBound {
		if len(c) < digestBytes {
			return nil, errCursor
		}
		b.cursorSnapshot, c = c[:digestBytes], c[digestBytes:]
	}
	if b.ctidScan {
		if len(c) != 8 {
			return nil, errCursor
		}
		if b.offset = binary.BigEndian.Uint64(c); b.offset > math.MaxInt64 {
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
