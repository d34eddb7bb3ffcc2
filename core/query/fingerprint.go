package query

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"

	"github.com/penstock-data/penstock/sources"
)

// Fingerprint stands for something in whole: SHA-256 over an encoding in which
// every text has its length before it, so that no two things have the same.
type Fingerprint [sha256.Size]byte

// String writes the fingerprint in hex.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseFingerprint reads what String writes.
func ParseFingerprint(s string) (f Fingerprint, ok bool) {
	n, err := hex.Decode(f[:], []byte(s[:min(len(s), 2*len(f))]))
	return f, err == nil && n == len(f) && len(s) == 2*len(f)
}

// Identify returns the identity of a source: of everything that its answers
// depend on beside the question, which is its kind, its address, its options and
// whose permissions it has. The order counts.
func Identify(parts ...string) Fingerprint {
	var c encoder
	c.text("penstock source")
	for _, p := range parts {
		c.text(p)
	}
	return c.sum()
}

// Key is a question to a table of a source.
type Key struct {
	Digest Fingerprint // of all of it
	Source Fingerprint // whose table it is, see [Identify]
	Table  string
}

// In reports whether the question is about a table of a source. An empty name
// stands for every table, a zero source for every source.
func (q Key) In(source Fingerprint, table string) bool {
	return (source == Fingerprint{} || source == q.Source) && (table == "" || table == q.Table)
}

// KeyOf returns the question that a query is to a table of the source with that
// identity: the whole query as it is sent, and of the catalogue what the answer
// depends on. How large pages or chunks are is no part of it. Conditions
// that differ only in the order of their parts are the same. It is false where
// the query holds what cannot be encoded, and so cannot be remembered.
func KeyOf(source Fingerprint, table *sources.Table, q *sources.Query) (Key, bool) {
	return KeyFrom(source, TableFingerprint(table), q)
}

func KeyFrom(source, table Fingerprint, q *sources.Query) (Key, bool) {
	c := encoder{b: make([]byte, 0, 512)}
	c.text("penstock question 1")
	c.b = append(append(c.b, source[:]...), table[:]...)
	c.text(q.Table)
	c.flag(q.Columns != nil)
	c.texts(q.Columns)
	c.predicate(q.Where)
	c.num(uint64(len(q.OrderBy)))
	for _, s := range q.OrderBy {
		c.text(s.Column)
		c.flag(s.Desc)
		c.flag(s.NullsFirst)
	}
	c.num(uint64(q.Limit))
	c.flag(q.After != nil)
	c.text(string(q.After))
	c.flag(q.Part != nil)
	c.text(string(q.Part))
	c.flag(q.Keys != nil)
	if k := q.Keys; k != nil {
		c.texts(k.Columns)
		c.num(uint64(k.LimitPerKey))
		c.flag(k.Values != nil)
		if k.Values != nil {
			c.num(uint64(k.Values.NumRows()))
			for _, column := range k.Values.Columns() {
				for row := range column.Len() {
					c.value(sources.ValueAt(column, row))
				}
			}
		}
	}
	return Key{Digest: c.sum(), Source: source, Table: q.Table}, !c.unsupported
}

// LookupKey returns the question that look-ups of a table are, for the rows of
// one key: q names the key's columns, the rows' order and how many of them there
// are, the residual what the engine does itself. types are those of the key, schema
// is that of the rows.
func LookupKey(source, table Fingerprint, q *sources.Query, rest Residual, types, schema *arrow.Schema) (Key, bool) {
	var c encoder
	c.text("penstock keys 1")
	c.b = slices.Concat(c.b, source[:], table[:])
	c.texts(q.Keys.Columns)
	for _, f := range types.Fields() {
		c.field(f)
	}
	c.texts(rest.Columns)
	c.predicate(q.Where)
	c.predicate(rest.Where)
	c.num(uint64(len(q.OrderBy)))
	for _, s := range q.OrderBy {
		c.text(s.Column)
		c.flag(s.Desc)
		c.flag(s.NullsFirst)
	}
	c.num(uint64(q.Keys.LimitPerKey))
	for _, f := range schema.Fields() {
		c.field(f)
	}
	return Key{Digest: c.sum(), Source: source, Table: q.Table}, !c.unsupported
}

// TableFingerprint is the fingerprint of what an answer depends on of a table's entry in
// the catalogue: the columns with their types and comments, which are in the
// answer's schema, and what the table can do. How many rows it is estimated to
// have changes all the time, and no answer.
func TableFingerprint(t *sources.Table) Fingerprint {
	var c encoder
	c.text("penstock table")
	c.text(t.Name)
	c.num(uint64(t.Capabilities))
	c.texts(t.Key)
	c.num(uint64(t.Schema.NumFields()))
	for _, f := range t.Schema.Fields() {
		c.field(f)
	}
	c.metadata(t.Schema.Metadata())
	return c.sum()
}

