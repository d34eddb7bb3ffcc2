package relation

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/penstock-data/penstock/core/internal/rows"
	"github.com/penstock-data/penstock/sources"
)

// keyList is a list of keys, encoded so that two keys are the same bytes if and
// only if their values compare equal by [sources.Compare].
type keyList struct {
	rows  int
	state []byte  // of each row: keyValid, keyNull or keyAbsent
	width int     // bytes of every key, or -1 if they differ
	ends  []int32 // if width is -1: 0, and the end of each key in bytes
	bytes []byte
}

var (
	errKeysTooLong = errors.New("the keys of one chunk exceed 2 GiB: lower ChunkRows")
	errNoKey       = errors.New("a column of this type cannot be part of a key")
)

// The states of a key.
const (
	keyValid  byte = iota
	keyNull        // contains NULL, which equals nothing
	keyAbsent      // contains a value that the other side's type cannot represent
)

// at returns the bytes of a row's key.
func (k *keyList) at(row int) []byte {
	if k.width >= 0 {
		return k.bytes[row*k.width : (row+1)*k.width]
	}
	return k.bytes[k.ends[row]:k.ends[row+1]]
}

// keyWidth returns the encoded size of a value in bytes; -1 if it varies.
func keyWidth(t arrow.DataType) int {
	switch t := t.(type) {
	case *arrow.BooleanType:
		return 1
	case *arrow.StringType, *arrow.BinaryType, *arrow.LargeStringType, *arrow.LargeBinaryType:
		return -1
	case *arrow.FixedSizeBinaryType:
		return t.ByteWidth
	case *arrow.Decimal128Type:
		return 16
	case *arrow.Decimal256Type:
		return 32
	}
	return 8
}

// castKey converts a column of field from to the type of the keys of field to that it is
// compared with. A value that the type cannot represent becomes NULL. Numbers that are
// text get their canonical form, so that equal ones are the same bytes. The caller
// releases the result.
func castKey(mem memory.Allocator, from arrow.Field, column arrow.Array, to arrow.Field) arrow.Array {
	switch a := column.(type) {
	case array.ExtensionArray:
		return castKey(mem, from, a.Storage(), to)
	case *array.Dictionary:
		refs := make([]rows.Ref, a.Len())
		for i := range refs {
			refs[i] = rows.Ref{Record: -1}
			if a.IsValid(i) {
				refs[i] = rows.Ref{Row: int32(a.GetValueIndex(i))}
			}
		}
		values := rows.Take(mem, a.Dictionary().DataType(), true, []arrow.ArrayData{a.Dictionary().Data()}, refs)
		defer values.Release()
		return castKey(mem, from, values, to)
	}
	t, number := sources.FieldType(to), sources.FieldType(from) == sources.Number
	if arrow.TypeEqual(column.DataType(), t) && !number && t != sources.Number {
		column.Retain()
		return column
	}
	b := array.NewBuilder(mem, t)
	defer b.Release()
	for i := range column.Len() {
		v := sources.FieldValueAt(from, column, i)
		if number && !v.IsNull() && v.Type != sources.Number {
			panic(rows.NotANumber(from.Name, v.V.(string)))
		}
		v, ok := sources.Convert(v, t)
		if !ok {
			v = sources.Null(t)
		}
		sources.AppendValue(b, v)
	}
	return b.NewArray()
}

