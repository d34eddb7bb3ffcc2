package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// A cursor is a version, a digest of the query it belongs to, and the values of
// the order's terms in the last row, as they were on the wire: a length in 32
// bits and the bytes, all ones for NULL.
const (
	cursorVersion = 1
	cursorHead    = 1 + 16
)

var errCursor = errors.New("the cursor does not belong to this query")

// digest identifies a query by all that a cursor depends on.
func digest(q *sources.Query, terms []term) []byte {
	h := sha256.New()
	part := func(format string, args ...any) { fmt.Fprintf(h, format+"\x00", args...) }
	part("%q %q", q.Table, q.Columns)
	if q.Where != nil {
		part("where %T %#v %s", q.Where, len(sources.Conjuncts(q.Where)), q.Where)
	}
	for _, t := range terms {
		part("%q %t %t", t.expr, t.desc, t.nullsFirst)
	}
	if q.Keys != nil {
		part("%q %d", q.Keys.Columns, q.Keys.PerKey)
		for i := range int(q.Keys.Values.NumCols()) {
			eachValue(q.Keys.Values.Column(i), func(v sources.Value) { part("%s", v) })
		}
	}
	return h.Sum(nil)[:16]
}

func eachValue(a arrow.Array, visit func(sources.Value)) {
	for row := range a.Len() {
		visit(sources.ValueAt(a, row))
	}
}

func writeCursor(head []byte, last [][]byte) sources.Cursor {
	out := append([]byte{cursorVersion}, head...)
	for _, v := range last {
		if v == nil {
			out = binary.BigEndian.AppendUint32(out, math.MaxUint32)
			continue
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(v))), v...)
	}
	return out
}

// readCursor returns the terms' values of a cursor of this query.
func readCursor(q *sources.Query, terms []term) ([][]byte, error) {
	c := []byte(q.After)
	if len(c) < cursorHead || c[0] != cursorVersion || !bytes.Equal(c[1:cursorHead], digest(q, terms)) {
		return nil, errCursor
	}
	c = c[cursorHead:]
	last := make([][]byte, len(terms))
	for i := range last {
		if len(c) < 4 {
			return nil, errCursor
		}
		n := binary.BigEndian.Uint32(c)
		if c = c[4:]; n == math.MaxUint32 {
			if !terms[i].nullable {
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
