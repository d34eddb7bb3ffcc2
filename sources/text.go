package sources

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// ParseUUID returns the 16 bytes of a UUID that is written as 32 hexadecimal digits in
// upper or lower case, either without dashes or as 8-4-4-4-12. It returns false for
// other text.
func ParseUUID(s string) (id [16]byte, ok bool) {
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	if len(s) != 32 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil
}

// AppendUUID appends the text of a UUID, which has 16 bytes: lower case, as 8-4-4-4-12.
func AppendUUID(dst, id []byte) []byte {
	dst = hex.AppendEncode(dst, id[:4])
	dst = hex.AppendEncode(append(dst, '-'), id[4:6])
	dst = hex.AppendEncode(append(dst, '-'), id[6:8])
	dst = hex.AppendEncode(append(dst, '-'), id[8:10])
	return hex.AppendEncode(append(dst, '-'), id[10:16])
}

// DescribeValue returns a value of a column, or a literal that is compared with it, for
// display. It is [Value.String], except that the metadata of the column counts: UUIDs
// have their usual form.
func DescribeValue(f arrow.Field, v Value) string {
	if id, ok := v.V.(string); ok && len(id) == 16 && isBinary(v.Type) && IsUUID(f) {
		return string(AppendUUID(nil, []byte(id)))
	}
	return v.String()
}

// DescribePredicate returns a predicate on rows of a schema for display: its String, with
// literals as [DescribeValue]. It is empty for nil.
func DescribePredicate(p Predicate, schema *arrow.Schema) string {
	text := func(column string, v Value) string {
		if i := schema.FieldIndices(column); len(i) > 0 {
			return DescribeValue(schema.Field(i[0]), v)
		}
		return v.String()
	}
	list := func(terms []Predicate, separator, empty string) string {
		return junction(terms, separator, empty, func(p Predicate) string { return DescribePredicate(p, schema) })
	}
	switch p := p.(type) {
	case nil:
		return ""
	case Comparison:
		return fmt.Sprintf("%s %s %s", p.Column, p.Op, text(p.Column, p.Value))
	case In:
		values := make([]string, len(p.Values))
		for i, v := range p.Values {
			values[i] = text(p.Column, v)
		}
		return p.Column + " in (" + strings.Join(values, ", ") + ")"
	case And:
		return list(p, " and ", "true")
	case Or:
		return list(p, " or ", "false")
	case Not:
		return "not (" + DescribePredicate(p.Predicate, schema) + ")"
	}
	return p.String()
}
