package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/penstock-data/penstock/sources"
)

// dataType is an Arrow type on the wire: its name as in doc.go, which for an extension
// type is the name of its storage type. A type without a name,
// such as a list or a struct, is "arrow:" and a schema message with one
// field of that type in base64.
type dataType struct{ arrow.DataType }

const arrowPrefix = "arrow:"

var plainTypes = map[string]arrow.DataType{
	"null":         arrow.Null,
	"bool":         arrow.FixedWidthTypes.Boolean,
	"int8":         arrow.PrimitiveTypes.Int8,
	"int16":        arrow.PrimitiveTypes.Int16,
	"int32":        arrow.PrimitiveTypes.Int32,
	"int64":        arrow.PrimitiveTypes.Int64,
	"uint8":        arrow.PrimitiveTypes.Uint8,
	"uint16":       arrow.PrimitiveTypes.Uint16,
	"uint32":       arrow.PrimitiveTypes.Uint32,
	"uint64":       arrow.PrimitiveTypes.Uint64,
	"float16":      arrow.FixedWidthTypes.Float16,
	"float32":      arrow.PrimitiveTypes.Float32,
	"float64":      arrow.PrimitiveTypes.Float64,
	"utf8":         arrow.BinaryTypes.String,
	"large_utf8":   arrow.BinaryTypes.LargeString,
	"binary":       arrow.BinaryTypes.Binary,
	"large_binary": arrow.BinaryTypes.LargeBinary,
	"date32":       arrow.FixedWidthTypes.Date32,
	"date64":       arrow.FixedWidthTypes.Date64,
	"number":       sources.Number,
}

var plainNames = func() map[arrow.Type]string {
	m := make(map[arrow.Type]string, len(plainTypes))
	for name, t := range plainTypes {
		if t != sources.Number { // which has the ID of utf8
			m[t.ID()] = name
		}
	}
	return m
}()

var unitNames = [...]string{arrow.Second: "s", arrow.Millisecond: "ms", arrow.Microsecond: "us", arrow.Nanosecond: "ns"}

func (t dataType) name() (string, error) {
	if t.DataType == sources.Number {
		return "number", nil
	}
	switch t := t.DataType.(type) {
	case arrow.ExtensionType:
		return dataType{t.StorageType()}.name()
	case *arrow.DictionaryType:
	case *arrow.TimestampType:
		if strings.ContainsAny(t.TimeZone, "[]") {
			break
		}
		if t.TimeZone != "" {
			return "timestamp[" + unitNames[t.Unit] + ", " + t.TimeZone + "]", nil
		}
		return "timestamp[" + unitNames[t.Unit] + "]", nil
	case *arrow.Time32Type:
		return "time32[" + unitNames[t.Unit] + "]", nil
	case *arrow.Time64Type:
		return "time64[" + unitNames[t.Unit] + "]", nil
	case *arrow.DurationType:
		return "duration[" + unitNames[t.Unit] + "]", nil
	case *arrow.FixedSizeBinaryType:
		return fmt.Sprintf("binary[%d]", t.ByteWidth), nil
	case arrow.DecimalType:
		return fmt.Sprintf("decimal%d[%d, %d]", t.(arrow.FixedWidthDataType).BitWidth(), t.GetPrecision(), t.GetScale()), nil
	default:
		if name, ok := plainNames[t.ID()]; ok {
			return name, nil
		}
	}
	b, err := MarshalSchema(arrow.NewSchema([]arrow.Field{{Type: t.DataType, Nullable: true}}, nil))
	if err != nil {
		return "", err
	}
	return arrowPrefix + base64.StdEncoding.EncodeToString(b), nil
}

func (t dataType) MarshalJSON() ([]byte, error) {
	name, err := t.name()
	if err != nil {
		return nil, err
	}
	return json.Marshal(name)
}

func (t *dataType) UnmarshalJSON(b []byte) error {
	var name string
	if err := json.Unmarshal(b, &name); err != nil {
		return err
	}
	found, err := parseType(name)
	if err != nil {
		return err
	}
	t.DataType = found
	return nil
}

func parseType(name string) (arrow.DataType, error) {
	if t, ok := plainTypes[name]; ok {
		return t, nil
	}
	if b, ok := strings.CutPrefix(name, arrowPrefix); ok {
		return parseArrowType(b)
	}
	if base, args, ok := strings.Cut(name, "["); ok && strings.HasSuffix(args, "]") {
		first, second, two := strings.Cut(strings.TrimSuffix(args, "]"), ",")
		second = strings.TrimSpace(second)
		if t := parametric(base, first, second, two); t != nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("there is no type %q", shorten(name, 64))
}

// parametric parses a type with parameters. It returns nil for an unknown one.
func parametric(base, first, second string, two bool) arrow.DataType {
	unit := arrow.TimeUnit(-1)
	for u, name := range unitNames {
		if name == first {
			unit = arrow.TimeUnit(u)
		}
	}
	switch {
	case base == "timestamp" && unit >= 0 && two == (second != ""):
		return &arrow.TimestampType{Unit: unit, TimeZone: second}
	case base == "time32" && !two && (unit == arrow.Second || unit == arrow.Millisecond):
		return &arrow.Time32Type{Unit: unit}
	case base == "time64" && !two && (unit == arrow.Microsecond || unit == arrow.Nanosecond):
		return &arrow.Time64Type{Unit: unit}
	case base == "duration" && !two && unit >= 0:
		return &arrow.DurationType{Unit: unit}
	case base == "binary" && !two:
		if n, err := strconv.ParseInt(first, 10, 32); err == nil && n >= 0 {
			return &arrow.FixedSizeBinaryType{ByteWidth: int(n)}
		}
	case strings.HasPrefix(base, "decimal") && two:
		p, err1 := strconv.ParseInt(first, 10, 32)
		s, err2 := strconv.ParseInt(second, 10, 32)
		if err1 != nil || err2 != nil || p < 1 || s < -maxScale || s > maxScale {
			return nil
		}
		switch {
		case base == "decimal32" && p <= 9:
			return &arrow.Decimal32Type{Precision: int32(p), Scale: int32(s)}
		case base == "decimal64" && p <= 18:
			return &arrow.Decimal64Type{Precision: int32(p), Scale: int32(s)}
		case base == "decimal128" && p <= 38:
			return &arrow.Decimal128Type{Precision: int32(p), Scale: int32(s)}
		case base == "decimal256" && p <= 76:
			return &arrow.Decimal256Type{Precision: int32(p), Scale: int32(s)}
		}
	}
	return nil
}

// maxScale bounds a decimal's scale, since comparing decimals of different scales
// computes powers of ten.
const maxScale = 1 << 14

func parseArrowType(b64 string) (arrow.DataType, error) {
	b, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return nil, err
	}
	s, err := UnmarshalSchema(b)
	if err != nil {
		return nil, cause(err)
	}
	if s.NumFields() != 1 {
		return nil, fmt.Errorf("the schema of a type must have one field (got %d)", s.NumFields())
	}
	return s.Field(0).Type, nil
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return string(bytes.ToValidUTF8([]byte(s[:most]), nil)) + "..."
}
