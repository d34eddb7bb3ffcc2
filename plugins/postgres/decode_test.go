package postgres

import (
	"encoding/binary"
	"testing"
)

// wireNumeric makes a numeric as the server sends it.
func wireNumeric(weight int16, sign uint16, digits ...uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(digits)))
	b = binary.BigEndian.AppendUint16(b, uint16(weight))
	b = binary.BigEndian.AppendUint16(b, sign)
	b = binary.BigEndian.AppendUint16(b, 0)
	for _, d := range digits {
		b = binary.BigEndian.AppendUint16(b, d)
	}
	return b
}

// FuzzNumeric holds the fast decoder against the plain one: they agree on every
// value and on what is none.
func FuzzNumeric(f *testing.F) {
	f.Add(wireNumeric(0, 0, 1), int8(2))
	f.Add(wireNumeric(2, numericNegative, 12, 3400, 1, 5000), int8(10))
	f.Add(wireNumeric(-2, 0, 100), int8(6))
	f.Add(wireNumeric(0, numericNaN), int8(0))
	f.Add(wireNumeric(9, 0, 9999, 9999, 9999), int8(0))
	f.Fuzz(func(t *testing.T, raw []byte, scale int8) {
		s := int32(scale) & 31
		a, err := decodeDecimal128(raw, 38, s)
		b, err2 := decodeDecimal256(raw, 38, s)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%x at %d: %v and %v", raw, s, err, err2)
		}
		if err == nil && a.ToString(s) != b.ToString(s) {
			t.Fatalf("%x at %d: %s and %s", raw, s, a.ToString(s), b.ToString(s))
		}
	})
}