// encodeKeys encodes the keys of rows. columns have the types of the keys;
// original are the columns that they were cast from. The arena owns what it
// allocates.
func encodeKeys(arena *rows.Arena, columns, original []arrow.Array, rows int) keyList {
	k := keyList{rows: rows, state: arena.Bytes(rows)}
	for i, c := range columns {
		nullType := c.DataType().ID() == arrow.NULL
		if !nullType && c.NullN() == 0 {
			continue
		}
		for row := range rows {
			switch {
			case original[i].IsNull(row) || original[i].DataType().ID() == arrow.NULL || dictionaryNull(original[i], row):
				k.state[row] = keyNull
			case (nullType || c.IsNull(row)) && k.state[row] == keyValid:
				k.state[row] = keyAbsent
			}
		}
	}
	for _, c := range columns {
		w := keyWidth(c.DataType())
		if w < 0 || k.width < 0 {
			k.width = -1
			continue
		}
		k.width += w
	}
	if k.width >= 0 {
		k.bytes = arena.Bytes(rows * k.width)
		at := 0
		for _, c := range columns {
			writeFixed(c, k.bytes, at, k.width)
			at += keyWidth(c.DataType())
		}
		return k
	}
	k.ends = arena.Ints(rows + 1)
	total := 0
	for row := range rows {
		if k.state[row] == keyValid {
			for _, c := range columns {
				total += keySize(c, row, len(columns) > 1)
			}
		}
		if total > math.MaxInt32 {
			panic(sources.NewError(sources.Exhausted, "", "", errKeysTooLong))
		}
		k.ends[row+1] = int32(total)
	}
	k.bytes = arena.Bytes(total)
	to := k.bytes[:0]
	var fixed [32]byte
	for row := range rows {
		if k.state[row] != keyValid {
			continue
		}
		for _, c := range columns {
			if w := keyWidth(c.DataType()); w >= 0 {
				clear(fixed[:])
				one := array.NewSlice(c, int64(row), int64(row)+1)
				if w <= len(fixed) {
					writeFixed(one, fixed[:w], 0, w)
					to = append(to, fixed[:w]...)
				} else {
					to = append(to, one.(*array.FixedSizeBinary).Value(0)...)
				}
				one.Release()
				continue
			}
			value := textAt(c, row)
			if len(columns) > 1 {
				to = binary.LittleEndian.AppendUint32(to, uint32(len(value)))
			}
			to = append(to, value...)
		}
	}
	return k
}

// dictionaryNull reports whether a row of a dictionary column refers to a NULL
// value.
func dictionaryNull(a arrow.Array, row int) bool {
	d, ok := a.(*array.Dictionary)
	return ok && d.IsValid(row) && d.Dictionary().IsNull(d.GetValueIndex(row))
}

// keySize returns the encoded size of a value in bytes.
func keySize(c arrow.Array, row int, prefixed bool) int {
	if w := keyWidth(c.DataType()); w >= 0 {
		return w
	}
	n := len(textAt(c, row))
	if prefixed {
		n += 4
	}
	return n
}

// textAt returns a text or binary value without a copy. It is valid as long as the
// column.
func textAt(c arrow.Array, row int) string {
	switch a := c.(type) {
	case *array.String:
		return a.Value(row)
	case *array.LargeString:
		return a.Value(row)
	case *array.Binary:
		return a.ValueString(row)
	case *array.LargeBinary:
		return a.ValueString(row)
	}
	panic(sources.NewError(sources.Invalid, "", "", errNoKey))
}

// writeFixed writes a column's values to to[at], to[at+stride], and so on. What it
// writes for NULL is unspecified.
func writeFixed(c arrow.Array, to []byte, at, stride int) {
	put := func(row int, v uint64) { binary.LittleEndian.PutUint64(to[row*stride+at:], v) }
	float := func(row int, f float64) {
		switch {
		case f != f:
			f = math.NaN()
		case f == 0:
			f = 0 // encode -0 as 0
		}
		put(row, math.Float64bits(f))
	}
	switch a := c.(type) {
	case *array.Boolean:
		for row := range a.Len() {
			if a.Value(row) {
				to[row*stride+at] = 1
			}
		}
	case *array.Float16:
		for row := range a.Len() {
			float(row, float64(a.Value(row).Float32()))
		}
	case *array.Float32:
		for row, v := range a.Float32Values() {
			float(row, float64(v))
		}
	case *array.Float64:
		for row, v := range a.Float64Values() {
			float(row, v)
		}
	case *array.Decimal128:
		for row, v := range arrow.GetValues[decimal128.Num](a.Data(), 1) {
			put(row, v.LowBits())
			binary.LittleEndian.PutUint64(to[row*stride+at+8:], uint64(v.HighBits()))
		}
	case *array.Decimal256:
		for row, v := range arrow.GetValues[decimal256.Num](a.Data(), 1) {
			for i, word := range v.Array() {
				binary.LittleEndian.PutUint64(to[row*stride+at+8*i:], word)
			}
		}
	case *array.FixedSizeBinary:
		for row := range a.Len() {
			copy(to[row*stride+at:], a.Value(row))
		}
	default:
		d := c.Data()
		if c.Len() == 0 || len(d.Buffers()) < 2 || d.Buffers()[1] == nil {
			return
		}
		switch c.DataType().(arrow.FixedWidthDataType).BitWidth() {
		case 8:
			for row, v := range arrow.GetValues[uint8](d, 1) {
				put(row, uint64(v))
			}
		case 16:
			for row, v := range arrow.GetValues[uint16](d, 1) {
				put(row, uint64(v))
			}
		case 32:
			for row, v := range arrow.GetValues[uint32](d, 1) {
				put(row, uint64(v))
			}
		default:
			for row, v := range arrow.GetValues[uint64](d, 1) {
				put(row, v)
			}
		}
	}
}

