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

// Fingerprint identifies a value: it is the SHA-256 of the value's canonical
// encoding. Every text in the encoding is preceded by its length, so that
// different values have different encodings. The zero value identifies nothing.
type Fingerprint [sha256.Size]byte

// String returns the fingerprint in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseFingerprint parses the output of [Fingerprint.String] and reports whether s
// is valid.
func ParseFingerprint(s string) (f Fingerprint, ok bool) {
	n, err := hex.Decode(f[:], []byte(s[:min(len(s), 2*len(f))]))
	return f, err == nil && n == len(f) && len(s) == 2*len(f)
}

// Identify returns the identity of a source. The parts are what the source's
// results depend on besides the query: its kind, address and options, and whose
// permissions it reads with. Their order matters.
func Identify(parts ...string) Fingerprint {
	var e encoder
	e.text("penstock source")
	for _, part := range parts {
		e.text(part)
	}
	return e.sum()
}

// Key identifies a query against a table of a source, and so the entry of a cache
// that holds its result. Keys are comparable.
type Key struct {
	Digest Fingerprint // identifies the query, the table and the source
	Source Fingerprint // the source's identity, from [Identify], without that of its catalog
	Table  string      // the table's name
}

// In reports whether k is a query against that table of that source. An empty
// table matches every table, and the zero source every source.
func (k Key) In(source Fingerprint, table string) bool {
	return (source == Fingerprint{} || source == k.Source) && (table == "" || table == k.Table)
}

// KeyOf returns the key of a query against a table of the source with that
// identity. The key depends on the whole query as the source receives it, and on
// the table's [TableFingerprint], but not on the size of pages or chunks.
// Predicates that differ only in the order of their terms have the same key.
//
// KeyOf returns false if the query contains something that has no encoding. Its
// result cannot be cached.
func KeyOf(source Fingerprint, table *sources.Table, q *sources.Query) (Key, bool) {
	return KeyFrom(source, TableFingerprint(table), q)
}

// KeyFrom is [KeyOf] for a table whose [TableFingerprint] is known.
func KeyFrom(source, table Fingerprint, q *sources.Query) (Key, bool) {
	e := encoder{b: make([]byte, 0, 512)}
	e.text("penstock question 1")
	e.b = append(append(e.b, source[:]...), table[:]...)
	e.text(q.Table)
	e.flag(q.Columns != nil)
	e.texts(q.Columns)
	e.predicate(q.Where)
	e.order(q.OrderBy)
	e.num(uint64(q.Limit))
	e.flag(q.After != nil)
	e.text(string(q.After))
	e.flag(q.Part != nil)
	e.text(string(q.Part))
	e.flag(q.Keys != nil)
	if keys := q.Keys; keys != nil {
		e.texts(keys.Columns)
		e.num(uint64(keys.LimitPerKey))
		e.flag(keys.Values != nil)
		if keys.Values != nil {
			e.num(uint64(keys.Values.NumRows()))
			for _, column := range keys.Values.Columns() {
				for row := range column.Len() {
					e.value(sources.ValueAt(column, row))
				}
			}
		}
		if keys.From != nil { // without it, keys have the encoding that they have always had
			e.text(keys.From.Table)
			e.texts(keys.From.Columns)
		}
	}
	return Key{Digest: e.sum(), Source: source, Table: q.Table}, !e.unsupported
}

// LookupKey returns the key under which the rows of single look-up keys are
// cached. The query q has the columns of the look-up key, the order of the rows of
// each key and their limit; residual is what the engine applies to them. keyTypes
// has the types of the key columns, schema the columns of the rows. LookupKey
// returns false if something in them has no encoding.
func LookupKey(source, table Fingerprint, q *sources.Query, residual Residual, keyTypes, schema *arrow.Schema) (Key, bool) {
	var e encoder
	e.text("penstock keys 1")
	e.b = slices.Concat(e.b, source[:], table[:])
	e.texts(q.Keys.Columns)
	for _, f := range keyTypes.Fields() {
		e.field(f)
	}
	e.texts(residual.Columns)
	e.predicate(q.Where)
	e.predicate(residual.Where)
	e.order(q.OrderBy)
	e.num(uint64(q.Keys.LimitPerKey))
	for _, f := range schema.Fields() {
		e.field(f)
	}
	if from := q.Keys.From; from != nil {
		e.text(from.Table)
		e.texts(from.Columns)
	}
	return Key{Digest: e.sum(), Source: source, Table: q.Table}, !e.unsupported
}

// TableFingerprint identifies the parts of a table's catalog entry that results
// depend on: what the table can do, its key, and its columns with their types and
// comments, which are part of a result's schema. The estimated number of rows is
// not among them: it changes often and affects no result.
func TableFingerprint(t *sources.Table) Fingerprint {
	var e encoder
	e.text("penstock table")
	e.text(t.Name)
	e.num(uint64(t.Capabilities))
	e.texts(t.Key)
	e.num(uint64(t.Schema.NumFields()))
	for _, f := range t.Schema.Fields() {
		e.field(f)
	}
	e.metadata(t.Schema.Metadata())
	return e.sum()
}

