package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"

	"github.com/penstock-data/penstock/sources"
)

// formats returns the formats of the parameters, which are all binary.
func (b *statement) formats() []int16 {
	formats := make([]int16, len(b.values))
	for i := range formats {
		formats[i] = 1
	}
	return formats
}

func (b *statement) param(oid uint32, value []byte) string {
	b.values, b.oids = append(b.values, value), append(b.oids, oid)
	return "$" + strconv.Itoa(len(b.values))
}

// cast returns a value of the type, from a parameter that is sent in the type's own binary
// format, or as text.
func (w wireType) cast(param string) string {
	switch {
	case w.input != "":
		return w.input + "(pg_catalog.textout(" + param + "::pg_catalog.text))"
	case w.own != nil:
		return param + "::pg_catalog.text::" + w.name
	}
	return param + "::" + w.name
}

// arrayParam adds a parameter with an array of values of a column, in one of its wire types.
func (b *statement) arrayParam(c *column, wire wireType, values []sources.Value) (string, error) {
	oid, cast := wire.param()
	nulls := uint32(0)
	var body []byte
	for _, v := range values {
		raw, err := encode(c, wire, v)
		switch {
		case errors.Is(err, errEqualsNothing):
			raw = nil // predicate removes such values of In
		case err != nil:
			return "", err
		}
		if raw == nil {
			nulls = 1
			body = binary.BigEndian.AppendUint32(body, math.MaxUint32)
			continue
		}
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(raw))), raw...)
	}
	head := binary.BigEndian.AppendUint32(nil, 1)
	if len(values) == 0 {
		head = binary.BigEndian.AppendUint32(nil, 0)
	}
	head = binary.BigEndian.AppendUint32(head, nulls)
	head = binary.BigEndian.AppendUint32(head, oid)
	if len(values) > 0 {
		head = binary.BigEndian.AppendUint32(head, uint32(len(values)))
		head = binary.BigEndian.AppendUint32(head, 1)
	}
	// With OID 0, the cast determines the type of the parameter.
	s := b.param(0, append(head, body...)) + "::" + cast + "[]"
	if cast != wire.name && !wire.single {
		s += "::" + wire.name + "[]"
	}
	return s, nil
}

// equalsAny returns a condition that the column equals an element of an array.
func (c *column) equalsAny(array string) string {
	if c.equalWire.single {
		array = "SELECT " + c.equalWire.cast("x") + " FROM pg_catalog.unnest(" + array + ") AS x"
	}
	return c.equalExpr + c.equalWire.operator(sources.OpEq) + "ANY(" + array + ")"
}

// param returns the type in which values are sent. Numerics are sent as text, which is
// exact, and so are types that are compared by their own operators.
func (w wireType) param() (oid uint32, cast string) {
	if w.oid == oidNumeric || w.own != nil {
		return oidText, "pg_catalog.text"
	}
	return w.oid, w.name
}

// scalarParam adds a parameter with one value, which must not be NULL.
func (b *statement) scalarParam(wire wireType, raw []byte) string {
	if wire.own != nil {
		return wire.cast(b.param(oidText, raw))
	}
	oid, cast := wire.param()
	s := b.param(oid, raw) + "::" + cast
	if cast != wire.name {
		s += "::" + wire.name
	}
	return s
}

// errEqualsNothing is the error for a literal that the column's type cannot hold, so that
// no value equals it: a text with a zero byte, or a label that an enum does not have.
var errEqualsNothing = errors.New("a value that the type of the column cannot hold")

// encode returns a literal for a column in the format of a wire type. The result is nil if
// and only if the literal is NULL.
func encode(c *column, wire wireType, v sources.Value) ([]byte, error) {
	if v.IsNull() {
		return nil, nil
	}
	out := []byte{}
	switch x := v.V.(type) {
	case bool:
		if x {
			return append(out, 1), nil
		}
		return append(out, 0), nil
	case int64:
		switch wire.oid {
		case oidInt2:
			return binary.BigEndian.AppendUint16(out, uint16(x)), nil
		case oidInt4:
			return binary.BigEndian.AppendUint32(out, uint32(x)), nil
		case oidDate:
			return binary.BigEndian.AppendUint32(out, uint32(encodeDate(x))), nil
		case oidTimestamp, oidTimestamptz:
			return binary.BigEndian.AppendUint64(out, uint64(encodeTimestamp(x))), nil
		case oidTime:
			if x < 0 || x > dayMicros {
				return nil, fmt.Errorf("column %q: %d microseconds is not a time of day", c.name, x)
			}
		}
		return binary.BigEndian.AppendUint64(out, uint64(x)), nil
	case float64:
		if wire.oid == oidFloat4 {
			return binary.BigEndian.AppendUint32(out, math.Float32bits(float32(x))), nil
		}
		return binary.BigEndian.AppendUint64(out, math.Float64bits(x)), nil
	case sources.Digits:
		if !c.holdsNumber(x) {
			return nil, errEqualsNothing
		}
		return append(out, x...), nil
	case decimal128.Num:
		return append(out, x.ToString(v.Type.(arrow.DecimalType).GetScale())...), nil
	case decimal256.Num:
		return append(out, x.ToString(v.Type.(arrow.DecimalType).GetScale())...), nil
	case string:
		switch {
		case wire.oid == oidUUID && len(x) != 16:
			return nil, fmt.Errorf("column %q: a UUID must have 16 bytes (got %d)", c.name, len(x))
		case wire.text && !utf8.ValidString(x):
			return nil, fmt.Errorf("column %q: the text %q is not valid UTF-8", c.name, x)
		case wire.text && strings.IndexByte(x, 0) >= 0:
			return nil, errEqualsNothing
		case wire.own != nil && c.codec.labels != nil:
			if _, ok := c.codec.labels[x]; !ok {
				return nil, errEqualsNothing
			}
		}
		return append(out, x...), nil
	}
	return nil, fmt.Errorf("column %q: a literal of type %s is not supported", c.name, v.Type)
}

// PostgreSQL's dates and timestamps have a smaller range than Arrow's. Values outside of
// it are encoded as infinities, which compare in the same way with all readable values.
func encodeDate(days int64) int32 {
	switch d := days - epochDays; {
	case d < -2451545:
		return math.MinInt32
	case d >= 2147483494-2451545:
		return math.MaxInt32
	default:
		return int32(d)
	}
}

func encodeTimestamp(micros int64) int64 {
	const first, end = -211813488000000000, 9223371331200000000
	switch {
	case micros < first+epochMicros:
		return math.MinInt64
	case micros-epochMicros >= end:
		return math.MaxInt64
	}
	return micros - epochMicros
}
