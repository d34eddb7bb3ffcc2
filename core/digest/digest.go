package digest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/zeebo/xxh3"
)

// Digest is the sum of the hashes of rows, in two forms: [Digest.Ordered] and
// [Digest.AnyOrder]. Neither depends on how the rows were divided into records, on the
// bytes that buffers hold under a NULL, or on how a dictionary is built. Both cover the
// names, types and nullability of the columns: rows of other columns never have an equal
// digest. NaNs of different bits, 0 and -0, and NULL and an empty value, are different
// values.
//
// Digests detect rows that were lost, repeated, changed or, with Ordered, moved. They are
// no protection against someone who makes rows that fit a digest.
//
// A Digest is a plain value: a copy is independent, and == compares both forms. The zero
// value is the digest of nothing: no rows of no particular columns. A Digest that is being
// added to is for one goroutine.
type Digest struct {
	schema   uint64    // hash of the columns; 0 only in the zero value
	rows     int64     // number of rows
	ordered  [2]uint64 // the row hashes as a polynomial, in two lanes modulo prime
	anyOrder [2]uint64 // the sum of the row hashes modulo 2^128: the low word, then the high one
}

// New returns the digest of no rows with the columns of a schema.
func New(schema *arrow.Schema) Digest {
	var text []byte
	for _, f := range schema.Fields() {
		// The length distinguishes "ab","c" from "a","bc".
		field := fmt.Sprintf("%s\x00%s\x00%t", f.Name, f.Type, f.Nullable)
		text = binary.AppendUvarint(text, uint64(len(field)))
		text = append(text, field...)
	}
	return Digest{schema: max(xxh3.Hash(text), 1)}
}

// Rows returns how many rows the digest covers.
func (d Digest) Rows() int64 { return d.rows }

// IsZero reports whether d is the zero value.
func (d Digest) IsZero() bool { return d == Digest{} }

// Equal reports whether both digests are equal in both forms, like ==.
func (d Digest) Equal(other Digest) bool { return d == other }

// SameColumns reports whether both digests are of rows with the same columns.
func (d Digest) SameColumns(other Digest) bool { return d.schema == other.schema }

// Add adds all rows of a record with the columns that d was made for.
func (d *Digest) Add(record arrow.RecordBatch) {
	d.AddColumns(record.Columns(), 0, record.NumRows())
}

// AddColumns adds rows [from, to) of columns, which must be those that d was made for.
// It takes a fixed amount of memory, some kilobytes for each level of nesting, which is
// not part of any budget, so that a digest is never refused memory.
func (d *Digest) AddColumns(columns []arrow.Array, from, to int64) {
	b := getBlock()
	defer putBlock(b)
	for ; from < to; from += blockRows {
		n := int(min(blockRows, to-from))
		b.reset(n)
		for _, c := range columns {
			data := c.Data()
			b.fold(data, data.Offset()+int(from), n)
		}
		d.addHashes(b, n)
	}
}

// addHashes finishes n row hashes and adds them.
func (d *Digest) addHashes(b *block, n int) {
	low, high := d.anyOrder[0], d.anyOrder[1]
	as, bs := b.a[:n], b.b[:n]
	for i := range as {
		h, k := finish(as[i], bs[i])
		as[i], bs[i] = h, k
		var carry uint64
		low, carry = bits.Add64(low, h, 0)
		high, _ = bits.Add64(high, k, carry)
	}
	d.rows += int64(n)
	d.ordered = [2]uint64{appendHashes(d.ordered[0], &powersA, as), appendHashes(d.ordered[1], &powersB, bs)}
	d.anyOrder = [2]uint64{low, high}
}

// Append returns the digest of the rows of d, followed by those of next. AnyOrder of the
// result is the same in whatever order digests are appended. Appending to the zero value,
// or appending it, changes nothing. Digests of different columns are an error.
func (d Digest) Append(next Digest) (Digest, error) {
	switch {
	case next.IsZero():
		return d, nil
	case d.IsZero():
		return next, nil
	case !d.SameColumns(next):
		return Digest{}, errors.New("digests of rows with different columns cannot be joined")
	case d.rows > math.MaxInt64-next.rows:
		return Digest{}, errors.New("digests of more than 2^63 rows cannot be joined")
	}
	for lane, base := range [...]uint64{baseA, baseB} {
		// The hash of each row of d moves up by one power for each row of next.
		d.ordered[lane] = canonical(multiply(d.ordered[lane], power(base, next.rows)) + next.ordered[lane])
	}
	var carry uint64
	d.anyOrder[0], carry = bits.Add64(d.anyOrder[0], next.anyOrder[0], 0)
	d.anyOrder[1], _ = bits.Add64(d.anyOrder[1], next.anyOrder[1], carry)
	d.rows += next.rows
	return d, nil
}

// prime is the modulus of the ordered form, the Mersenne prime 2^61-1.
const prime = 1<<61 - 1

// baseA and baseB are the numbers whose powers multiply the row hashes of the ordered
// form, one for each lane. They are arbitrary, but part of the format.
const (
	baseA = 0x1b39896a51a8749b
	baseB = 0x0b8488c368cb0a6f
)

// powersA and powersB have the powers 0 to 4 of the bases.
var powersA, powersB = firstPowers(baseA), firstPowers(baseB)

func firstPowers(base uint64) (powers [5]uint64) {
	for i := range powers {
		powers[i] = power(base, int64(i))
	}
	return powers
}

// canonical returns the remainder of n modulo prime.
func canonical(n uint64) uint64 {
	n = n&prime + n>>61
	if n >= prime {
		n -= prime
	}
	return n
}

// reduce returns a number that is congruent to a number of 124 bits modulo prime, and
// less than 2^61 + 5.
func reduce(high, low uint64) uint64 {
	n := low&prime + (high<<3 | low>>61)
	return n&prime + n>>61
}

// multiply returns the product of two numbers below 2^62 modulo prime.
func multiply(a, b uint64) uint64 { return canonical(reduce(bits.Mul64(a, b))) }

// power returns base to the power of n, modulo prime.
func power(base uint64, n int64) uint64 {
	result := uint64(1)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			result = multiply(result, base)
		}
		base = multiply(base, base)
	}
	return result
}

// appendHashes returns the polynomial of the rows of sum, followed by rows with hashes.
// It takes four rows at a time, since each step has to wait for the one before it.
func appendHashes(sum uint64, powers *[5]uint64, hashes []uint64) uint64 {
	for ; len(hashes) >= 4; hashes = hashes[4:] {
		high, low := bits.Mul64(sum, powers[4])
		for i, h := range hashes[:3] {
			productHigh, productLow := bits.Mul64(h&prime, powers[3-i])
			var carry uint64
			low, carry = bits.Add64(low, productLow, 0)
			high, _ = bits.Add64(high, productHigh, carry)
		}
		low, carry := bits.Add64(low, hashes[3]&prime, 0)
		sum = reduce(high+carry, low)
	}
	for _, h := range hashes {
		sum = multiply(sum, powers[1]) + h&prime
	}
	return canonical(sum)
}