// encoder writes the canonical encoding. Numbers are varints, which mark their own
// end, and each text follows its length.
type encoder struct {
	b           []byte
	unsupported bool // set when a value has no encoding
}

func (e *encoder) sum() Fingerprint { return sha256.Sum256(e.b) }

func (e *encoder) num(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) text(s string) {
	e.num(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) texts(list []string) {
	e.num(uint64(len(list)))
	for _, s := range list {
		e.text(s)
	}
}

func (e *encoder) flag(b bool) {
	if b {
		e.b = append(e.b, 1)
	} else {
		e.b = append(e.b, 0)
	}
}

// set encodes n values without regard to their order, equal ones once.
func (e *encoder) set(n int, encode func(e *encoder, i int)) {
	parts := make([]string, n)
	for i := range parts {
		var part encoder
		encode(&part, i)
		parts[i], e.unsupported = string(part.b), e.unsupported || part.unsupported
	}
	slices.Sort(parts)
	e.texts(slices.Compact(parts))
}

// predicate encodes a predicate. It encodes nil, which selects every row, as an
// empty conjunction.
func (e *encoder) order(terms []sources.Sort) {
	e.num(uint64(len(terms)))
	for _, t := range terms {
		e.text(t.Column)
		e.flag(t.Desc)
		e.flag(t.NullsFirst)
	}
}

func (e *encoder) predicate(p sources.Predicate) {
	switch p := p.(type) {
	case nil:
		e.predicate(sources.And{})
	case sources.Comparison:
		e.text("compare")
		e.text(p.Column)
		e.num(uint64(p.Op))
		e.value(p.Value)
	case sources.In:
		e.text("in")
		e.text(p.Column)
		e.set(len(p.Values), func(e *encoder, i int) { e.value(p.Values[i]) })
	case sources.IsNull:
		e.text("null")
		e.text(p.Column)
		e.flag(p.Not)
	case sources.HasPrefix:
		e.text("prefix")
		e.text(p.Column)
		e.text(p.Prefix)
	case sources.Like:
		e.text("like")
		e.text(p.Column)
		e.text(p.Pattern)
	case sources.And:
		e.text("and")
		e.set(len(p), func(e *encoder, i int) { e.predicate(p[i]) })
	case sources.Or:
		e.text("or")
		e.set(len(p), func(e *encoder, i int) { e.predicate(p[i]) })
	case sources.Not:
		e.text("not")
		e.predicate(p.Predicate)
	default:
		e.unsupported = true
	}
}

func (e *encoder) value(v sources.Value) {
	e.flag(v.Type != nil)
	if v.Type != nil {
		e.dataType(v.Type)
	}
	switch x := v.V.(type) {
	case nil:
		e.text("NULL")
	case bool:
		e.text("bool")
		e.flag(x)
	case int64:
		e.text("int")
		e.num(uint64(x))
	case uint64:
		e.text("uint")
		e.num(x)
	case float64:
		e.text("float")
		e.num(math.Float64bits(x))
	case string:
		e.text("text")
		e.text(x)
	case decimal128.Num:
		e.text("decimal")
		e.text(x.BigInt().String())
	case decimal256.Num:
		e.text("decimal")
		e.text(x.BigInt().String())
	default:
		e.unsupported = true
	}
}

func (e *encoder) field(f arrow.Field) {
	e.text(f.Name)
	e.flag(f.Nullable)
	e.dataType(f.Type)
	e.metadata(f.Metadata)
}

// metadata encodes metadata as a set, since the order of its keys has no meaning.
func (e *encoder) metadata(m arrow.Metadata) {
	keys, values := m.Keys(), m.Values()
	e.set(len(keys), func(e *encoder, i int) {
		e.text(keys[i])
		e.text(values[i])
	})
}

// dataType encodes a type with its parameters. The text of a type that is not
// nested includes all of them.
func (e *encoder) dataType(t arrow.DataType) {
	e.num(uint64(t.ID()))
	switch t := t.(type) {
	case arrow.ExtensionType:
		e.text(t.ExtensionName())
		e.text(t.Serialize())
		e.dataType(t.StorageType())
	case *arrow.DictionaryType:
		e.dataType(t.IndexType)
		e.dataType(t.ValueType)
		e.flag(t.Ordered)
	case *arrow.MapType:
		e.flag(t.KeysSorted)
		e.field(t.KeyField())
		e.field(t.ItemField())
	case *arrow.FixedSizeListType:
		e.num(uint64(t.Len()))
		e.field(t.ElemField())
	case arrow.ListLikeType:
		e.field(t.ElemField())
	case *arrow.StructType:
		e.num(uint64(t.NumFields()))
		for _, f := range t.Fields() {
			e.field(f)
		}
	case arrow.NestedType:
		e.unsupported = true // union and run-end encoded types, which no source produces
	default:
		e.text(fmt.Sprint(t))
	}
}
