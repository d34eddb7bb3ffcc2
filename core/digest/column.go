package digest

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"

	"github.com/penstock-data/penstock/core/internal/rows"
)

// fold folds rows [from, from+n) of a column into the first n hashes, where from is
// relative to the start of the buffers.
func (b *block) fold(d arrow.ArrayData, from, n int) {
	t := d.DataType()
	if e, ok := t.(arrow.ExtensionType); ok {
		t = e.StorageType()
	}
	valid := n
	switch {
	case n == 0:
		return
	case t.ID() == arrow.NULL:
		valid = 0
	case !hasLayout(t):
		b.foldAsText(d, from, n)
		return
	case rows.HasNulls(d):
		valid = bitutil.CountSetBits(d.Buffers()[0].Bytes(), from, n)
	}
	switch valid {
	case n:
		b.foldValues(t, d, from, n)
	case 0: // there may be no values at all
		for i := range n {
			b.foldNull(i)
		}
	default:
		// Folding all values and then restoring the rows with NULL needs no branch
		// for each value.
		before := getBlock()
		defer putBlock(before)
		copy(before.a[:n], b.a[:n])
		copy(before.b[:n], b.b[:n])
		b.foldValues(t, d, from, n)
		bitmap := d.Buffers()[0].Bytes()
		for first := 0; first < n; first += 64 {
			for nulls := ^wordAt(bitmap, from+first); nulls != 0; nulls &= nulls - 1 {
				i := first + bits.TrailingZeros64(nulls)
				if i >= n {
					break
				}
				b.a[i], b.b[i] = before.a[i], before.b[i]
				b.foldNull(i)
			}
		}
	}
}

// wordAt returns the 64 bits of a bitmap from bit at on, with zeros beyond its end.
func wordAt(bitmap []byte, at int) uint64 {
	i, shift := at/8, at%8
	if i+9 <= len(bitmap) {
		return binary.LittleEndian.Uint64(bitmap[i:])>>shift | uint64(bitmap[i+8])<<(64-shift)
	}
	var word uint64
	for k, bits := range bitmap[i:] { // at most eight
		word |= uint64(bits) << (8 * k) >> shift
	}
	return word
}

// hasLayout reports whether foldValues knows the buffers of a type. Rows of other types,
// such as unions, are hashed as text.
func hasLayout(t arrow.DataType) bool {
	switch t.(type) {
	case *arrow.StringType, *arrow.BinaryType, *arrow.LargeStringType, *arrow.LargeBinaryType, *arrow.ListType, *arrow.MapType, *arrow.LargeListType,
		*arrow.FixedSizeListType, *arrow.StructType, *arrow.DictionaryType, arrow.FixedWidthDataType:
		return true
	}
	return false
}

// foldValues is fold without regard to NULL: the value of such a row may be anything.
func (b *block) foldValues(t arrow.DataType, d arrow.ArrayData, from, n int) {
	switch t := t.(type) {
	case *arrow.BooleanType:
		b.foldBits(d.Buffers()[1].Bytes(), from, n)
	case *arrow.StringType, *arrow.BinaryType:
		foldText(b, bytesOf(d, 2), arrow.GetData[int32](d.Buffers()[1].Bytes())[from:], n)
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		foldText(b, bytesOf(d, 2), arrow.GetData[int64](d.Buffers()[1].Bytes())[from:], n)
	case *arrow.ListType, *arrow.MapType:
		foldLists(b, d, arrow.GetData[int32](d.Buffers()[1].Bytes())[from:], n)
	case *arrow.LargeListType:
		foldLists(b, d, arrow.GetData[int64](d.Buffers()[1].Bytes())[from:], n)
	case *arrow.FixedSizeListType:
		var offsets [blockRows + 1]int64
		for i := range n + 1 {
			offsets[i] = int64(from+i) * int64(t.Len())
		}
		foldLists(b, d, offsets[:], n)
	case *arrow.StructType:
		fields := getBlock()
		defer putBlock(fields)
		fields.reset(n)
		for _, c := range d.Children() {
			fields.fold(c, c.Offset()+from, n)
		}
		b.foldHashes(fields, n)
	case *arrow.DictionaryType:
		b.foldDictionary(t, d, from, n)
	case *arrow.FixedSizeBinaryType:
		data := bytesOf(d, 1)
		for i := range n {
			b.a[i], b.b[i] = mixBytes(b.a[i], b.b[i], data[(from+i)*t.ByteWidth:(from+i+1)*t.ByteWidth])
		}
	case arrow.FixedWidthDataType:
		b.foldFixed(d.Buffers()[1].Bytes(), t.BitWidth()/8, from, n)
	}
}

