package csv

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/penstock-data/penstock/sources"
)

// addLookups sets the lookups of the tables: by their keys, by the columns of
// foreign keys, and by the columns that relations lead to and through. A table that
// can be read only once has none.
func addLookups(c *sources.Catalog, tables map[string]*table) {
	seen := map[string]bool{}
	add := func(name string, columns []string) {
		id := fmt.Sprintf("%q %q", name, columns)
		if len(columns) == 0 || seen[id] || tables[name].isOnePass() {
			return
		}
		seen[id] = true
		t := c.Table(name)
		t.Lookups = append(t.Lookups, sources.Lookup{Columns: columns})
	}
	for i := range c.Tables {
		t := &c.Tables[i]
		add(t.Name, t.Key)
		for _, u := range t.Unique {
			add(t.Name, u)
		}
	}
	for i := range c.Tables {
		t := &c.Tables[i]
		for _, r := range t.Relations {
			if r.Unusable != "" {
				continue
			}
			if r.Kind == sources.BelongsTo {
				add(t.Name, r.Columns)
			}
			add(r.TargetTable, r.TargetColumns)
			if r.Through != nil {
				add(r.Through.Table, r.Through.Near)
				add(r.Through.Table, r.Through.Far)
			}
		}
	}
}

// Keys are compared as bytes: for each column the 8 or 16 bytes of a number, or the
// length of a text and the text. Equal values have equal bytes, however they are
// written in the file.

func (c *column) appendKey(to []byte, d datum) []byte {
	switch c.kind {
	case textKind, fileKind:
		to = binary.AppendUvarint(to, uint64(len(d.text)))
		return append(to, d.text...)
	case decimalKind:
		to = binary.LittleEndian.AppendUint64(to, uint64(d.n))
		return binary.LittleEndian.AppendUint64(to, uint64(d.high))
	}
	if c.kind == floatKind && d.n == math.MinInt64 { // -0 equals 0
		d.n = 0
	}
	return binary.LittleEndian.AppendUint64(to, uint64(d.n))
}

// datumAt returns a value of an array, which must not be NULL. The array has a type
// that column.dataType returns.
func datumAt(a arrow.Array, i int) datum {
	switch a := a.(type) {
	case *array.Int64:
		return datum{n: a.Value(i)}
	case *array.Int32:
		return datum{n: int64(a.Value(i))}
	case *array.Decimal128:
		n := a.Value(i)
		return datum{n: int64(n.LowBits()), high: n.HighBits()}
	case *array.Boolean:
		return datum{n: boolToInt(a.Value(i))}
	case *array.Date32:
		return datum{n: int64(a.Value(i))}
	case *array.Time64:
		return datum{n: int64(a.Value(i))}
	case *array.Timestamp:
		return datum{n: int64(a.Value(i))}
	case *array.Float64:
		return datum{n: int64(math.Float64bits(a.Value(i)))}
	case *array.String:
		return datum{text: []byte(a.Value(i))}
	}
	panic(&sources.Error{Kind: sources.Internal}) // Catalog.Check compared the types
}

// keySet holds the keys that a scan looks up.
type keySet struct {
	columns []int          // indexes in the table, in the key's order
	counts  map[string]int // how many rows were found for each key
	perKey  int            // the most rows for each key; 0 means no limit
	buf     []byte
}

func (t *table) keySet(k *sources.Keys) *keySet {
	s := &keySet{counts: make(map[string]int, k.Values.NumRows()), perKey: k.LimitPerKey}
	for _, name := range k.Columns {
		s.columns = append(s.columns, t.indexes[name])
	}
	for row := range int(k.Values.NumRows()) {
		s.buf = s.buf[:0]
		null := false
		for i, c := range s.columns {
			values := k.Values.Column(i)
			if null = values.IsNull(row); null {
				break
			}
			s.buf = t.columns[c].appendKey(s.buf, datumAt(values, row))
		}
		if !null {
			s.counts[string(s.buf)] = 0
		}
	}
	return s
}

// key appends the key of the record to buf. ok is false if the key contains a NULL.
func (r *row) key(columns []int, buf []byte) (key []byte, ok bool, err error) {
	for _, i := range columns {
		d, null, err := r.datum(i)
		if err != nil || null {
			return buf, false, err
		}
		buf = r.reader.table.columns[i].appendKey(buf, d)
	}
	return buf, true, nil
}

// matches reports whether the record has a key of the set that has not reached its
// limit of rows, and counts the row.
func (s *keySet) matches(r *row) (bool, error) {
	key, ok, err := r.key(s.columns, s.buf[:0])
	s.buf = key
	if err != nil || !ok {
		return false, err
	}
	n, ok := s.counts[string(key)]
	if !ok || s.perKey > 0 && n >= s.perKey {
		return false, nil
	}
	if s.perKey > 0 {
		s.counts[string(key)] = n + 1
	}
	return true, nil
}

// isSortable reports whether a key of these columns has an order that a uint64 can
// hold.
func (t *table) isSortable(columns []int) bool {
	if len(columns) != 1 {
		return false
	}
	switch t.columns[columns[0]].kind {
	case textKind, fileKind, decimalKind, floatKind:
		return false
	}
	return true
}

// rankOf makes a uint64 of a key: in the key's order where it is sortable, else a
// hash, which different keys may share.
func rankOf(key []byte, sortable bool) uint64 {
	if sortable {
		return binary.LittleEndian.Uint64(key) ^ 1<<63
	}
	return hash(key)
}

// hash returns a hash that is the same in every process, since stored indexes
// contain it.
func hash(b []byte) uint64 {
	const k0, k1 = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93
	h := uint64(len(b)) * k0
	for len(b) >= 8 {
		high, low := bits.Mul64(h^binary.LittleEndian.Uint64(b), k1)
		h = high ^ low ^ k0
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	high, low := bits.Mul64(h^binary.LittleEndian.Uint64(tail[:]), k1)
	high, low = bits.Mul64(high^low^k0, k1)
	return high ^ low
}
