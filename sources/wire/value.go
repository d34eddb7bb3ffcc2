package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"

	"github.com/penstock-data/penstock/sources"
)

// value is a typed scalar on the wire: {"type":"int64","value":"5"}. NULL has no
// "value"; NULL without a type has neither.
type value struct{ sources.Value }

type valueJSON struct {
	Type  *dataType       `json:"type,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

func (v value) MarshalJSON() ([]byte, error) {
	var out valueJSON
	if v.Type != nil {
		out.Type = &dataType{v.Type}
	}
	if v.V == nil {
		return marshal(out)
	}
	shape := shapeOf(v.Type)
	var err error
	switch x := v.V.(type) {
	case sources.Digits:
		err = shape.want(numberShape, v)
		out.Value = strconv.AppendQuote(nil, string(x))
	case bool:
		err = shape.want(boolShape, v)
		out.Value = strconv.AppendBool(nil, x)
	case int64:
		err = shape.want(intShape, v)
		out.Value = strconv.AppendQuote(nil, strconv.FormatInt(x, 10))
	case uint64:
		err = shape.want(uintShape, v)
		out.Value = strconv.AppendQuote(nil, strconv.FormatUint(x, 10))
	case float64:
		err = shape.want(floatShape, v)
		out.Value = strconv.AppendQuote(nil, strconv.FormatFloat(x, 'g', -1, 64))
	case decimal128.Num:
		err = shape.want(decimalShape, v)
		out.Value = strconv.AppendQuote(nil, x.BigInt().String())
	case decimal256.Num:
		err = shape.want(wideShape, v)
		out.Value = strconv.AppendQuote(nil, x.BigInt().String())
	case string:
		if shape == bytesShape {
			out.Value, err = marshal(raw{Base64: []byte(x)})
		} else if err = shape.want(textShape, v); err == nil {
			out.Value, err = marshal(text(x))
		}
	default:
		err = fmt.Errorf("a value of Go type %T cannot be encoded", v.V)
	}
	if err != nil {
		return nil, err
	}
	return marshal(out)
}

func (v *value) UnmarshalJSON(b []byte) error {
	var in valueJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*v = value{}
	if in.Type != nil {
		v.Type = in.Type.DataType
	}
	if in.Value == nil || bytes.Equal(in.Value, []byte("null")) {
		return nil
	}
	shape := shapeOf(v.Type)
	switch shape {
	case noShape:
		return fmt.Errorf("a value has no type")
	case boolShape:
		var x bool
		err := json.Unmarshal(in.Value, &x)
		v.V = x
		return err
	}
	var s text
	if err := json.Unmarshal(in.Value, &s); err != nil {
		return err
	}
	if shape == numberShape {
		n, ok := sources.ParseNumber(string(s))
		if !ok {
			return fmt.Errorf("%q is not a number", shorten(string(s), 64))
		}
		v.V = n.V
		return nil
	}
	if shape == textShape || shape == bytesShape {
		v.V = string(s)
		return nil
	}
	x, err := parseNumber(string(s), shape, v.Type)
	v.V = x
	return err
}

// shape is the Go type of [sources.Value.V] for an Arrow type.
type shape uint8

const (
	noShape shape = iota
	boolShape
	intShape
	uintShape
	floatShape
	decimalShape
	wideShape
	textShape
	bytesShape
	numberShape
)

func (s shape) want(other shape, v value) error {
	if s != other {
		return fmt.Errorf("a value of type %v cannot be a Go %T", v.Type, v.V)
	}
	return nil
}

func shapeOf(t arrow.DataType) shape {
	if t == sources.Number {
		return numberShape
	}
	switch x := t.(type) {
	case nil:
		return noShape
	case arrow.ExtensionType:
		return shapeOf(x.StorageType())
	case *arrow.DictionaryType:
		return shapeOf(x.ValueType)
	}
	switch id := t.ID(); {
	case id == arrow.BOOL:
		return boolShape
	case arrow.IsSignedInteger(id):
		return intShape
	case arrow.IsUnsignedInteger(id):
		return uintShape
	case arrow.IsFloating(id):
		return floatShape
	case id == arrow.DECIMAL256:
		return wideShape
	case arrow.IsDecimal(id):
		return decimalShape
	case id == arrow.BINARY, id == arrow.LARGE_BINARY, id == arrow.FIXED_SIZE_BINARY:
		return bytesShape
	case id == arrow.DATE32, id == arrow.DATE64, id == arrow.TIME32, id == arrow.TIME64, id == arrow.TIMESTAMP, id == arrow.DURATION:
		return intShape
	}
	return textShape // also the text form of types that cannot be compared
}

// parseNumber parses a number that the type can represent.
func parseNumber(s string, shape shape, t arrow.DataType) (any, error) {
	bits := 64
	if f, ok := sources.ValueType(t).(arrow.FixedWidthDataType); ok {
		bits = f.BitWidth()
	}
	switch shape {
	case intShape:
		n, err := strconv.ParseInt(s, 10, bits)
		return n, err
	case uintShape:
		n, err := strconv.ParseUint(s, 10, bits)
		return n, err
	case floatShape:
		f, err := strconv.ParseFloat(s, 64)
		if err == nil && !math.IsNaN(f) && bits == 32 && float64(float32(f)) != f {
			err = fmt.Errorf("%s is not a %s", s, t)
		}
		return f, err
	}
	if len(s) > 80 {
		return nil, fmt.Errorf("a decimal has %d digits", len(s))
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return nil, fmt.Errorf("%q is not the unscaled integer of a decimal", s)
	}
	if n.BitLen() >= bits {
		return nil, fmt.Errorf("%s does not fit a %s", s, t)
	}
	if shape == wideShape {
		return decimal256.FromBigInt(n), nil
	}
	return decimal128.FromBigInt(n), nil
}