// bytesOf returns a buffer of a column; nil if it is absent.
func bytesOf(d arrow.ArrayData, i int) []byte {
	if b := d.Buffers()[i]; b != nil {
		return b.Bytes()
	}
	return nil
}

// foldFixed folds values of a fixed number of bytes.
func (b *block) foldFixed(data []byte, width, from, n int) {
	data = data[from*width : (from+n)*width]
	switch width {
	case 1:
		foldNumbers(b, data, n)
	case 2:
		foldNumbers(b, arrow.GetData[uint16](data), n)
	case 4:
		foldNumbers(b, arrow.GetData[uint32](data), n)
	case 8:
		foldNumbers(b, arrow.GetData[uint64](data), n)
	case 16:
		b.foldPairs(arrow.GetData[uint64](data), n)
	case 32:
		b.foldQuads(arrow.GetData[uint64](data), n)
	default:
		panic(fmt.Sprintf("digest: a type has values of %d bytes", width))
	}
}

// foldLists folds n lists, each of which ends where the next one begins: the hashes of
// their elements in order, and their length.
func foldLists[O int32 | int64](b *block, d arrow.ArrayData, offsets []O, n int) {
	lists, elements := getBlock(), getBlock()
	defer putBlock(lists)
	defer putBlock(elements)
	lists.reset(n)
	child := d.Children()[0]
	list := 0
	for at := int(offsets[0]); at < int(offsets[n]); at += blockRows {
		count := min(blockRows, int(offsets[n])-at)
		elements.reset(count)
		elements.fold(child, child.Offset()+at, count)
		for i := range count {
			for int(offsets[list+1]) <= at+i {
				list++
			}
			lists.a[list] = mix(lists.a[list], elements.a[i], mulA)
			lists.b[list] = mix(lists.b[list], elements.b[i], mulB)
		}
	}
	for i := range n {
		length := uint64(offsets[i+1] - offsets[i])
		lists.a[i] ^= length * lengthA
		lists.b[i] ^= length * lengthB
	}
	b.foldHashes(lists, n)
}

// foldDictionary folds the values that indices refer to. A NULL in the dictionary is the
// same as one among the indices.
func (b *block) foldDictionary(t *arrow.DictionaryType, d arrow.ArrayData, from, n int) {
	values := d.Dictionary()
	bytes := t.IndexType.(arrow.FixedWidthDataType).BitWidth() / 8
	indices := bytesOf(d, 1)[from*bytes : (from+n)*bytes]
	hashes := getBlock()
	defer putBlock(hashes)
	whole := values.Len() <= n
	if whole {
		hashes.reset(values.Len())
		hashes.fold(values, values.Offset(), values.Len())
	}
	nulls := rows.HasNulls(values)
	for i := range n {
		v, at := indexAt(indices, bytes, i), 0
		switch {
		case v >= uint64(values.Len()):
			if !rows.HasNulls(d) || bitutil.BitIsSet(d.Buffers()[0].Bytes(), from+i) {
				panic("digest: a dictionary index is out of range")
			}
			continue
		case nulls && !bitutil.BitIsSet(values.Buffers()[0].Bytes(), values.Offset()+int(v)):
			b.foldNull(i)
			continue
		case whole:
			at = int(v)
		default:
			hashes.reset(1)
			hashes.fold(values, values.Offset()+int(v), 1)
		}
		b.a[i], b.b[i] = mix(b.a[i], hashes.a[at], mulA), mix(b.b[i], hashes.b[at], mulB)
	}
}

// indexAt returns an index of a dictionary, without its sign: none is negative.
func indexAt(indices []byte, bytes, i int) uint64 {
	switch bytes {
	case 1:
		return uint64(indices[i])
	case 2:
		return uint64(binary.NativeEndian.Uint16(indices[2*i:]))
	case 4:
		return uint64(binary.NativeEndian.Uint32(indices[4*i:]))
	}
	return binary.NativeEndian.Uint64(indices[8*i:])
}

// foldAsText folds the text of values whose layout is unknown here.
func (b *block) foldAsText(d arrow.ArrayData, from, n int) {
	a := array.MakeFromData(d)
	defer a.Release()
	from -= d.Offset()
	for i := range n {
		if a.IsNull(from + i) {
			b.foldNull(i)
			continue
		}
		b.a[i], b.b[i] = mixBytes(b.a[i], b.b[i], []byte(a.ValueStr(from+i)))
	}
}
