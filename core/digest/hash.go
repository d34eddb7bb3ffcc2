package digest

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// blockRows is how many rows are hashed at once, column by column. A block of them stays
// in the first-level cache of a processor.
const blockRows = 512

// block has the hashes of up to blockRows rows, of two independent lanes each. A column is
// folded into all of them before the next one.
type block struct{ a, b [blockRows]uint64 }

var blockPool = sync.Pool{New: func() any { return new(block) }}

func getBlock() *block  { return blockPool.Get().(*block) }
func putBlock(b *block) { blockPool.Put(b) }

// The constants of the hash are arbitrary, but part of the format: the lanes' initial
// state and multiplier, what stands for NULL, and what multiplies a length.
const (
	startA, startB   = 0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4
	mulA, mulB       = 0x53cb9f0c747ea2eb, 0xc584133ac916ab3d
	nullA, nullB     = 0xf88bb8a8724c81ec, 0x2c829abe1f4532e1
	lengthA, lengthB = 0x657eecdd3cb13d09, 0xc2d326e0055bdef7
)

// mix returns the state of a lane after a value. The product's high half makes every bit
// of the result depend on every bit of the state and of the value.
func mix(state, value, multiplier uint64) uint64 {
	high, low := bits.Mul64(state^value, multiplier)
	return high ^ low
}

// mix2 is mix with two values.
func mix2(state, first, second, multiplier uint64) uint64 {
	high, low := bits.Mul64(state^first, multiplier^second)
	return high ^ low
}

// reset begins n hashes.
func (b *block) reset(n int) {
	for i := range n {
		b.a[i], b.b[i] = startA, startB
	}
}

// finish returns the hash of a row from the state of its lanes. Without it, sums of
// hashes of rows whose values were exchanged could be equal.
func finish(a, b uint64) (uint64, uint64) {
	a += b
	b += a
	a, b = scramble(a), scramble(b)
	a += b
	b += a
	return a, b
}

// scramble is a permutation of the 64-bit numbers in which every bit of the result
// depends on every bit of n.
func scramble(n uint64) uint64 {
	n ^= n >> 33
	n *= 0xff51afd7ed558ccd
	n ^= n >> 33
	n *= 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}

// foldNull folds a NULL into the hash of row i.
func (b *block) foldNull(i int) {
	b.a[i], b.b[i] = mix(b.a[i], nullA, mulA), mix(b.b[i], nullB, mulB)
}

// foldHashes folds the hashes of n values of a nested column.
func (b *block) foldHashes(of *block, n int) {
	for i := range n {
		b.a[i], b.b[i] = mix(b.a[i], of.a[i], mulA), mix(b.b[i], of.b[i], mulB)
	}
}

// foldNumbers folds n values of up to 64 bits.
func foldNumbers[T uint8 | uint16 | uint32 | uint64](b *block, values []T, n int) {
	values = values[:n]
	as, bs := b.a[:n], b.b[:n]
	for i, v := range values {
		as[i], bs[i] = mix(as[i], uint64(v), mulA), mix(bs[i], uint64(v), mulB)
	}
}

// foldPairs folds n values of two words each.
func (b *block) foldPairs(words []uint64, n int) {
	words = words[:2*n]
	as, bs := b.a[:n], b.b[:n]
	for i := range as {
		first, second := words[2*i], words[2*i+1]
		as[i], bs[i] = mix2(as[i], first, second, mulA), mix2(bs[i], first, second, mulB)
	}
}

// foldQuads folds n values of four words each.
func (b *block) foldQuads(words []uint64, n int) {
	for i := range n {
		w := words[4*i : 4*i+4]
		x, y := mix2(b.a[i], w[0], w[1], mulA), mix2(b.b[i], w[0], w[1], mulB)
		b.a[i], b.b[i] = mix2(x, w[2], w[3], mulA), mix2(y, w[2], w[3], mulB)
	}
}

// foldBits folds n bits, from bit from on.
func (b *block) foldBits(bitmap []byte, from, n int) {
	for i := range n {
		v := uint64(bitmap[(from+i)/8]>>((from+i)%8)) & 1
		b.a[i], b.b[i] = mix(b.a[i], v, mulA), mix(b.b[i], v, mulB)
	}
}

// foldText folds n strings of bytes, each of which ends where the next one begins.
func foldText[O int32 | int64](b *block, data []byte, offsets []O, n int) {
	as, bs := b.a[:n], b.b[:n]
	offsets = offsets[:n+1]
	from := int(offsets[0])
	for i := range as {
		to := int(offsets[i+1])
		if length := to - from; uint(length) < uint(len(masks)) && from+16 <= len(data) {
			// Without a branch for each length: what follows the value is cut off.
			first := binary.LittleEndian.Uint64(data[from:]) & masks[length][0]
			second := binary.LittleEndian.Uint64(data[from+8:]) & masks[length][1]
			as[i] = mix2(as[i]^uint64(length)*lengthA, first, second, mulA)
			bs[i] = mix2(bs[i]^uint64(length)*lengthB, first, second, mulB)
		} else {
			as[i], bs[i] = mixBytes(as[i], bs[i], data[from:to])
		}
		from = to
	}
}

// masks has, for each length up to 16, which bits of two words are part of a value.
var masks = func() (masks [17][2]uint64) {
	for n := range masks {
		masks[n][0] = 1<<(8*min(n, 8)) - 1
		masks[n][1] = 1<<(8*max(n-8, 0)) - 1
	}
	return masks
}()

// mixBytes returns the state of both lanes after a value: its length, and two words at a
// time. The last two words of a longer value may overlap with those before them; those of
// a shorter one end with zeros.
func mixBytes(a, b uint64, value []byte) (uint64, uint64) {
	n := uint64(len(value))
	a, b = a^n*lengthA, b^n*lengthB
	var short [16]byte
	last := short[:]
	if n > 16 {
		for rest := value; len(rest) > 16; rest = rest[16:] {
			first, second := binary.LittleEndian.Uint64(rest), binary.LittleEndian.Uint64(rest[8:])
			a, b = mix2(a, first, second, mulA), mix2(b, first, second, mulB)
		}
		last = value[n-16:]
	} else {
		copy(last, value)
	}
	first, second := binary.LittleEndian.Uint64(last), binary.LittleEndian.Uint64(last[8:])
	return mix2(a, first, second, mulA), mix2(b, first, second, mulB)
}