// encoder is the canonical encoding: numbers as varints, which say where they end,
// and texts behind their length.
type encoder struct {
	b           []byte
	unsupported bool // it holds what has no encoding
}

func (c *encoder) sum() Fingerprint { return sha256.Sum256(c.b) }

func (c *encoder) num(n uint64) { c.b = binary.AppendUvarint(c.b, n) }

func (c *encoder) text(s string) {
	c.num(uint64(len(s)))
	c.b = append(c.b, s...)
}

func (c *encoder) texts(list []string) {
	c.num(uint64(len(list)))
	for _, s := range list {
		c.text(s)
	}
}

func (c *encoder) flag(b bool) {
	if b {
		c.b = append(c.b, 1)
	} else {
		c.b = append(c.b, 0)
	}
}

// set encodes what has no order, each once.
func (c *encoder) set(n int, encode func(c *encoder, i int)) {
	parts := make([]string, n)
	for i := range parts {
		var part encoder
		encode(&part, i)
		parts[i], c.unsupported = string(part.b), c.unsupported || part.unsupported
	}
	slices.Sort(parts)
	c.texts(slices.Compact(parts))
}

func (c *encoder) predicate(p sources.Predicate) {
	switch p := p.(type) {
	case nil:
		c.predicate(sources.And{})
	case sources.Comparison:
		c.text("compare")
		c.text(p.Column)
		c.num(uint64(p.Op))
		c.value(p.Value)
	case sources.In:
		c.text("in")
		c.text(p.Column)
		c.set(len(p.Values), func(c *encoder, i int) { c.value(p.Values[i]) })
	case sources.IsNull:
		c.text("null")
		c.text(p.Column)
		c.flag(p.Not)
	case sources.HasPrefix:
		c.text("prefix")
		c.text(p.Column)
		c.text(p.Prefix)
	case sources.Like:
		c.text("like")
		c.text(p.Column)
		c.text(p.Pattern)
	case sources.And:
		c.text("and")
		c.set(len(p), func(c *encoder, i int) { c.predicate(p[i]) })
	case sources.Or:
		c.text("or")
		c.set(len(p), func(c *encoder, i int) { c.predicate(p[i]) })
	case sources.Not:
		c.text("not")
		c.predicate(p.Predicate)
	default:
		c.unsupported = true
	}
}

func (c *encoder) value(v sources.Value) {
	c.flag(v.Type != nil)
	if v.Type != nil {
		c.dataType(v.Type)
	}
	switch x := v.V.(type) {
	case nil:
		c.text("NULL")
	case bool:
		c.text("bool")
		c.flag(x)
	case int64:
		c.text("int")
		c.num(uint64(x))
	case uint64:
		c.text("uint")
		c.num(x)
	case float64:
		c.text("float")
		c.num(math.Float64bits(x))
	case string:
		c.text("text")
		c.text(x)
	case decimal128.Num:
		c.text("decimal")
		c.text(x.BigInt().String())
	case decimal256.Num:
		c.text("decimal")
		c.text(x.BigInt().String())
	default:
		c.unsupported = true
	}
}

func (c *encoder) field(f arrow.Field) {
	c.text(f.Name)
	c.flag(f.Nullable)
	c.dataType(f.Type)
	c.metadata(f.Metadata)
}

// metadata is a set: the order of its keys says nothing.
func (c *encoder) metadata(m arrow.Metadata) {
	keys, values := m.Keys(), m.Values()
	c.set(len(keys), func(c *encoder, i int) {
		c.text(keys[i])
		c.text(values[i])
	})
}

// dataType encodes a type with all its parameters. The text of a type says them
// for those that are not nested.
func (c *encoder) dataType(t arrow.DataType) {
	c.num(uint64(t.ID()))
	switch t := t.(type) {
	case arrow.ExtensionType:
		c.text(t.ExtensionName())
		c.text(t.Serialize())
		c.dataType(t.StorageType())
	case *arrow.DictionaryType:
		c.dataType(t.IndexType)
		c.dataType(t.ValueType)
		c.flag(t.Ordered)
	case *arrow.MapType:
		c.flag(t.KeysSorted)
		c.field(t.KeyField())
		c.field(t.ItemField())
	case *arrow.FixedSizeListType:
		c.num(uint64(t.Len()))
		c.field(t.ElemField())
	case arrow.ListLikeType:
		c.field(t.ElemField())
	case *arrow.StructType:
		c.num(uint64(t.NumFields()))
		for _, f := range t.Fields() {
			c.field(f)
		}
	case arrow.NestedType:
		c.unsupported = true // unions and run ends, which no source of ours makes
	default:
		c.text(fmt.Sprint(t))
	}
}
