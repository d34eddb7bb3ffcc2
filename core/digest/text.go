package digest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The prefixes of the texts, with the version of the format: the hashes of the same rows
// are only comparable within one version.
const (
	orderedPrefix  = "o1"
	anyOrderPrefix = "a1"
	binaryVersion  = 1
)

// binaryBytes is the length of the binary form: version, columns, rows and four words.
const binaryBytes = 1 + 8 + 8 + 4*8

// Ordered returns the form that two results share only if they have the same rows in the
// same order, except by a coincidence of one in 2^120. It is printable ASCII without
// spaces: the version, a hash of the columns, the number of rows, and their sum. The zero
// value has an empty text.
func (d Digest) Ordered() string { return d.text(orderedPrefix, d.ordered) }

// AnyOrder is like [Digest.Ordered], but two results with the same rows in different
// orders share it, too. Equal rows count: it covers how often each row occurs.
func (d Digest) AnyOrder() string { return d.text(anyOrderPrefix, d.anyOrder) }

func (d Digest) text(prefix string, sum [2]uint64) string {
	if d.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s:%016x:%d:%016x%016x", prefix, d.schema, d.rows, sum[1], sum[0])
}

// Parse returns the digest with the two texts that [Digest.Ordered] and
// [Digest.AnyOrder] returned.
func Parse(ordered, anyOrder string) (Digest, error) {
	if ordered == "" && anyOrder == "" {
		return Digest{}, nil
	}
	d, err := parse(orderedPrefix, ordered)
	if err != nil {
		return Digest{}, err
	}
	other, err := parse(anyOrderPrefix, anyOrder)
	if err != nil {
		return Digest{}, err
	}
	d.ordered, d.anyOrder = d.anyOrder, other.anyOrder
	if d.rows != other.rows || d.schema != other.schema {
		return Digest{}, errors.New("the digests are of different rows or columns")
	}
	return d, d.check()
}

// parse parses one text. The sum is in anyOrder.
func parse(prefix, text string) (d Digest, err error) {
	parts := strings.Split(text, ":")
	if parts[0] != prefix {
		return d, fmt.Errorf("the digest %.20q does not begin with %s: it is of another version of Penstock, or no digest of this kind", text, prefix)
	}
	if len(parts) == 4 && len(parts[1]) == 16 && len(parts[3]) == 32 {
		var err1, err2, err3, err4 error
		d.schema, err1 = strconv.ParseUint(parts[1], 16, 64)
		d.rows, err2 = strconv.ParseInt(parts[2], 10, 64)
		d.anyOrder[1], err3 = strconv.ParseUint(parts[3][:16], 16, 64)
		d.anyOrder[0], err4 = strconv.ParseUint(parts[3][16:], 16, 64)
		// A digest has one text only, so that texts can be compared.
		if errors.Join(err1, err2, err3, err4) == nil && d.text(prefix, d.anyOrder) == text {
			return d, nil
		}
	}
	return d, fmt.Errorf("the digest %.20q is damaged, or part of it is missing", text)
}

// errDamaged reports a value that no digest has.
var errDamaged = errors.New("the digest is damaged")

// check returns an error if d cannot be the digest of any rows.
func (d Digest) check() error {
	if d.rows < 0 || d.schema == 0 || d.ordered[0] >= prime || d.ordered[1] >= prime || d.rows == 0 && (d.ordered != [2]uint64{} || d.anyOrder != [2]uint64{}) {
		return errDamaged
	}
	return nil
}

// digestJSON is the JSON form of a digest.
type digestJSON struct {
	Ordered  string `json:"ordered"`
	AnyOrder string `json:"any_order"`
}

// MarshalJSON returns an object with the texts "ordered" and "any_order".
func (d Digest) MarshalJSON() ([]byte, error) {
	return json.Marshal(digestJSON{Ordered: d.Ordered(), AnyOrder: d.AnyOrder()})
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (d *Digest) UnmarshalJSON(text []byte) error {
	var texts digestJSON
	if err := json.Unmarshal(text, &texts); err != nil {
		return err
	}
	parsed, err := Parse(texts.Ordered, texts.AnyOrder)
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// OrderedSum returns the sum of [Digest.Ordered] without the rest of the text: 16 bytes.
func (d Digest) OrderedSum() (sum [16]byte) {
	binary.BigEndian.PutUint64(sum[:8], d.ordered[1])
	binary.BigEndian.PutUint64(sum[8:], d.ordered[0])
	return sum
}

// AppendBinary appends the digest in a binary form of fixed length, for tokens and files.
func (d Digest) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, binaryVersion)
	for _, n := range [...]uint64{d.schema, uint64(d.rows), d.ordered[0], d.ordered[1], d.anyOrder[0], d.anyOrder[1]} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b, nil
}

// MarshalBinary returns what AppendBinary appends.
func (d Digest) MarshalBinary() ([]byte, error) {
	return d.AppendBinary(make([]byte, 0, binaryBytes))
}

// UnmarshalBinary is the inverse of MarshalBinary.
func (d *Digest) UnmarshalBinary(b []byte) error {
	if len(b) != binaryBytes || b[0] != binaryVersion {
		return errDamaged
	}
	var words [6]uint64
	for i := range words {
		words[i] = binary.BigEndian.Uint64(b[1+8*i:])
	}
	if words[1] > math.MaxInt64 {
		return errDamaged
	}
	parsed := Digest{schema: words[0], rows: int64(words[1]), ordered: [2]uint64(words[2:4]), anyOrder: [2]uint64(words[4:6])}
	if err := parsed.check(); err != nil && !parsed.IsZero() {
		return err
	}
	*d = parsed
	return nil
}