// keySet is a set of distinct keys: a hash table with open addressing. The hash
// function differs between processes, so that nobody can construct keys that
// collide.
type keySet struct {
	list   keyList
	values arrow.RecordBatch // the keys as columns, in the order of list
	slots  []int32           // the index of a key plus one; 0 if empty
}

var hashSeed = maphash.MakeSeed()

func hashKey(key []byte) uint64 { return maphash.Bytes(hashSeed, key) }

// slotsFor returns the number of slots of a hash table for n keys.
func slotsFor(n int) int { return max(8, 1<<bits.Len(uint(2*n-1))) }

// find returns the index of a key, or -1.
func (k *keySet) find(key []byte) int {
	if len(k.slots) == 0 {
		return -1
	}
	mask := uint64(len(k.slots) - 1)
	for at := hashKey(key) & mask; ; at = (at + 1) & mask {
		n := int(k.slots[at]) - 1
		if n < 0 {
			return -1
		}
		if string(k.list.at(n)) == string(key) {
			return n
		}
	}
}

// distinct returns the distinct keys of rows, in the order of their first
// appearance, and the index of each row's key, or -1. columns have the types of
// the keys and become the columns of schema. The arena owns the results.
func distinct(arena *rows.Arena, all keyList, columns []arrow.Array, schema *arrow.Schema) (*keySet, []int32) {
	number, first := arena.Ints(all.rows), arena.Ints(all.rows)
	slots := arena.Ints(slotsFor(all.rows))
	mask := uint64(len(slots) - 1)
	n, size := 0, 0
	for row := range all.rows {
		if all.state[row] != keyValid {
			number[row] = -1
			continue
		}
		key := all.at(row)
		for at := hashKey(key) & mask; ; at = (at + 1) & mask {
			have := int(slots[at]) - 1
			if have < 0 {
				slots[at], first[n], number[row] = int32(n)+1, int32(row), int32(n)
				n++
				size += len(key)
				break
			}
			if string(all.at(int(first[have]))) == string(key) {
				number[row] = int32(have)
				break
			}
		}
	}
	k := &keySet{slots: slots, list: keyList{rows: n, width: all.width}}
	k.list.bytes = arena.Bytes(size)
	if all.width < 0 {
		k.list.ends = arena.Ints(n + 1)
	}
	refs, at := arena.Refs(n), 0
	for i := range n {
		at += copy(k.list.bytes[at:], all.at(int(first[i])))
		if all.width < 0 {
			k.list.ends[i+1] = int32(at)
		}
		refs[i] = rows.Ref{Row: first[i]}
	}
	k.values = rows.Keep(arena, takeRecord(arena.Mem, schema, columns, refs))
	return k, number
}

// takeRecord returns a record of the rows of columns with those references. The
// caller releases it.
func takeRecord(mem memory.Allocator, schema *arrow.Schema, columns []arrow.Array, refs []rows.Ref) arrow.RecordBatch {
	taken := make([]arrow.Array, 0, len(columns))
	defer func() {
		for _, c := range taken {
			c.Release()
		}
	}()
	for i, c := range columns {
		taken = append(taken, rows.Take(mem, schema.Field(i).Type, false, []arrow.ArrayData{c.Data()}, refs))
	}
	return array.NewRecordBatch(schema, taken, int64(len(refs)))
}
